//! A replica over a real cluster: the contract, and a cluster that is gone, killed, compacted, put back, slow.
#![allow(clippy::unwrap_used, reason = "helpers of tests say what they expect")]

mod common;

use std::{path::Path, sync::Arc, time::Instant};

use common::{PATIENCE, config, next, open, put, put_at_last, quick, shown, try_put, value};
use tokio::time::Duration;
use weft_store::{Kv, Op, Replica, ReplicaOptions, Request, StoreError, contract};
use weft_store_etcd::Etcd;
use weft_testkit::{Relay, Wire, etcd};

fn options(dir: &Path) -> ReplicaOptions {
    ReplicaOptions {
        path: Some(dir.join("replica.redb")),
        follow: vec!["/weft/v1/a/".into(), "/weft/v1/b/".into()],
        ..ReplicaOptions::default()
    }
}

/// A replica of a store that may be away.
async fn start(address: &str, dir: &Path) -> Result<Replica, StoreError> {
    let store = Etcd::start(config(&format!("etcd://{address}")), quick());
    Replica::open(Arc::new(store), options(dir)).await
}

async fn until_value(kv: &Replica, key: &str, wanted: &str) {
    let begun = Instant::now();
    while value(kv, key).await.as_deref() != Some(wanted) {
        assert!(begun.elapsed() < PATIENCE, "{key} is {:?}, not {wanted}", value(kv, key).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_over_a_cluster() {
    let cluster = etcd::Etcd::single().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = open(&format!("{}/p", cluster.endpoints())).await;
    let options = ReplicaOptions { follow: vec!["/contract/".into()], ..options(dir.path()) };
    let kv: Arc<dyn Kv> = Arc::new(Replica::open(Arc::new(store), options).await.unwrap());
    contract::run_all(|| async { Arc::clone(&kv) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_the_cluster_goes_on_from_the_file() {
    let mut cluster = etcd::Etcd::single().unwrap();
    let dir = tempfile::tempdir().unwrap();
    cluster.kill(0).unwrap();
    let refused = start(&cluster.endpoints(), dir.path()).await.err();
    assert!(matches!(refused, Some(StoreError::Unavailable { .. })), "{refused:?}");
    cluster.restart(0).unwrap();
    cluster.wait().unwrap();
    let kv = start(&cluster.endpoints(), dir.path()).await.unwrap();
    let mine = put(&kv, "/weft/v1/a/1", "mine").await;
    drop(kv);
    cluster.kill(0).unwrap();
    let begun = Instant::now();
    let kv = start(&cluster.endpoints(), dir.path()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "it waits for nobody: {:?}", begun.elapsed());
    assert_eq!(kv.get(b"/weft/v1/a/1").await.unwrap().map(|i| i.mod_revision), Some(mine));
    let refused = try_put(&kv, "/weft/v1/a/1", "x").await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    cluster.restart(0).unwrap();
    assert!(kv.caught_up(PATIENCE).await);
    put_at_last(&kv, "/weft/v1/a/1", "again").await;
    assert_eq!(value(&kv, "/weft/v1/a/1").await.as_deref(), Some("again"));
}

/// `kill -9` of the member under load: what was acknowledged is read at once, and in the end all is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_member_under_load() {
    let mut cluster = etcd::Etcd::single().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let kv = Arc::new(start(&cluster.endpoints(), dir.path()).await.unwrap());
    let writer = tokio::spawn({
        let kv = Arc::clone(&kv);
        async move {
            let (begun, mut acked) = (Instant::now(), 0);
            for n in 0u32.. {
                let key = format!("/weft/v1/{}/{}", ["a", "b"][n as usize % 2], n % 50);
                match try_put(&*kv, &key, &n.to_string()).await {
                    Ok(_) => {
                        assert_eq!(value(&*kv, &key).await, Some(n.to_string()));
                        acked += 1;
                    }
                    Err(StoreError::Unknown { .. } | StoreError::Unavailable { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                if begun.elapsed() > Duration::from_secs(5) {
                    break;
                }
            }
            acked
        }
    });
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(800)).await;
        cluster.kill(0).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        cluster.restart(0).unwrap();
    }
    assert!(writer.await.unwrap() > 50);
    put_at_last(&*kv, "/weft/v1/a/end", "x").await;
    put_at_last(&*kv, "/weft/v1/b/end", "x").await;
    let there = open(&cluster.endpoints()).await;
    for prefix in [&b"/weft/v1/a/"[..], b"/weft/v1/b/"] {
        assert_eq!(kv.range(prefix).await.unwrap().items, there.range(prefix).await.unwrap().items);
    }
}

/// Cut off while the cluster goes on, forgets its past, and is slow afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_and_a_compaction_behind_it() {
    let cluster = etcd::Etcd::single().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let wire = Relay::to(&cluster.endpoints()).unwrap();
    let there = open(&cluster.endpoints()).await;
    put(&there, "/weft/v1/a/gone", "x").await;
    let kv = start(&wire.address(), dir.path()).await.unwrap();
    assert!(kv.caught_up(PATIENCE).await);
    let mut watch = kv.watch(b"/weft/v1/a/", 0).await.unwrap();
    wire.set(Wire::Cut);
    there.txn(Request::always(vec![Op::delete("/weft/v1/a/gone")])).await.unwrap();
    for n in 0..20 {
        put(&there, "/weft/v1/a/n", &n.to_string()).await;
    }
    there.compact(there.revision().await.unwrap()).await.unwrap();
    // It goes on in what it knew.
    assert_eq!(value(&kv, "/weft/v1/a/gone").await.as_deref(), Some("x"));
    let refused = try_put(&kv, "/weft/v1/b/1", "x").await;
    assert!(refused.as_ref().is_err_and(StoreError::transient), "{refused:?}");
    wire.set(Wire::Whole);
    until_value(&kv, "/weft/v1/a/n", "19").await;
    let mut told = Vec::new();
    while !told.contains(&"/weft/v1/a/n=19".to_owned()) {
        told.extend(shown(&next(&mut watch).await.unwrap()));
    }
    assert!(told.contains(&"-/weft/v1/a/gone".to_owned()), "{told:?}");
    wire.delay(Duration::from_millis(100));
    put_at_last(&kv, "/weft/v1/a/slow", "x").await;
    assert_eq!(value(&kv, "/weft/v1/a/slow").await.as_deref(), Some("x"));
}

/// The cluster is wiped, or put back from a backup: what runs goes on with what it knew and writes nothing; a new start,
/// which first has only its file, takes the store as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_was_replaced() {
    for backup in [false, true] {
        let mut cluster = etcd::Etcd::single().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let kv = start(&cluster.endpoints(), dir.path()).await.unwrap();
        put(&kv, "/weft/v1/b/old", "x").await;
        let saved = dir.path().join("backup");
        cluster.save(&saved).unwrap();
        for n in 0..10 {
            put(&kv, "/weft/v1/a/1", &n.to_string()).await;
        }
        cluster.kill(0).unwrap();
        if backup {
            cluster.put_back(&saved).unwrap();
        } else {
            cluster.wipe(0).unwrap();
        }
        cluster.restart(0).unwrap();
        cluster.wait().unwrap();
        let begun = Instant::now();
        while !matches!(try_put(&kv, "/weft/v1/a/1", "x").await, Err(StoreError::Replaced { .. })) {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(value(&kv, "/weft/v1/a/1").await.as_deref(), Some("9"));
        drop(kv);
        let kv = start(&cluster.endpoints(), dir.path()).await.unwrap();
        assert!(kv.caught_up(PATIENCE).await);
        assert_eq!(value(&kv, "/weft/v1/a/1").await, None, "the new start sees what is there");
        assert_eq!(value(&kv, "/weft/v1/b/old").await.is_some(), backup);
        put(&kv, "/weft/v1/a/1", "anew").await;
        assert_eq!(value(&kv, "/weft/v1/a/1").await.as_deref(), Some("anew"));
    }
}
