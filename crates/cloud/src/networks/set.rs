//! Changing a network that is in use: larger and further subnets, with containers going on.
//!
//! The network and the ports whose prefix changes are written in one transaction, in a turn at choosing addresses: what
//! is chosen after it, is chosen from the new subnets. What the data plane cannot do is taken back.

use std::time::Duration;

use weft_model::{Network, Port, PortId, PortSpec};
use weft_net::{NetworkChange, Turn, grow_network, regrow_ports};
use weft_store::{Stored, Txn};

use super::{NetworkView, unless_raced};
use crate::{Action, Caller, Cloud, Result};

impl Cloud {
    /// Grows a subnet of a network, or adds some.
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
        let Some(_turn) = self.quiet_turn(&found).await else { return Ok(None) };
        let existing = self.0.networks.list_shared().await?;
        let specs: Vec<_> = existing.iter().map(|n| &n.spec).collect();
        let routes = self.0.parts.net.host_routes().await?;
        let mut network = Network::clone(&found);
        network.spec = grow_network(&found.spec, change, &specs, &routes)?;
        network.meta.generation += 1;
        let mut txn = Txn::new(self.kv()).update(&network, found.revision);
        let ports = self.0.ports.list_shared().await?;
        let mut touched = Vec::new();
        for spec in regrow_ports(&network.spec, ports.iter().map(|p| &p.spec)) {
            let Some(old) = ports.iter().find(|p| p.spec.id == spec.id) else { continue };
            let mut port = Port::clone(old);
            port.spec = spec;
            port.meta.generation += 1;
            txn = txn.update(&port, old.revision);
            touched.push(old.clone());
        }
        Ok(unless_raced(txn.commit().await)?.map(|_| (found, touched)))
    }

    /// A turn in which no address of the network is chosen and not yet written: such a port would have the old prefix.
    async fn quiet_turn(&self, network: &Network) -> Option<Turn> {
        let turn = self.0.hints.turn().await;
        if turn.pending().iter().all(|port| port.network != network.spec.id) {
            return Some(turn);
        }
        drop(turn);
        tokio::time::sleep(Duration::from_millis(5)).await;
        None
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
                port.spec = PortSpec { addresses: old.spec.addresses.clone(), ..port.spec.clone() };
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
