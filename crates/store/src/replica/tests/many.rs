//! Load, many watches, slow ones, prefixes that come and go.

use super::*;

/// Sixteen writers count, each its own key, while the watches are late and somebody else writes: what was acknowledged is
/// read at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_writes_are_read_under_load() {
    let bed = Bed::new();
    bed.wire.late("/a/", Duration::from_millis(3));
    let replica = Arc::new(bed.open().await.unwrap());
    assert!(replica.caught_up(PATIENCE).await);
    let stranger = tokio::spawn({
        let origin = Arc::clone(&bed.origin);
        async move {
            for n in 0..400 {
                put(&*origin, ["/a/other", "/b/other"][n % 2], &n.to_string()).await;
            }
        }
    });
    let writers = (0..16).map(|writer| {
        let kv = Arc::clone(&replica);
        tokio::spawn(async move {
            let key = format!("{}{writer:02}", ["/a/", "/b/"][writer % 2]);
            for n in 0..20 {
                let revision = put(&*kv, &key, &n.to_string()).await;
                assert_eq!(value(&*kv, &key).await, Some(n.to_string()));
                assert_eq!(kv.get(key.as_bytes()).await.unwrap().map(|i| i.mod_revision), Some(revision));
                assert!(kv.local_revision() >= Some(revision));
            }
            kv.txn(Request::always(vec![Op::DeleteRange { prefix: key.clone().into() }])).await.unwrap();
            assert_eq!(value(&*kv, &key).await, None);
        })
    });
    for writer in futures_util::future::join_all(writers).await {
        writer.unwrap();
    }
    stranger.await.unwrap();
    bed.same(&replica, &["/a/", "/b/"]).await;
}

/// A removal over several followed prefixes is seen when it is answered.
#[tokio::test]
async fn a_removal_over_prefixes_is_seen() {
    let bed = Bed::new();
    bed.wire.late("/b/", Duration::from_millis(50));
    let replica = bed.open().await.unwrap();
    assert!(replica.caught_up(PATIENCE).await);
    for _ in 0..3 {
        put(&replica, "/a/1", "x").await;
        put(&replica, "/b/1", "x").await;
        replica.txn(Request::always(vec![Op::DeleteRange { prefix: "/".into() }])).await.unwrap();
        assert!(replica.range(b"").await.unwrap().items.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_watches_and_those_that_are_slow() {
    const WATCHES: usize = 1000;
    const ROUNDS: usize = 3;
    let bed = Bed::new();
    let options = ReplicaOptions { retain: 3500, ..bed.options() };
    let replica = Replica::open(Arc::clone(&bed.wire) as Arc<dyn Kv>, options).await.unwrap();
    let mut watches = Vec::new();
    for n in 0..WATCHES {
        watches.push(replica.watch(format!("/a/{n:04}/").as_bytes(), 0).await.unwrap());
    }
    let mut slow = replica.watch(b"/a/", 0).await.unwrap();
    for round in 0..ROUNDS {
        let all: Vec<_> = (0..WATCHES).map(|n| Op::put(format!("/a/{n:04}/k"), round.to_string())).collect();
        for ops in all.chunks(100) {
            replica.txn(Request::always(ops.to_vec())).await.unwrap();
        }
    }
    for (n, watch) in watches.iter_mut().enumerate() {
        for round in 0..ROUNDS {
            assert_eq!(shown(&next(watch).await.unwrap()), [format!("/a/{n:04}/k={round}")]);
        }
    }
    // One that begins to read late misses nothing while the changes are kept.
    for _ in 0..ROUNDS * WATCHES / 100 {
        assert_eq!(next(&mut slow).await.unwrap().events.len(), 100);
    }
    drop(replica);
    assert!(matches!(next(&mut slow).await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn a_watch_that_is_too_slow_is_told_and_finds_all_in_a_list() {
    let bed = Bed::new();
    let options = ReplicaOptions { retain: 10, ..bed.options() };
    let replica = Replica::open(Arc::clone(&bed.wire) as Arc<dyn Kv>, options).await.unwrap();
    let mut slow = replica.watch(b"/a/", 0).await.unwrap();
    for n in 0..30 {
        put(&replica, "/a/1", &n.to_string()).await;
    }
    assert!(matches!(next(&mut slow).await, Err(StoreError::Compacted { .. })));
    assert!(matches!(next(&mut slow).await, Err(StoreError::Closed)), "the error is the last word");
    let list = replica.range(b"/a/").await.unwrap();
    let mut watch = replica.watch(b"/a/", list.revision + 1).await.unwrap();
    put(&replica, "/a/1", "after").await;
    assert_eq!(
        (&list.items[0].value[..], shown(&next(&mut watch).await.unwrap())),
        (&b"29"[..], vec!["/a/1=after".to_owned()])
    );
}

#[tokio::test]
async fn prefixes_are_followed_and_left_while_it_runs() {
    let bed = Bed::new();
    put(&*bed.origin, "/fact/n1/p", "1").await;
    put(&*bed.origin, "/fact/n2/p", "2").await;
    let replica = bed.open().await.unwrap();
    let mut facts = replica.watch(b"/fact/", 0).await.unwrap();
    assert!(replica.range(b"/fact/").await.unwrap().items.is_empty());
    assert!(matches!(replica.get(b"/fact/n1/p").await, Err(StoreError::NotFollowed { .. })));
    assert!(matches!(replica.range(b"/other/").await, Err(StoreError::NotFollowed { .. })));
    assert!(matches!(replica.watch(b"/other/", 0).await, Err(StoreError::NotFollowed { .. })));
    replica.follow("/fact/n1/").unwrap();
    replica.follow("/fact/n1/").unwrap();
    assert!(matches!(replica.follow("/fact/"), Err(StoreError::Invalid { .. })));
    assert!(matches!(replica.follow("/a/x/"), Err(StoreError::Invalid { .. })));
    assert_eq!(shown(&next(&mut facts).await.unwrap()), ["/fact/n1/p=1"]);
    put(&*bed.origin, "/fact/n2/p", "not heard").await;
    put(&replica, "/fact/n1/q", "1").await;
    assert_eq!(shown(&next(&mut facts).await.unwrap()), ["/fact/n1/q=1"]);
    // Over a restart without the store it is still known.
    drop(replica);
    bed.wire.set(Mode::Silent);
    let replica = bed.open().await.unwrap();
    assert_eq!(value(&replica, "/fact/n1/q").await.as_deref(), Some("1"));
    let mut facts = replica.watch(b"/fact/", 0).await.unwrap();
    // One that is followed now cannot be read before it was listed: empty would be a lie.
    replica.follow("/fact/n2/").unwrap();
    let early = replica.get(b"/fact/n2/p").await;
    assert!(matches!(early, Err(StoreError::Unavailable { .. })), "{early:?}");
    replica.leave(b"/fact/n1/");
    assert_eq!(shown(&next(&mut facts).await.unwrap()), ["-/fact/n1/p", "-/fact/n1/q"]);
    assert!(matches!(replica.get(b"/fact/n1/p").await, Err(StoreError::NotFollowed { .. })));
    bed.wire.set(Mode::Whole);
    assert_eq!(shown(&next(&mut facts).await.unwrap()), ["/fact/n2/p=not heard"]);
    put(&*bed.origin, "/fact/n1/p", "left").await;
    put(&replica, "/fact/n2/p", "2").await;
    assert_eq!(shown(&next(&mut facts).await.unwrap()), ["/fact/n2/p=2"]);
}
