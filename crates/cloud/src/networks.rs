//! Use cases around networks and the ports of containers on them.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use weft_base::{Clock, SystemClock, chain};
use weft_model::{
    Attachment, Container, ContainerId, EventKind, Labels, Network, NetworkId, NetworkKind, NetworkMode,
    NetworkSpec, Port, PortId, PortOwner, PortSpec, RunState, default_project,
};
use weft_net::{
    ErrorClass, KernelSockets, NetError, NetworkDraft, Pools, PortContext, PredefinedConfig, Turn,
    WildcardV6, build_ports, connect_port, disconnect_ports, ensure_predefined, host_routes, resolve_network,
};
use weft_store::{Conflict, IndexKey, Kv, StoreError, Stored, Table, Txn};

use crate::{Action, Caller, Cloud, CloudError, DraftEndpoint, Kind, Result};

/// A network and who is on it.
#[derive(Clone, Debug)]
pub struct NetworkView {
    /// The network.
    pub network: Arc<Network>,
    /// Its ports, with the names of their containers.
    pub ports: Vec<(Arc<Port>, String)>,
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

/// Writes the networks that are always there, new or as configuration now wants them.
pub async fn ensure_networks(kv: &Arc<dyn Kv>, config: &PredefinedConfig, pools: &Pools) -> Result<()> {
    let table = Table::<Network>::new(Arc::clone(kv));
    let existing = table.list().await?;
    let specs: Vec<&NetworkSpec> = existing.iter().map(|n| &n.spec).collect();
    for spec in ensure_predefined(config, &specs, &host_routes(), pools)? {
        match existing.iter().find(|n| n.spec.id == spec.id) {
            Some(known) if known.spec == spec => {}
            Some(known) => {
                let mut network = Network::clone(known);
                network.spec = spec;
                network.meta.generation += 1;
                table.replace(&network, known.revision).await?;
            }
            None => {
                let id = spec.id;
                let network = Network::new(default_project(), SystemClock.now(), Labels::new(), spec);
                let index = IndexKey::of::<Network>(&network.spec.name);
                Txn::new(kv).claim(&index, &id).create(&network).commit().await?;
            }
        }
    }
    Ok(())
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
        let mut fitting = mine().filter(|n| n.spec.id.to_string().starts_with(text));
        match (fitting.next(), fitting.next()) {
            (Some(one), None) => Ok(one.clone()),
            (Some(_), Some(_)) => Err(CloudError::Invalid(format!(
                "network {text} is ambiguous (2 matches found based on ID prefix)"
            ))),
            (None, _) => Err(missing()),
        }
    }

    pub(crate) async fn network_by_id(&self, id: NetworkId) -> Result<Stored<Network>> {
        self.0.networks.get(&id).await?.ok_or_else(|| CloudError::not_found(Kind::Network, id.to_string()))
    }

