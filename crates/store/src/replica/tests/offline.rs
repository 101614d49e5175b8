//! The store is gone, was compacted, was replaced, is slow.

use super::*;

#[tokio::test]
async fn a_first_start_without_the_store_is_refused_and_makes_nothing_up() {
    let bed = Bed::new();
    put(&*bed.origin, "/a/1", "x").await;
    bed.wire.set(Mode::Silent);
    for _ in 0..2 {
        let refused = bed.open().await.err();
        assert!(matches!(refused, Some(StoreError::Unavailable { .. })), "{refused:?}");
    }
    bed.wire.set(Mode::Whole);
    assert_eq!(value(&bed.open().await.unwrap(), "/a/1").await.as_deref(), Some("x"));
}

#[tokio::test]
async fn a_start_from_the_file_goes_on_and_tells_what_it_missed() {
    let bed = Bed::new();
    let first = put(&*bed.origin, "/a/1", "one").await;
    put(&*bed.origin, "/b/gone", "x").await;
    drop(bed.open().await.unwrap());
    bed.wire.set(Mode::Broken);
    let replica = bed.open().await.unwrap();
    let item = replica.get(b"/a/1").await.unwrap().unwrap();
    assert_eq!((item.mod_revision, item.version, &item.value[..]), (first, 1, &b"one"[..]));
    assert!(replica.standings().iter().all(|s| s.applied.is_some() && !s.listed));
    let refused = replica.txn(Request::always(vec![Op::put("/a/2", "x")])).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    assert!(replica.lease(Duration::from_secs(9)).await.is_err());
    assert!(!replica.caught_up(Duration::from_millis(200)).await);
    assert!(replica.standings().iter().all(|s| s.error.is_some()));
    // Meanwhile others write.
    put(&*bed.origin, "/a/2", "two").await;
    delete(&*bed.origin, "/b/gone").await;
    let mut watch = replica.watch(b"/", replica.revision().await.unwrap() + 1).await.unwrap();
    bed.wire.set(Mode::Whole);
    assert!(replica.caught_up(PATIENCE).await);
    let mut told = shown(&next(&mut watch).await.unwrap());
    told.extend(shown(&next(&mut watch).await.unwrap()));
    told.sort();
    assert_eq!(told, ["-/b/gone", "/a/2=two"]);
    assert!(replica.standings().iter().all(|s| s.listed && s.error.is_none()));
    // A compare on what the file remembered holds.
    let compares = vec![crate::Compare::unchanged("/a/1", first)];
    let request = Request { compares, then: vec![Op::put("/a/1", "mine")], otherwise: vec![] };
    assert!(replica.txn(request).await.unwrap().succeeded);
    assert_eq!(value(&replica, "/a/1").await.as_deref(), Some("mine"));
}

#[tokio::test]
async fn after_a_compaction_the_difference_is_told() {
    for cut in [Mode::Silent, Mode::Broken] {
        let bed = Bed::new();
        put(&*bed.origin, "/a/stays", "x").await;
        put(&*bed.origin, "/a/gone", "x").await;
        let replica = bed.open().await.unwrap();
        assert!(replica.caught_up(PATIENCE).await);
        let mut watch = replica.watch(b"/a/", 0).await.unwrap();
        bed.wire.set(cut);
        delete(&*bed.origin, "/a/gone").await;
        for n in 0..300 {
            put(&*bed.origin, "/a/n", &n.to_string()).await;
        }
        bed.origin.compact(bed.origin.revision().await.unwrap()).await.unwrap();
        bed.wire.set(Mode::Whole);
        assert_eq!(shown(&next(&mut watch).await.unwrap()), ["-/a/gone", "/a/n=299"], "{cut:?}");
        bed.same(&replica, &["/a/", "/b/"]).await;
        put(&replica, "/a/n", "mine").await;
        assert_eq!(shown(&next(&mut watch).await.unwrap()), ["/a/n=mine"]);
    }
}

