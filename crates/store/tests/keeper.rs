//! Leases that are kept: alive as long as they are kept, told when they end.
#![allow(clippy::unwrap_used, reason = "helpers of tests say what they expect")]

use std::{sync::Arc, time::Duration};

use weft_store::{Embedded, Hold, Keeper, Kv, Op, Options, Request, StoreError};

const TTL: Duration = Duration::from_millis(300);

async fn leased(kv: &Arc<dyn Kv>, keeper: &Keeper) {
    let put = Op::Put { key: "/a".into(), value: "x".into(), lease: Some(keeper.lease()) };
    kv.txn(Request::always(vec![put])).await.unwrap();
}

#[tokio::test]
async fn a_lease_lives_while_it_is_kept_and_its_end_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let kv: Arc<dyn Kv> = Arc::new(Embedded::open(dir.path().join("s"), Options::default()).unwrap());
    let keeper = Keeper::start(Arc::clone(&kv), TTL).await.unwrap();
    leased(&kv, &keeper).await;
    tokio::time::sleep(TTL * 5).await;
    assert_eq!(*keeper.hold().borrow(), Hold::Held);
    assert!(kv.get(b"/a").await.unwrap().is_some());
    kv.revoke(keeper.lease()).await.unwrap();
    let mut hold = keeper.hold();
    let told = tokio::time::timeout(Duration::from_secs(10), hold.wait_for(|h| *h == Hold::Lost)).await;
    assert!(told.is_ok(), "{:?}", *keeper.hold().borrow());
    let again = Keeper::adopt(Arc::clone(&kv), keeper.lease()).await;
    assert!(matches!(again.err(), Some(StoreError::NoLease { .. })));
}

#[tokio::test]
async fn another_keeper_goes_on_and_a_lease_that_nobody_keeps_ends() {
    let dir = tempfile::tempdir().unwrap();
    let kv: Arc<dyn Kv> = Arc::new(Embedded::open(dir.path().join("s"), Options::default()).unwrap());
    let first = Keeper::start(Arc::clone(&kv), TTL).await.unwrap();
    leased(&kv, &first).await;
    let second = Keeper::adopt(Arc::clone(&kv), first.lease()).await.unwrap();
    drop(first);
    tokio::time::sleep(TTL * 5).await;
    assert!(kv.get(b"/a").await.unwrap().is_some());
    let mut watch = kv.watch(b"/a", 0).await.unwrap();
    drop(second);
    tokio::time::timeout(Duration::from_secs(10), watch.next()).await.unwrap().unwrap();
    assert!(kv.get(b"/a").await.unwrap().is_none());
}