    /// Makes a network.
    pub async fn network_create(
        &self,
        caller: &Caller,
        draft: NetworkDraft,
        labels: Labels,
    ) -> Result<Arc<Network>> {
        caller.authorise(Action::Write, caller.project)?;
        if draft.bridge.is_some() {
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
        let specs: Vec<&NetworkSpec> = existing.iter().map(|n| &n.spec).collect();
        let routes = self.0.parts.net.host_routes().await?;
        let spec = resolve_network(&draft, &specs, &routes, &self.0.parts.pools)?;
        let id = spec.id;
        let network = Network::new(caller.project, self.now(), labels, spec);
        let index = IndexKey::of::<Network>(&network.spec.name);
        Txn::new(self.kv()).claim(&index, &id).create(&network).commit().await?;
        if let Err(failed) = self.0.parts.net.network_ready(id).await {
            // What the data plane could not make is not a network: nothing of it stays.
            let undone = Txn::new(self.kv()).release(&index, &id).delete::<Network>(&id).commit().await;
            if let Err(error) = undone {
                tracing::error!(%error, network = %network.spec.name, "a network that failed could not be taken back");
            }
            return Err(failed.into());
        }
        self.network_event(&network, "create", None);
        Ok(Arc::new(network))
    }

    fn network_event(&self, network: &Network, action: &str, container: Option<ContainerId>) {
        self.engine().events().network(network, action, container);
    }

    /// All networks the caller sees.
    pub async fn network_list(&self, caller: &Caller) -> Result<Vec<NetworkView>> {
        let networks = self.0.networks.list_shared().await?;
        let ports = self.0.ports.list_shared().await?;
        let names: HashMap<ContainerId, String> = self
            .0
            .containers
            .list_shared()
            .await?
            .iter()
            .map(|c| (c.spec.id, c.spec.name.to_string()))
            .collect();
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
            .map(|n| NetworkView { network: Arc::clone(&n.value), ports: on(n.spec.id) })
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
        let done = Txn::new(self.kv())
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
            if view.network.spec.predefined || !view.ports.is_empty() || !chosen(&view.network) {
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

    /// Attaches a container, running or not, to a further network.
    pub async fn network_connect(
        &self,
        caller: &Caller,
        network: &str,
        container: &str,
        wishes: DraftEndpoint,
    ) -> Result<()> {
        let network = self.network_find(caller, network).await?;
        let found = self.container_find(caller, container).await?;
        caller.authorise(Action::Write, found.meta.project)?;
        let shown = network.spec.name.to_string();
        let conflict = match network.spec.kind {
            NetworkKind::Host => {
                Some("container cannot be disconnected from host network or connected to host network")
            }
            NetworkKind::None => Some(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            ),
            _ => None,
        };
        if let Some(text) = conflict {
            return Err(CloudError::Forbidden(text.into()));
        }
        match found.spec.network {
            NetworkMode::Host => {
                return Err(CloudError::Forbidden("container sharing network namespace with another container or host cannot be connected to any other network".into()));
            }
            NetworkMode::Container(_) => {
                return Err(CloudError::Forbidden("container sharing network namespace with another container or host cannot be connected to any other network".into()));
            }
            NetworkMode::None | NetworkMode::Attached => {}
        }
        if matches!(found.status.state, RunState::Removing | RunState::Dead) {
            return Err(CloudError::Forbidden(format!(
                "container {} is marked for removal and cannot be connected or disconnected to the network",
                found.spec.id
            )));
        }
        let attachment = wishes.attachment(network.spec.id, &shown);
        self.attachment_check(&network, &attachment)?;
        if found.spec.attachments.iter().any(|a| a.network == network.spec.id) {
            return Err(CloudError::Forbidden(format!(
                "endpoint with name {} already exists in network {shown}",
                found.spec.name
            )));
        }
        self.attach(&found, attachment).await?;
        // One that rests is connected at its start, and that is told then.
        if found.status.state.is_alive() {
            self.network_event(&network, "connect", Some(found.spec.id));
        }
        Ok(())
    }

    /// `found` is read again for as long as somebody writes a status in between.
    async fn attach(&self, found: &Stored<Container>, attachment: Attachment) -> Result<()> {
        let id = found.spec.id;
        let mut found = found.clone();
        let made = loop {
            if let Some(made) = self.attach_once(&found, &attachment).await? {
                break made;
            }
            let again = self.0.containers.get(&id).await?;
            found = again.ok_or_else(|| CloudError::not_found(Kind::Container, id.to_string()))?;
            if found.spec.attachments.iter().any(|a| a.network == attachment.network) {
                // Somebody else attached it in the meantime.
                break Vec::new();
            }
        };
        if let Err(failed) = self.0.parts.net.ports_ready(&made).await {
            self.detach(id, attachment.network).await?;
            return Err(failed.into());
        }
        if found.status.state.is_alive() {
            self.engine().refresh_names(id).await?;
        }
        Ok(())
    }

    /// The ports to wait for; `None` when what was read is not so any more.
    async fn attach_once(
        &self,
        found: &Stored<Container>,
        attachment: &Attachment,
    ) -> Result<Option<Vec<PortId>>> {
        let turn = self.0.hints.turn().await;
        let mut container = Container::clone(found);
        container.spec.attachments.push(attachment.clone());
        container.spec.network = NetworkMode::Attached;
        container.meta.generation += 1;
        let mut txn = Txn::new(self.kv()).update(&container, found.revision);
        let mut made = Vec::new();
        if found.status.state.is_alive() {
            let ports = self.ports_of(found.spec.id).await?;
            let specs: Vec<PortSpec> = ports.iter().map(|p| p.spec.clone()).collect();
            let gathered = self.gather().await?;
            let all =
                gathered.with(self, &turn, &[], |c| connect_port(&container.spec, attachment, &specs, c))?;
            if let Some(all) = all {
                (txn, made) = self.write_ports(txn, &container, &ports, all);
            }
        }
        Ok(unless_raced(txn.commit().await)?.map(|_| made))
    }

    /// Detaches a container from a network; with `force` also one that is gone.
    pub async fn network_disconnect(
        &self,
        caller: &Caller,
        network: &str,
        container: &str,
        force: bool,
    ) -> Result<()> {
        let network = self.network_find(caller, network).await?;
        let found = match self.container_find(caller, container).await {
            Err(CloudError::NotFound { .. }) if force => return Ok(()),
            found => found?,
        };
        caller.authorise(Action::Write, found.meta.project)?;
        if found.spec.attachments.iter().all(|a| a.network != network.spec.id) {
            return Err(CloudError::Forbidden(format!(
                "container {} is not connected to network {}",
                found.spec.id, network.spec.name
            )));
        }
        self.detach(found.spec.id, network.spec.id).await?;
        self.network_event(&network, "disconnect", Some(found.spec.id));
        Ok(())
    }

    async fn detach(&self, container: ContainerId, network: NetworkId) -> Result<()> {
        loop {
            let Some(found) = self.0.containers.get(&container).await? else { return Ok(()) };
            let Some((gone, changed)) = self.detach_once(&found, network).await? else { continue };
            self.0.parts.net.ports_gone(&gone).await?;
            self.0.parts.net.ports_ready(&changed).await?;
            if found.status.state.is_alive() {
                self.engine().refresh_names(container).await?;
            }
            return Ok(());
        }
    }

    /// The ports that go and those that changed; `None` when what was read is not so any more.
    async fn detach_once(
        &self,
        found: &Stored<Container>,
        network: NetworkId,
    ) -> Result<Option<(Vec<PortId>, Vec<PortId>)>> {
        let mut container = Container::clone(found);
        container.spec.attachments.retain(|a| a.network != network);
        if container.spec.attachments.is_empty() {
            container.spec.network = NetworkMode::None;
        }
        container.meta.generation += 1;
        let ports = self.ports_of(found.spec.id).await?;
        let mut txn = Txn::new(self.kv()).update(&container, found.revision);
        let mut gone = Vec::new();
        for port in ports.iter().filter(|p| p.spec.network == network) {
            txn = txn.delete::<Port>(&port.spec.id);
            gone.push(port.spec.id);
        }
        let networks = self.0.networks.list_shared().await?;
        let specs: Vec<&NetworkSpec> = networks.iter().map(|n| &n.spec).collect();
        let mine: Vec<PortSpec> = ports.iter().map(|p| p.spec.clone()).collect();
        let rest = disconnect_ports(&container.spec, network, &specs, &mine);
        let kept: Vec<Stored<Port>> = ports.into_iter().filter(|p| p.spec.network != network).collect();
        let (txn, changed) = self.write_ports(txn, &container, &kept, rest);
        Ok(unless_raced(txn.commit().await)?.map(|_| (gone, changed)))
    }

    /// Adds to `txn` what of `all` is new or changed against `present`; answers the ports to wait for.
    fn write_ports(
        &self,
        mut txn: Txn,
        container: &Container,
        present: &[Stored<Port>],
        all: Vec<PortSpec>,
    ) -> (Txn, Vec<PortId>) {
        let mut touched = Vec::new();
        for spec in all {
            let id = spec.id;
            match present.iter().find(|p| p.spec.id == id) {
                Some(same) if same.spec == spec => continue,
                Some(old) => {
                    let mut port = Port::clone(old);
                    port.spec = spec;
                    port.meta.generation += 1;
                    txn = txn.update(&port, old.revision);
                }
                None => txn = txn.create(&self.port(container, spec)),
            }
            touched.push(id);
        }
        (txn, touched)
    }

    fn port(&self, container: &Container, spec: PortSpec) -> Port {
        Port::new(container.meta.project, self.now(), Labels::new(), spec)
    }

    async fn ports_of(&self, id: ContainerId) -> Result<Vec<Stored<Port>>> {
        let ports = self.0.ports.list_shared().await?;
        Ok(ports.iter().filter(|p| p.spec.owner == PortOwner::Container(id)).cloned().collect())
    }

    async fn gather(&self) -> Result<Gathered> {
        Ok(Gathered {
            networks: self.0.networks.list_shared().await?,
            ports: self.0.ports.list_shared().await?,
        })
    }

    /// The ports that a container about to start needs, and those of an earlier run that go; chosen in `turn`.
    pub(crate) async fn ports_for(
        &self,
        container: &Container,
        turn: &Turn,
    ) -> Result<(Vec<Port>, Vec<PortId>)> {
        let old = self.ports_of(container.spec.id).await?;
        // A restart of a live container keeps what it has.
        if container.status.state.is_alive() && !old.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let gone: Vec<PortId> = old.iter().map(|p| p.spec.id).collect();
        let gathered = self.gather().await?;
        let specs = gathered.with(self, turn, &gone, |c| build_ports(&container.spec, c))?;
        Ok((specs.into_iter().map(|s| self.port(container, s)).collect(), gone))
    }

    /// Where a container's network namespace is; empty when it has none.
    pub(crate) fn netns(&self, container: &Container) -> PathBuf {
        let own = matches!(container.spec.network, NetworkMode::Attached | NetworkMode::None);
        if own && container.status.state.is_alive() {
            self.0.parts.net.sandbox_path(container.spec.id)
        } else {
            PathBuf::new()
        }
    }

    /// Wishes that a network cannot fulfil are refused before anything is written.
    pub(crate) fn attachment_check(&self, network: &Network, attachment: &Attachment) -> Result<()> {
        let spec = &network.spec;
        let explicit = spec.subnets.iter().any(|s| s.explicit);
        let wants_address = attachment.ipv4.is_some() || attachment.ipv6.is_some();
        if spec.is_default_bridge() && !attachment.aliases.is_empty() {
            return Err(NetError::PredefinedAlias.into());
        }
        if wants_address && spec.is_default_bridge() {
            return Err(NetError::PredefinedAddress.into());
        }
        if wants_address && !explicit {
            return Err(NetError::NoUserSubnet.into());
        }
        for ip in attachment.ipv4.iter().chain(&attachment.ipv6) {
            if spec.subnets.iter().all(|s| !s.cidr.contains(ip)) {
                return Err(NetError::OutsideSubnets { ip: *ip }.into());
            }
        }
        Ok(())
    }

    /// A renamed container answers to its new name on its networks.
    pub(crate) async fn ports_rename(&self, container: &Container, old: &str) -> Result<()> {
        for port in self.ports_of(container.spec.id).await? {
            self.0
                .ports
                .update(&port.spec.id, |p| {
                    let Some(name) = p.spec.names.iter_mut().find(|n| *n == old) else { return false };
                    *name = container.spec.name.to_string();
                    true
                })
                .await?;
        }
        Ok(())
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

/// What building ports looks at, taken at one moment.
struct Gathered {
    networks: Arc<[Stored<Network>]>,
    ports: Arc<[Stored<Port>]>,
}

impl Gathered {
    /// Hands all of it, less the ports in `without`, to the port builder.
    fn with<T>(
        &self,
        cloud: &Cloud,
        turn: &Turn,
        without: &[PortId],
        build: impl FnOnce(&PortContext<'_>) -> T,
    ) -> T {
        let networks: Vec<&NetworkSpec> = self.networks.iter().map(|n| &n.spec).collect();
        let existing: Vec<&PortSpec> = self
            .ports
            .iter()
            .map(|p| &p.spec)
            .chain(turn.pending())
            .filter(|p| !without.contains(&p.id))
            .collect();
        build(&PortContext {
            networks: &networks,
            existing: &existing,
            hints: &cloud.0.hints,
            sockets: &KernelSockets,
            publish_ip: cloud.0.parts.defaults.publish_ip,
            wildcard_v6: WildcardV6::WhenAddressed,
        })
    }
}
