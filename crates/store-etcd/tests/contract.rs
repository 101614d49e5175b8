//! The suite that the embedded store passes, on real clusters.

mod common;

use std::sync::Arc;

use common::{config, open};
use weft_store::{Kv, contract};
use weft_store_etcd::{Etcd, Options};
use weft_testkit::{EtcdSetup, etcd};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_on_one_member() {
    let cluster = etcd::Etcd::single().unwrap();
    let config = config(&format!("etcd://{}", cluster.endpoints()));
    let kv: Arc<dyn Kv> = Arc::new(Etcd::connect(config, Options::default()).await.unwrap());
    contract::run_all(|| async { Arc::clone(&kv) }).await;
}

/// Each case with a connection of its own, and below a prefix, beside other people's keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_below_a_prefix() {
    let cluster = etcd::Etcd::single().unwrap();
    for stranger in ["/contract/a", "/a", "/a/b0", "/a/bb/c", "z"] {
        cluster.ctl(&["put", stranger, "x"]).unwrap();
    }
    let address = format!("{}/a/b", cluster.endpoints());
    contract::run_all(|| async { Arc::new(open(&address).await) as Arc<dyn Kv> }).await;
    let strangers = cluster.ctl(&["get", "", "--from-key", "--keys-only"]).unwrap();
    let strangers: Vec<_> = strangers.lines().filter(|l| !l.is_empty() && !l.starts_with("/a/b/")).collect();
    assert_eq!(strangers, ["/a", "/a/b0", "/a/bb/c", "/contract/a", "z"]);
}

/// Cases run on whichever member answers first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_on_three_members() {
    let cluster = etcd::Etcd::start(EtcdSetup { members: 3, ..EtcdSetup::default() }).unwrap();
    let address = format!("{}/p", cluster.endpoints());
    contract::run_all(|| async { Arc::new(open(&address).await) as Arc<dyn Kv> }).await;
}
