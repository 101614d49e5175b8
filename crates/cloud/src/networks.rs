//! Use cases around networks; the ports of containers on them are in `ports`.

mod ensure;
mod limits;
mod ports;
mod set;
mod settings;

pub use ensure::ensure_networks;
pub use limits::{LimitChange, LimitView};

use std::{collections::HashMap, sync::Arc};

use weft_base::chain;
use weft_model::{
    ContainerId, EventKind, Labels, Network, NetworkId, NetworkKind, NetworkMode, NetworkSpec, Port,
    PortOwner,
};
use weft_net::{ErrorClass, NetError, NetworkDraft, check_bridge_name, resolve_network, warn_of_routes};
use weft_store::{Conflict, IndexKey, StoreError, Stored, Txn};

use crate::{Action, Caller, Cloud, CloudError, Kind, Result};

/// A network and who is on it.
#[derive(Clone, Debug)]
pub struct NetworkView {
    /// The network.
    pub network: Arc<Network>,
    /// Its ports, with the names of their containers.
    pub ports: Vec<(Arc<Port>, String)>,
    /// Running containers that are on it without a port, with their names: of `host` those that use the host's own stack, of
    /// `none` those with loopback alone.
    pub portless: Vec<(ContainerId, String)>,
}

/// Refusals of the network side.
pub(crate) fn error(error: NetError) -> CloudError {
    let text = chain(&error);
    match error.class() {
        ErrorClass::Invalid => CloudError::Invalid(text),
        ErrorClass::Forbidden => CloudError::Forbidden(text),
        ErrorClass::NotFound => CloudError::Missing(text),
        ErrorClass::Unsupported => CloudError::Unsupported(text),
        ErrorClass::Internal => CloudError::Internal(text),
    }
}

impl Cloud {
    /// The network that `text` means: its id, its name, or the beginning of its id.
    pub(crate) async fn network_find(&self, caller: &Caller, text: &str) -> Result<Stored<Network>> {
        let missing = || CloudError::not_found(Kind::Network, text);
        if text.is_empty() {
            return Err(missing());
        }
        let networks = self.0.networks.list_shared().await?;
        let mine = || networks.iter().filter(|n| n.spec.predefined || caller.sees(n.meta.project));
        if let Some(found) = mine().find(|n| n.spec.id.to_string() == text) {
            return Ok(found.clone());
        }
        if let Some(found) = mine().find(|n| n.spec.name.as_str() == text) {
            return Ok(found.clone());
        }
        let fitting: Vec<_> = mine().filter(|n| n.spec.id.to_string().starts_with(text)).collect();
        match &fitting[..] {
            [] => Err(missing()),
            [one] => Ok((*one).clone()),
            many => Err(CloudError::Invalid(format!(
                "network {text} is ambiguous ({} matches found based on ID prefix)",
                many.len()
            ))),
        }
    }

    pub(crate) async fn network_by_id(&self, id: NetworkId) -> Result<Stored<Network>> {
        self.0.networks.get(&id).await?.ok_or_else(|| CloudError::not_found(Kind::Network, id.to_string()))
    }

    /// Makes a network; also answers what is to be said of it.
    pub async fn network_create(
        &self,
        caller: &Caller,
        mut draft: NetworkDraft,
        labels: Labels,
    ) -> Result<(Arc<Network>, Vec<String>)> {
        caller.authorise(Action::Write, caller.project)?;
        if draft.bridge.is_some() || !draft.parent.link.is_empty() {
            caller.authorise(Action::Host, caller.project)?;
        }
        if matches!(draft.name.as_str(), "bridge" | "host" | "none" | "default") {
            return Err(CloudError::Forbidden(format!(
                "operation is not permitted on predefined {} network",
                draft.name
            )));
        }
        let _turn = self.0.hints.turn().await;
        let existing = self.0.networks.list_shared().await?;
        if existing.iter().any(|n| n.spec.name == draft.name) {
            return Err(CloudError::Conflict(format!("network with name {} already exists", draft.name)));
        }
        if !draft.config_from.is_empty() {
            self.network_settings(caller, &draft.config_from).await?;
        }
        if let Some(bridge) = draft.bridge.as_ref().filter(|_| !draft.config_only) {
            check_bridge_name(bridge)?;
            draft.foreign = self.0.parts.net.foreign_bridge(bridge).await?;
        }
        let specs: Vec<&NetworkSpec> = existing.iter().map(|n| &n.spec).collect();
        let routes = self.0.parts.net.host_routes().await?;
        let mut spec = resolve_network(&draft, &specs, &routes, &self.0.parts.pools)?;
        spec.limit = limits::asked(&draft.options, &labels, spec.kind)?;
        self.0.parts.net.uplink_possible(&spec).await?;
        let warnings = warn_of_routes(&spec, &routes);
        let id = spec.id;
        let network = Network::new(caller.project, self.now(), labels, spec);
        let index = IndexKey::of::<Network>(&network.spec.name);
        Txn::new(self.stores()).claim(&index, &id).create(&network).commit().await?;
        if let Err(failed) = self.0.parts.net.network_ready(id).await {
            // What the data plane could not make is not a network: nothing of it stays.
            let undone = Txn::new(self.stores()).release(&index, &id).delete::<Network>(&id).commit().await;
            if let Err(error) = undone {
                tracing::error!(%error, network = %network.spec.name, "a network that failed could not be taken back");
            }
            return Err(failed.into());
        }
        self.network_event(&network, "create", None);
        Ok((Arc::new(network), warnings))
    }

