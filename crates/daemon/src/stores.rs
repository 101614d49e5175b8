//! The stores of both scopes, as `--store` says: one file for both, or a file for the host and an etcd cluster for all hosts, of
//! which a replica is kept here.

use std::{path::Path, sync::Arc};

use anyhow::{Context, bail};
use weft_model::{Alive, Host, Policy, Project};
use weft_store::{Embedded, Kv, Options, Replica, ReplicaOptions, Stores, Table, prefixes};
use weft_store_etcd::Etcd;

use crate::{Config, userns};

/// What `--store` is where it says nothing.
const EMBEDDED: &str = "embedded";

/// Opens the stores.
///
/// # Errors
/// An address that makes no sense; a cluster that cannot be reached at the first start, refuses or is not Weft's; a file that
/// cannot be used.
pub(crate) async fn open(config: &Config) -> anyhow::Result<Stores> {
    let shared = match config.store.as_str() {
        EMBEDDED => None,
        address => {
            Some(address.parse::<weft_store_etcd::Config>().with_context(|| format!("--store {address}"))?)
        }
    };
    let root = config.root.display();
    std::fs::create_dir_all(&config.root).with_context(|| format!("making {root}"))?;
    let map = config.defaults.userns_remap.as_deref().map(userns::resolve).transpose()?;
    let group = map.map_or(0, |map| map.root().1);
    weft_engine::keep_private(&config.root, group).with_context(|| format!("closing {root} to others"))?;
    let path = config.root.join("store.redb");
    crate::lost::check(config, &path)?;
    let opened = tokio::task::spawn_blocking(move || Embedded::open(path, Options::default())).await?;
    let host: Arc<dyn Kv> = Arc::new(opened?);
    match shared {
        None => Ok(Stores::single(host)),
        Some(shared) => {
            not_alone(&host).await?;
            let replica = replica(shared, &config.root).await?;
            Ok(Stores::new(host, Arc::new(replica)))
        }
    }
}

/// Refuses a store that was a cluster of one: what it holds for all hosts would be forgotten.
async fn not_alone(host: &Arc<dyn Kv>) -> anyhow::Result<()> {
    let single = Stores::single(Arc::clone(host));
    let policies = Table::<Policy>::new(&single).list().await?.len();
    if policies > 0 || !Table::<Host>::new(&single).list().await?.is_empty() {
        bail!(
            "this host was a cluster of one: its own store holds what belongs to all hosts ({policies} policies), and an etcd \
             cluster would not have it. This build cannot move it; begin in an empty --root, or stay with --store {EMBEDDED}"
        );
    }
    Ok(())
}

async fn replica(shared: weft_store_etcd::Config, root: &Path) -> anyhow::Result<Replica> {
    shared.check().with_context(|| format!("--store {shared}"))?;
    let shown = shared.to_string();
    let etcd = Etcd::start(shared, weft_store_etcd::Options::default());
    // What every host knows of the cluster.
    let follow =
        [prefixes::<Host>(), prefixes::<Alive>(), prefixes::<Project>(), prefixes::<Policy>()].concat();
    let options =
        ReplicaOptions { path: Some(root.join("replica.redb")), follow, ..ReplicaOptions::default() };
    Replica::open(Arc::new(etcd), options).await.with_context(|| format!("--store {shown}"))
}
