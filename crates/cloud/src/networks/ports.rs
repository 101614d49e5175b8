//! Ports of containers: connect, disconnect, and what a start needs.
//!
//! Addresses and listening ports are chosen in a turn that one request has at a time; what is written compares
//! generations, and is decided anew when somebody was faster.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use weft_model::{
    Attachment, Container, ContainerId, ContainerSpec, Labels, Network, NetworkId, NetworkKind, NetworkMode,
    NetworkSpec, Port, PortId, PortOwner, PortSpec, PublishSpec, RunState,
};
use weft_net::{
    KernelSockets, NetError, PortContext, Turn, WildcardV6, build_ports, connect_port, disconnect_ports,
};
use weft_store::{Stored, Txn};

use super::unless_raced;
use crate::{Action, Caller, Cloud, CloudError, DraftEndpoint, Kind, Result};

/// How often it is looked again when a port is in nobody's hands, and how long that is waited for each time.
const LOOKS: u32 = 20;
const LOOK: Duration = Duration::from_millis(5);
const HOST_ONLY: &str = "container cannot be disconnected from host network or connected to host network";
const NONE_ONLY: &str =
    "container cannot be connected to multiple networks with one of the networks in private (none) mode";

impl Cloud {
    /// Attaches a container, running or not, to a further network.
    pub async fn network_connect(
        &self,
        caller: &Caller,
        network: &str,
        container: &str,
        wishes: DraftEndpoint,
    ) -> Result<()> {
        // The container first, as dockerd: of two that are not there, it is the one that is named.
        let found = self.container_find(caller, container).await?;
        let network = self.network_find(caller, network).await?;
        caller.authorise(Action::Write, found.meta.project)?;
        let shown = network.spec.name.to_string();
        let conflict = match network.spec.kind {
            NetworkKind::Host => Some(HOST_ONLY),
            NetworkKind::None => Some(NONE_ONLY),
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
            // It has to be disconnected from `none` first, as with dockerd.
            NetworkMode::None => return Err(CloudError::Forbidden(NONE_ONLY.into())),
            NetworkMode::Attached => {}
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
        let mut turn = self.0.hints.turn().await;
        let mut container = Container::clone(found);
        container.spec.attachments.push(attachment.clone());
        container.spec.network = NetworkMode::Attached;
        container.meta.generation += 1;
        let mut txn = Txn::new(self.stores()).update(&container, found.revision);
        let mut made = Vec::new();
        if found.status.state.is_alive() {
            let ports = self.ports_of(found.spec.id).await?;
            let specs: Vec<PortSpec> = ports.iter().map(|p| p.spec.clone()).collect();
            let build = |now: &PortContext<'_>| connect_port(&container.spec, attachment, &specs, now);
            let all = self.choose(&mut turn, &[], build).await?;
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
        let known = self.network_find(caller, network).await;
        let found = match self.container_find(caller, container).await {
            // dockerd looks for an endpoint of that name then.
            Err(CloudError::NotFound { .. }) if force && known.is_ok() => {
                return Err(CloudError::Missing(format!("endpoint {container} not found")));
            }
            found => found?,
        };
        caller.authorise(Action::Write, found.meta.project)?;
        let network = match known {
            Ok(network) => network,
            // One that was removed while the container rested.
            Err(gone @ CloudError::NotFound { .. }) => {
                let attached = found.spec.attachments.iter().find(|a| a.written == network);
                let id = attached.map(|a| a.network).ok_or(gone)?;
                return self.detach(found.spec.id, id).await;
            }
            Err(error) => return Err(error),
        };
        if (network.spec.kind, found.spec.network) == (NetworkKind::Host, NetworkMode::Host) {
            return Err(CloudError::Forbidden(HOST_ONLY.into()));
        }
        if (network.spec.kind, found.spec.network) == (NetworkKind::None, NetworkMode::None) {
            self.detach(found.spec.id, network.spec.id).await?;
            self.network_event(&network, "disconnect", Some(found.spec.id));
            return Ok(());
        }
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
        let turn = self.0.hints.turn().await;
        let mut container = Container::clone(found);
        container.spec.attachments.retain(|a| a.network != network);
        // Without any it is not on `none`: what is there cannot be connected to others.
        container.spec.network = NetworkMode::Attached;
        container.meta.generation += 1;
        let ports = self.ports_of(found.spec.id).await?;
        let mut txn = Txn::new(self.stores()).update(&container, found.revision);
        let mut gone = Vec::new();
        for port in ports.iter().filter(|p| p.spec.network == network) {
            txn = txn.delete::<Port>(&port.spec.id);
            gone.push(port.spec.id);
        }
        let mine: Vec<PortSpec> = ports.iter().map(|p| p.spec.clone()).collect();
        let gathered = self.gather().await?;
        let rest =
            gathered.with(self, &turn, &[], |now| disconnect_ports(&container.spec, network, now, &mine));
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

    /// Attachments to networks that were removed while the container rested lead to those that have their names now.
    pub(crate) async fn rebind(&self, spec: &mut ContainerSpec) -> Result<()> {
        let networks = self.0.networks.list_shared().await?;
        for attachment in &mut spec.attachments {
            if networks.iter().any(|n| n.spec.id == attachment.network) {
                continue;
            }
            let written = &attachment.written;
            let new = networks.iter().find(|n| n.spec.name.as_str() == written);
            attachment.network = new
                .map(|n| n.spec.id)
                .ok_or_else(|| CloudError::not_found(Kind::Network, written.as_str()))?;
        }
        Ok(())
    }

    pub(super) async fn gather(&self) -> Result<Gathered> {
        Ok(Gathered {
            networks: self.0.networks.list_shared().await?,
            ports: self.0.ports.list_shared().await?,
            containers: self.0.containers.list_shared().await?,
        })
    }

    /// Chooses in `turn`. A container that was removed a moment ago may still have its ports: they are nobody's, so they are let
    /// go and it is chosen anew, and whoever is told that a port is taken is told by whom.
    async fn choose<T>(
        &self,
        turn: &mut Turn,
        without: &[PortId],
        build: impl Fn(&PortContext<'_>) -> std::result::Result<T, NetError>,
    ) -> Result<T> {
        let mut looks = LOOKS;
        loop {
            let chosen = self.gather().await?.with(self, turn, without, &build);
            let removed = chosen.as_ref().err().and_then(NetError::held_by_the_removed);
            let Some(owner) = removed.filter(|_| looks > 0) else { return Ok(chosen?) };
            looks -= 1;
            self.tidy_container(owner).await?;
            // What it had chosen and not written is given up as soon as its commit is refused.
            tokio::time::sleep(LOOK).await;
            turn.look_again();
        }
    }

    /// The ports that a container about to start needs, and those of an earlier run that go; chosen in `turn`.
    pub(crate) async fn ports_for(
        &self,
        container: &Container,
        turn: &mut Turn,
    ) -> Result<(Vec<Port>, Vec<PortId>)> {
        let old = self.ports_of(container.spec.id).await?;
        // A restart of a live container keeps what it has.
        if container.status.state.is_alive() && !old.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let gone: Vec<PortId> = old.iter().map(|p| p.spec.id).collect();
        let specs = self.choose(turn, &gone, |now| build_ports(&container.spec, now)).await?;
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
        if spec.kind == NetworkKind::Config {
            let text = "cannot create endpoint on configuration-only network";
            return Err(CloudError::Forbidden(text.into()));
        }
        if let Some(lacking) = attachment.sysctls.keys().find(|name| !self.0.parts.net.has_parameter(name)) {
            // dockerd finds it at the start only, and leaves a container that never can.
            let path = lacking.replace('.', "/");
            return Err(CloudError::Invalid(format!(
                "invalid endpoint settings:\n/proc/sys/{path} is not a sysctl file"
            )));
        }
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

    /// What is said of published ports that no network of the container can publish: its interfaces are on the LAN
    /// themselves, or have no address of the host address's family.
    pub(crate) async fn unpublished(&self, container: &ContainerSpec) -> Result<Vec<String>> {
        if container.publish.is_empty() && !container.publish_all {
            return Ok(Vec::new());
        }
        let networks = self.0.networks.list_shared().await?;
        let mine = container.attachments.iter();
        let mine: Vec<&NetworkSpec> =
            mine.filter_map(|a| networks.iter().map(|n| &n.spec).find(|n| n.id == a.network)).collect();
        let kind = |n: &&NetworkSpec| {
            let parent = n.parent.as_ref().map(|p| p.branch.kind());
            parent.or_else(|| n.dhcp.then_some("dhcp"))
        };
        let kinds: Option<Vec<&str>> = mine.iter().map(kind).collect();
        if let Some(kind) = kinds.and_then(|kinds| kinds.first().copied()) {
            return Ok(vec![format!("Published ports are discarded when using {kind} network mode")]);
        }
        let serves = |ip: IpAddr| {
            mine.iter().any(|n| n.subnets.iter().any(|s| s.cidr.addr().is_ipv4() == ip.is_ipv4()))
        };
        let lost = |wish: &PublishSpec| {
            let ip: IpAddr = wish.host_ip.trim_matches(['[', ']']).parse().ok()?;
            let ip = ip.to_canonical();
            let family = if ip.is_ipv4() { 4 } else { 6 };
            (!mine.is_empty() && !serves(ip)).then(|| {
                format!(
                    "Port {}/{} is not published at {ip}: no network of the container has IPv{family}",
                    wish.container_port,
                    wish.protocol.as_str()
                )
            })
        };
        Ok(container.publish.iter().filter_map(lost).collect())
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

/// What building ports looks at, taken at one moment.
pub(super) struct Gathered {
    pub(super) networks: Arc<[Stored<Network>]>,
    pub(super) ports: Arc<[Stored<Port>]>,
    pub(super) containers: Arc<[Stored<Container>]>,
}

impl Gathered {
    /// Hands all of it, less the ports in `without`, to the port builder.
    pub(super) fn with<T>(
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
        let name_of = |id| {
            let owner = self.containers.iter().find(|c| c.spec.id == id)?;
            Some(owner.spec.name.to_string())
        };
        build(&PortContext {
            name_of: &name_of,
            networks: &networks,
            existing: &existing,
            hints: &cloud.0.hints,
            sockets: &KernelSockets,
            publish_ip: cloud.0.parts.defaults.publish_ip,
            wildcard_v6: WildcardV6::WhenAddressed,
        })
    }
}