    fn network_event(&self, network: &Network, action: &str, container: Option<ContainerId>) {
        self.engine().events().network(network, action, container);
    }

    /// All networks the caller sees.
    pub async fn network_list(&self, caller: &Caller) -> Result<Vec<NetworkView>> {
        let networks = self.0.networks.list_shared().await?;
        let ports = self.0.ports.list_shared().await?;
        let containers = self.0.containers.list_shared().await?;
        let names: HashMap<ContainerId, String> =
            containers.iter().map(|c| (c.spec.id, c.spec.name.to_string())).collect();
        let portless = |kind: NetworkKind| {
            let mode = match kind {
                NetworkKind::Host => NetworkMode::Host,
                NetworkKind::None => NetworkMode::None,
                _ => return Vec::new(),
            };
            let there = containers.iter().filter(|c| c.spec.network == mode && c.status.state.is_alive());
            there.map(|c| (c.spec.id, c.spec.name.to_string())).collect()
        };
        let on = |id: NetworkId| {
            ports
                .iter()
                .filter(|p| p.spec.network == id)
                .map(|p| {
                    let PortOwner::Container(owner) = p.spec.owner;
                    (Arc::clone(&p.value), names.get(&owner).cloned().unwrap_or_default())
                })
                .collect()
        };
        Ok(networks
            .iter()
            .filter(|n| n.spec.predefined || caller.sees(n.meta.project))
            .map(|n| NetworkView {
                network: Arc::clone(&n.value),
                ports: on(n.spec.id),
                portless: portless(n.spec.kind),
            })
            .collect())
    }

    /// One network with its ports.
    pub async fn network_view(&self, caller: &Caller, name: &str) -> Result<NetworkView> {
        let found = self.network_find(caller, name).await?;
        let all = self.network_list(caller).await?;
        let view = all.into_iter().find(|v| v.network.spec.id == found.spec.id);
        view.ok_or_else(|| CloudError::not_found(Kind::Network, name))
    }

    /// Removes a network that nothing is attached to.
    pub async fn network_remove(&self, caller: &Caller, name: &str) -> Result<()> {
        loop {
            let found = self.network_find(caller, name).await?;
            if self.network_remove_at(caller, &found).await? {
                return Ok(());
            }
        }
    }

    /// `false` when its status was written in between, or somebody joined it: then it has to be looked at again.
    async fn network_remove_at(&self, caller: &Caller, found: &Stored<Network>) -> Result<bool> {
        caller.authorise(Action::Write, found.meta.project)?;
        let shown = found.spec.name.to_string();
        if found.spec.predefined {
            return Err(CloudError::Forbidden(format!(
                "{shown} is a pre-defined network and cannot be removed"
            )));
        }
        // In a turn, so that nothing is made from these settings meanwhile.
        let settings = found.spec.kind == NetworkKind::Config;
        let _turn = if settings { Some(self.0.hints.turn().await) } else { None };
        self.settings_unused(found).await?;
        let view = self.network_view(caller, &found.spec.id.to_string()).await?;
        if !view.ports.is_empty() {
            let names: Vec<String> = view
                .ports
                .iter()
                .map(|(port, name)| format!("name:\"{name}\" id:\"{}\"", port.spec.id.short()))
                .collect();
            return Err(CloudError::Forbidden(format!(
                "error while removing network: network {shown} has active endpoints ({})",
                names.join(", ")
            )));
        }
        let id = found.spec.id;
        let done = Txn::new(self.stores())
            .release(&IndexKey::of::<Network>(&found.spec.name), &id)
            .delete_at::<Network>(&id, found.revision)
            .commit()
            .await;
        if unless_raced(done)?.is_none() {
            return Ok(false);
        }
        self.0.parts.net.network_gone(id).await?;
        self.0.hints.forget(id);
        self.network_event(found, "destroy", None);
        Ok(true)
    }

    /// Removes the networks that people made, nothing uses, and that pass `chosen`; answers their names.
    pub async fn network_prune(
        &self,
        caller: &Caller,
        chosen: impl Fn(&Network) -> bool + Send + Sync,
    ) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for view in self.network_list(caller).await? {
            let kept = view.network.spec.predefined || view.network.spec.kind == NetworkKind::Config;
            if kept || !view.ports.is_empty() || !chosen(&view.network) {
                continue;
            }
            let name = view.network.spec.name.to_string();
            match self.network_remove(caller, &view.network.spec.id.to_string()).await {
                Ok(()) => names.push(name),
                Err(CloudError::Forbidden(_) | CloudError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let attributes = [("reclaimed".to_owned(), "0".to_owned())].into();
        self.engine().events().emit(EventKind::Network, "prune", "", caller.project, attributes);
        Ok(names)
    }
}

/// `None` when a record was changed or removed since it was read: then the whole is decided anew.
fn unless_raced<T>(done: std::result::Result<T, StoreError>) -> Result<Option<T>> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(StoreError::Conflict { reason: Conflict::Changed { .. } | Conflict::Missing, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
