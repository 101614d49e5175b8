//! Changing a network that is in use: larger and further subnets and other ranges, with containers going on.
//!
//! The network and the ports that change with it are written in one transaction, in a turn at choosing addresses: what
//! is chosen after it, is chosen from the new subnets. What the data plane cannot do is taken back.

use std::collections::BTreeSet;

use weft_model::{ContainerId, ContainerSpec, Network, NetworkSpec, Port, PortId, PortOwner, PortSpec};
use weft_net::{NetworkChange, PortContext, grow_network, regrow_ports};
use weft_store::{Stored, Txn};

use super::{NetworkView, unless_raced};
use crate::{Action, Caller, Cloud, Result};

impl Cloud {
    /// Grows a subnet of a network, adds some, or gives some another range.
    pub async fn network_set(
        &self,
        caller: &Caller,
        name: &str,
        change: &NetworkChange,
    ) -> Result<NetworkView> {
        let (found, ports) = loop {
            if let Some(done) = self.network_set_once(caller, name, change).await? {
                break done;
            }
        };
        let id = found.spec.id;
        let touched: Vec<PortId> = ports.iter().map(|p| p.spec.id).collect();
        let net = &self.0.parts.net;
        let made = match net.network_ready(id).await {
            Ok(()) => net.ports_ready(&touched).await,
            failed => failed,
        };
        if let Err(failed) = made {
            self.network_unset(&found, &ports).await;
            return Err(failed.into());
        }
        self.names_again(&ports).await?;
        self.network_event(&found, "update", None);
        self.network_view(caller, &id.to_string()).await
    }

    /// The network and the changed ports as they were; `None` when what was read is not so any more.
    async fn network_set_once(
        &self,
        caller: &Caller,
        name: &str,
        change: &NetworkChange,
    ) -> Result<Option<(Stored<Network>, Vec<Stored<Port>>)>> {
        let found = self.network_find(caller, name).await?;
        caller.authorise(Action::Write, found.meta.project)?;
        let turn = self.0.hints.quiet_turn(found.spec.id).await;
        let gathered = self.gather().await?;
        let specs: Vec<&NetworkSpec> = gathered.networks.iter().map(|n| &n.spec).collect();
        let routes = self.0.parts.net.host_routes().await?;
        let mut network = Network::clone(&found);
        network.spec = grow_network(&found.spec, change, &specs, &routes)?;
        network.meta.generation += 1;
        let networks: Vec<&NetworkSpec> =
            specs.into_iter().map(|n| if n.id == found.spec.id { &network.spec } else { n }).collect();
        let containers: Vec<&ContainerSpec> = gathered.containers.iter().map(|c| &c.spec).collect();
        let changed = gathered.with(self, &turn, &[], |now| {
            regrow_ports(&network.spec, &containers, &PortContext { networks: &networks, ..*now })
        })?;
        let mut txn = Txn::new(self.stores()).update(&network, found.revision);
        let mut touched = Vec::new();
        for spec in changed {
            let Some(old) = gathered.ports.iter().find(|p| p.spec.id == spec.id) else { continue };
            let mut port = Port::clone(old);
            port.spec = spec;
            port.meta.generation += 1;
            txn = txn.update(&port, old.revision);
            touched.push(old.clone());
        }
        Ok(unless_raced(txn.commit().await)?.map(|_| (found, touched)))
    }

    /// Containers whose addresses changed find them in their `/etc/hosts`.
    async fn names_again(&self, ports: &[Stored<Port>]) -> Result<()> {
        let owner = |port: &Stored<Port>| {
            let PortOwner::Container(owner) = port.spec.owner;
            owner
        };
        let owners: BTreeSet<ContainerId> = ports.iter().map(owner).collect();
        for id in owners {
            let found = self.0.containers.get(&id).await?;
            if found.is_some_and(|c| c.status.state.is_alive()) {
                self.engine().refresh_names(id).await?;
            }
        }
        Ok(())
    }

    /// Writes what was there before a change that could not be made.
    async fn network_unset(&self, network: &Network, ports: &[Stored<Port>]) {
        let back = self.0.networks.update(&network.spec.id, |n| {
            n.spec.subnets.clone_from(&network.spec.subnets);
            (n.spec.ipv4, n.spec.ipv6) = (network.spec.ipv4, network.spec.ipv6);
            n.meta.generation += 1;
            true
        });
        let mut failed = back.await.err();
        for old in ports {
            let back = self.0.ports.update(&old.spec.id, |port| {
                let (addresses, publish) = (old.spec.addresses.clone(), old.spec.publish.clone());
                let (default_route, default_route_v6) = (old.spec.default_route, old.spec.default_route_v6);
                port.spec =
                    PortSpec { addresses, publish, default_route, default_route_v6, ..port.spec.clone() };
                port.meta.generation += 1;
                true
            });
            failed = failed.or(back.await.err());
        }
        if let Some(error) = failed {
            tracing::error!(%error, network = %network.spec.name, "a change that failed could not be taken back");
        }
    }
}
