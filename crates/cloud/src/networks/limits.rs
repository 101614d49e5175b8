//! Bandwidth limits of networks and containers, changed while they run.

use weft_base::chain;
use weft_model::{Labels, NetworkKind, PortId, RateLimit};

use crate::{Action, Caller, Cloud, CloudError, Kind, Result};

/// Whose limit, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitView {
    /// `network` or `container`.
    pub kind: &'static str,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The limit.
    pub limit: RateLimit,
}

/// A wish for a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitChange {
    /// What is there goes first.
    pub clear: bool,
    /// What comes; a direction without a rate stays as it is.
    pub limit: RateLimit,
}

/// What options and labels of a new network ask for; an option wins.
pub(super) fn asked(options: &Labels, labels: &Labels, kind: NetworkKind) -> Result<RateLimit> {
    let read = |from| RateLimit::from_labels(from).map_err(|e| CloudError::Invalid(e.to_string()));
    let limit = read(options)?.or(read(labels)?);
    possible(limit, kind)?;
    Ok(limit)
}

fn possible(limit: RateLimit, kind: NetworkKind) -> Result<()> {
    if limit.is_empty() || kind == NetworkKind::Bridge {
        return Ok(());
    }
    Err(CloudError::Invalid("bandwidth limits are for bridge networks and containers on them".into()))
}

impl Cloud {
    /// The limit of the network or container that `text` means.
    pub async fn limit_view(&self, caller: &Caller, text: &str) -> Result<LimitView> {
        let network = match self.network_find(caller, text).await {
            Ok(network) => Some(network),
            Err(CloudError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let container = match self.container_find(caller, text).await {
            Ok(container) => Some(container),
            Err(CloudError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        match (network, container) {
            (Some(network), None) => Ok(LimitView {
                kind: "network",
                id: network.spec.id.to_string(),
                name: network.spec.name.to_string(),
                limit: network.spec.limit,
            }),
            (None, Some(container)) => Ok(LimitView {
                kind: "container",
                id: container.spec.id.to_string(),
                name: container.spec.name.to_string(),
                limit: container.spec.limit,
            }),
            (Some(_), Some(_)) => Err(CloudError::Conflict(format!(
                "{text} is both a network and a container: use the id of the one that is meant"
            ))),
            (None, None) => Err(CloudError::Missing(format!("No such network or container: {text}"))),
        }
    }

    /// All limits there are, of what the caller sees.
    pub async fn limit_list(&self, caller: &Caller) -> Result<Vec<LimitView>> {
        let networks = self.0.networks.list_shared().await?;
        let containers = self.0.containers.list_shared().await?;
        let networks =
            networks.iter().filter(|n| n.spec.predefined || caller.sees(n.meta.project)).map(|n| {
                let (id, name) = (n.spec.id.to_string(), n.spec.name.to_string());
                LimitView { kind: "network", id, name, limit: n.spec.limit }
            });
        let containers = containers.iter().filter(|c| caller.sees(c.meta.project)).map(|c| {
            let (id, name) = (c.spec.id.to_string(), c.spec.name.to_string());
            LimitView { kind: "container", id, name, limit: c.spec.limit }
        });
        Ok(networks.chain(containers).filter(|view| !view.limit.is_empty()).collect())
    }

    /// Changes a limit; answers when the kernel has it. What the kernel cannot do is taken back.
    pub async fn limit_change(&self, caller: &Caller, text: &str, change: LimitChange) -> Result<LimitView> {
        let mut view = self.limit_view(caller, text).await?;
        let old = view.limit;
        view.limit = change.limit.or(if change.clear { RateLimit::default() } else { old });
        self.limit_write(caller, &view).await?;
        if let Err(failed) = self.limit_ready(&view).await {
            self.limit_write(caller, &LimitView { limit: old, ..view }).await?;
            return Err(failed);
        }
        Ok(view)
    }

    async fn limit_write(&self, caller: &Caller, view: &LimitView) -> Result<()> {
        if view.kind == "network" {
            let found = self.network_find(caller, &view.id).await?;
            // The predefined networks are the host's own.
            let action = if found.spec.predefined { Action::Host } else { Action::Write };
            caller.authorise(action, found.meta.project)?;
            possible(view.limit, found.spec.kind)?;
            let write = self.0.networks.update(&view.id, |network| {
                let changed = network.spec.limit != view.limit;
                network.spec.limit = view.limit;
                network.meta.generation += u64::from(changed);
                changed
            });
            write.await.map_err(|error| gone(error, Kind::Network, &view.name))?;
        } else {
            let found = self.container_find(caller, &view.id).await?;
            caller.authorise(Action::Write, found.meta.project)?;
            let write = self.0.containers.update(&view.id, |container| {
                let changed = container.spec.limit != view.limit;
                container.spec.limit = view.limit;
                container.meta.generation += u64::from(changed);
                changed
            });
            let stored = write.await.map_err(|error| gone(error, Kind::Container, &view.name))?;
            self.engine().events().container(&stored, "update", []);
        }
        Ok(())
    }

    async fn limit_ready(&self, view: &LimitView) -> Result<()> {
        let ports = self.0.ports.list_shared().await?;
        let concerned = |p: &weft_model::PortSpec| {
            let weft_model::PortOwner::Container(owner) = p.owner;
            p.network.to_string() == view.id || owner.to_string() == view.id
        };
        let ports: Vec<PortId> = ports.iter().filter(|p| concerned(&p.spec)).map(|p| p.spec.id).collect();
        let done = self.0.parts.net.ports_ready(&ports).await;
        done.map_err(|error| CloudError::Unsupported(chain(&error)))
    }
}

fn gone(error: weft_store::StoreError, kind: Kind, name: &str) -> CloudError {
    if error.conflict().is_some() { CloudError::not_found(kind, name) } else { error.into() }
}