#[tokio::test]
async fn a_replaced_store_is_not_gone_on_with_until_a_new_start() {
    let bed = Bed::new();
    for n in 0..20 {
        put(&*bed.origin, "/a/1", &n.to_string()).await;
    }
    put(&*bed.origin, "/b/lost", "x").await;
    let replica = bed.open().await.unwrap();
    assert!(replica.caught_up(PATIENCE).await);
    bed.wire.set(Mode::Replaced);
    let refused = replica.txn(Request::always(vec![Op::put("/a/1", "x")])).await;
    assert!(matches!(refused, Err(StoreError::Replaced { .. })), "{refused:?}");
    let stopped = replica.until(PATIENCE, |s| {
        s.follows.values().all(|f| matches!(f.error, Some(StoreError::Replaced { .. })))
    });
    assert!(stopped.await, "{:?}", replica.standings());
    // Even when the right one answers again: nobody can tell what happened between.
    bed.wire.set(Mode::Whole);
    put(&*bed.origin, "/a/1", "not seen").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(value(&replica, "/a/1").await.as_deref(), Some("19"));
    drop(replica);
    // An older state, with lower revisions and another history.
    let other = Arc::new(Embedded::open(bed.dir.path().join("other.redb"), Options::default()).unwrap());
    let low = put(&*other, "/a/1", "restored").await;
    let wire = Arc::new(Wire::to(Arc::clone(&other) as Arc<dyn Kv>));
    wire.set(Mode::Silent);
    let replica = Replica::open(Arc::clone(&wire) as Arc<dyn Kv>, bed.options()).await.unwrap();
    let before = replica.revision().await.unwrap();
    assert!(before > low + 10);
    let mut watch = replica.watch(b"/", 0).await.unwrap();
    wire.set(Mode::Whole);
    let mut told = shown(&next(&mut watch).await.unwrap());
    told.extend(shown(&next(&mut watch).await.unwrap()));
    told.sort();
    assert_eq!(told, ["-/b/lost", "/a/1=restored"]);
    let mine = put(&replica, "/a/2", "mine").await;
    assert_eq!(mine, low + 1, "an answer has the store's revision");
    assert_eq!(replica.get(b"/a/2").await.unwrap().map(|i| i.mod_revision), Some(mine));
    assert!(replica.local_revision() > Some(before), "positions do not go back");
}

#[tokio::test]
async fn a_write_that_is_not_seen_in_time_is_told_as_unknown() {
    let bed = Bed::new();
    bed.wire.late("/a/", Duration::from_millis(600));
    let options = ReplicaOptions { patience: Duration::from_millis(100), ..bed.options() };
    let replica = Replica::open(Arc::clone(&bed.wire) as Arc<dyn Kv>, options).await.unwrap();
    assert!(replica.caught_up(PATIENCE).await);
    let late = replica.txn(Request::always(vec![Op::put("/a/1", "x")])).await;
    assert!(matches!(late, Err(StoreError::Unknown { doing: "write", .. })), "{late:?}");
    assert_eq!(value(&*bed.origin, "/a/1").await.as_deref(), Some("x"));
    put(&replica, "/b/1", "x").await;
    put(&replica, "/elsewhere", "x").await;
    bed.same(&replica, &["/a/", "/b/"]).await;
}

/// Two prefixes are not told in step: a change that comes late still moves the position, and is told to a watch over both.
#[tokio::test]
async fn a_late_prefix_moves_the_position_too() {
    let bed = Bed::new();
    bed.wire.late("/a/", Duration::from_millis(300));
    let replica = bed.open().await.unwrap();
    assert!(replica.caught_up(PATIENCE).await);
    let mut watch = replica.watch(b"", 0).await.unwrap();
    let early = put(&*bed.origin, "/a/late", "x").await;
    for n in 0..10 {
        put(&replica, "/b/1", &n.to_string()).await;
    }
    let list = replica.range(b"").await.unwrap();
    assert!(list.revision > early && !list.items.iter().any(|i| i.key == "/a/late"), "the test is void");
    let mut since = replica.watch(b"", list.revision + 1).await.unwrap();
    let batch = next(&mut since).await.unwrap();
    assert_eq!(shown(&batch), ["/a/late=x"]);
    assert!(batch.revision > list.revision && replica.local_revision() >= Some(batch.revision));
    assert_eq!(replica.get(b"/a/late").await.unwrap().map(|i| i.mod_revision), Some(early));
    let mut last = 0;
    for _ in 0..11 {
        let revision = next(&mut watch).await.unwrap().revision;
        assert!(revision > last);
        last = revision;
    }
}
