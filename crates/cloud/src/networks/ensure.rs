//! The networks that are always there: written at the start of the daemon, new or as configuration now wants them.
//!
//! Containers may have gone on while no daemon ran. What of the new configuration would cut them off waits until a start
//! of the daemon finds none of them.

use ipnet::IpNet;
use weft_base::{Clock, SystemClock};
use weft_model::{
    ContainerId, Labels, Network, NetworkKind, NetworkSpec, Port, PortOwner, PortSpec, default_project,
};
use weft_net::{Pools, PredefinedConfig, ensure_predefined, in_use, refit_default_bridge, warn_of_routes};
use weft_store::{IndexKey, Stored, Stores, Table, Txn};

use crate::Result;

/// Writes the networks that are always there. `routes`: where the host routes to; `runs`: whether a container still does.
///
/// # Errors
/// A configuration that makes no sense; a store that fails.
pub async fn ensure_networks(
    stores: &Stores,
    config: &PredefinedConfig,
    pools: &Pools,
    routes: Vec<IpNet>,
    runs: &(dyn Fn(ContainerId) -> bool + Sync),
) -> Result<()> {
    let table = Table::<Network>::new(stores);
    let existing = table.list().await?;
    let ports = Table::<Port>::new(stores).list().await?;
    let specs: Vec<&NetworkSpec> = existing.iter().map(|n| &n.spec).collect();
    let routes = in_use(routes);
    let wanted = ensure_predefined(config, &specs, &routes, pools)?;
    for gone in existing.iter().filter(|n| n.spec.predefined && wanted.iter().all(|w| w.id != n.spec.id)) {
        unwanted(stores, gone, &ports).await?;
    }
    for spec in wanted {
        for warning in warn_of_routes(&spec, &routes) {
            tracing::warn!(network = %spec.name, "{warning}");
        }
        match existing.iter().find(|n| n.spec.id == spec.id) {
            Some(known) if known.spec == spec => {}
            Some(known) if spec.kind == NetworkKind::Bridge => {
                reshape(stores, known, spec, &ports, runs).await?
            }
            Some(known) => {
                table.replace(&changed(known, spec), known.revision).await?;
            }
            None => {
                let id = spec.id;
                let network = Network::new(default_project(), SystemClock.now(), Labels::new(), spec);
                let index = IndexKey::of::<Network>(&network.spec.name);
                Txn::new(stores).claim(&index, &id).create(&network).commit().await?;
            }
        }
    }
    Ok(())
}

fn changed(known: &Network, spec: NetworkSpec) -> Network {
    let mut network = known.clone();
    network.spec = spec;
    network.meta.generation += 1;
    network
}

/// The default bridge becomes what is wanted, as far as the containers on it allow.
async fn reshape(
    stores: &Stores,
    known: &Stored<Network>,
    wanted: NetworkSpec,
    ports: &[Stored<Port>],
    runs: &(dyn Fn(ContainerId) -> bool + Sync),
) -> Result<()> {
    let on: Vec<&PortSpec> = ports.iter().map(|p| &p.spec).filter(|p| runs(owner(p))).collect();
    let fitted = refit_default_bridge(&known.spec, wanted, &on);
    if fitted.waits {
        tracing::warn!(
            network = %known.spec.name,
            "containers run there with addresses that its new configuration has no place for: it keeps its addresses \
             until the daemon is started with none of them running"
        );
    }
    if fitted.network == known.spec {
        return Ok(());
    }
    let mut txn = Txn::new(stores).update(&changed(known, fitted.network), known.revision);
    for spec in fitted.ports {
        let Some(old) = ports.iter().find(|p| p.spec.id == spec.id) else { continue };
        let mut port = Port::clone(old);
        port.spec = spec;
        port.meta.generation += 1;
        txn = txn.update(&port, old.revision);
    }
    txn.commit().await?;
    Ok(())
}

fn owner(port: &PortSpec) -> ContainerId {
    let PortOwner::Container(owner) = port.owner;
    owner
}

/// Takes back the default bridge, which configuration no longer wants, unless a container is on it.
async fn unwanted(stores: &Stores, network: &Stored<Network>, ports: &[Stored<Port>]) -> Result<()> {
    let (id, name) = (network.spec.id, &network.spec.name);
    if ports.iter().any(|port| port.spec.network == id) {
        tracing::warn!(network = %name, "it is not wanted any more and stays, since containers are on it");
        return Ok(());
    }
    let index = IndexKey::of::<Network>(name);
    Txn::new(stores).release(&index, &id).delete_at::<Network>(&id, network.revision).commit().await?;
    Ok(())
}
