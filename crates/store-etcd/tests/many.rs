//! Much at once: many watches on one connection, slow readers, long ranges, large transactions.
#![allow(clippy::unwrap_used, reason = "helpers of tests say what they expect")]

mod common;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use common::{PATIENCE, next, open, put, shown};
use weft_store::{Kv, MAX_OPS, MAX_VALUE, Op, Request, StoreError};
use weft_testkit::etcd::Etcd;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_watches_on_one_connection() {
    const WATCHES: usize = 1000;
    let mut cluster = Etcd::single().unwrap();
    let kv = open(&cluster.endpoints()).await;
    let mut watches = Vec::new();
    let from = kv.revision().await.unwrap() + 1;
    for n in 0..WATCHES {
        watches.push(kv.watch(format!("/weft/v1/k/{n:04}/").as_bytes(), from).await.unwrap());
    }
    let all = |value: &'static str| {
        let keys: Vec<_> = (0..WATCHES).map(|n| format!("/weft/v1/k/{n:04}/a")).collect();
        keys.chunks(100)
            .map(|c| c.iter().map(|k| Op::put(k.clone(), value)).collect())
            .collect::<Vec<Vec<_>>>()
    };
    for (round, value) in ["before", "after"].into_iter().enumerate() {
        for ops in all(value) {
            kv.txn(Request::always(ops)).await.unwrap();
        }
        for (n, watch) in watches.iter_mut().enumerate() {
            let told = shown(&next(watch).await.unwrap());
            assert_eq!(told, [format!("/weft/v1/k/{n:04}/a={value}")]);
        }
        if round == 0 {
            let port = cluster.endpoint(0).rsplit(':').next().unwrap().to_owned();
            let sockets = std::process::Command::new("ss")
                .args(["-Htnp", "state", "established", "dport", &port])
                .output();
            if let Ok(sockets) = sockets {
                let text = String::from_utf8_lossy(&sockets.stdout).into_owned();
                let ours = format!("pid={},", std::process::id());
                assert_eq!(text.lines().filter(|l| l.contains(&ours)).count(), 1, "{text}");
            }
            cluster.kill(0).unwrap();
            cluster.restart(0).unwrap();
            cluster.wait().unwrap();
            let begun = Instant::now();
            while kv.revision().await.is_err() {
                assert!(begun.elapsed() < PATIENCE);
            }
        }
    }
    drop(watches);
}

/// A reader that does not read costs nobody else anything, and gets everything when it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_parked_and_misses_nothing() {
    const CHANGES: usize = 300;
    let cluster = Etcd::single().unwrap();
    let kv = open(&cluster.endpoints()).await;
    let mut slow = kv.watch(b"/weft/v1/", 0).await.unwrap();
    let mut quick = kv.watch(b"/weft/v1/", 0).await.unwrap();
    let value = "x".repeat(100 << 10);
    for n in 0..CHANGES {
        let revision = put(&kv, &format!("/weft/v1/k/{n}"), &value).await;
        assert_eq!(next(&mut quick).await.unwrap().revision, revision, "the other one is not held up");
    }
    for n in 0..CHANGES {
        let batch = next(&mut slow).await.unwrap();
        assert_eq!(batch.events[0].key(), &format!("/weft/v1/k/{n}"));
    }
    put(&kv, "/weft/v1/end", "x").await;
    assert_eq!(shown(&next(&mut slow).await.unwrap()), ["/weft/v1/end=x"]);
}

/// A revision larger than a message of the server comes in parts and is handed on whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_revision_is_handed_on_whole() {
    let cluster = Etcd::single().unwrap();
    let kv = open(&cluster.endpoints()).await;
    let value = "x".repeat(11 << 10);
    let put = |n: usize| Op::put(format!("/weft/v1/k/{n:03}"), value.clone());
    let first = kv.txn(Request::always((0..MAX_OPS).map(put).collect())).await.unwrap().revision;
    let second = kv.txn(Request::always((0..MAX_OPS).map(put).collect())).await.unwrap().revision;
    let mut watch = kv.watch(b"/weft/v1/", first).await.unwrap();
    for revision in [first, second] {
        let batch = next(&mut watch).await.unwrap();
        assert_eq!((batch.revision, batch.events.len()), (revision, MAX_OPS));
    }
}

/// A range of many pages is one picture, while others write and compact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_range_is_one_picture() {
    const KEYS: usize = 3000;
    let cluster = Etcd::single().unwrap();
    let kv = Arc::new(open(&cluster.endpoints()).await);
    let key = |n: usize| format!("/weft/v1/k/{n:05}");
    for chunk in (0..KEYS).collect::<Vec<_>>().chunks(MAX_OPS) {
        let ops = chunk.iter().map(|n| Op::put(key(*n), "0")).collect();
        kv.txn(Request::always(ops)).await.unwrap();
    }
    // Each change writes the first and the last key alike.
    let writer = tokio::spawn({
        let kv = Arc::clone(&kv);
        async move {
            for n in 1.. {
                let value = n.to_string();
                let ops = vec![Op::put(key(0), value.clone()), Op::put(key(KEYS - 1), value)];
                let revision = kv.txn(Request::always(ops)).await.unwrap().revision;
                if n % 50 == 0 {
                    kv.compact(revision).await.unwrap();
                }
            }
        }
    });
    for _ in 0..30 {
        let range = kv.range(b"/weft/v1/k/").await.unwrap();
        let names: BTreeMap<_, _> = range.items.iter().map(|i| (i.key.clone(), i.value.clone())).collect();
        assert_eq!((range.items.len(), names.len()), (KEYS, KEYS));
        assert!(range.items.is_sorted_by(|a, b| a.key < b.key));
        assert_eq!(range.items[0].value, range.items[KEYS - 1].value, "first and last are of one revision");
        assert!(range.items.iter().all(|i| i.mod_revision <= range.revision));
    }
    writer.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_of_large_values_and_transactions_that_are_too_large() {
    let cluster = Etcd::single().unwrap();
    let kv = open(&cluster.endpoints()).await;
    let value = "x".repeat(MAX_VALUE);
    for n in 0..24 {
        put(&kv, &format!("/weft/v1/k/{n:02}"), &value).await;
    }
    let items = kv.range(b"/weft/v1/k/").await.unwrap().items;
    assert!(items.len() == 24 && items.iter().all(|i| i.value.len() == MAX_VALUE));
    let two = vec![
        Op::put("/weft/v1/k/00", value.clone()),
        Op::put("/weft/v1/k/01", value[..1_000_000].to_owned()),
    ];
    let outcome = kv.txn(Request::always(two)).await;
    assert!(matches!(outcome, Err(StoreError::RequestTooLarge { .. })), "{outcome:?}");
    // Beyond what the transport takes, too.
    let ten = (0..10).map(|n| Op::put(format!("/weft/v1/k/{n:02}"), value.clone())).collect();
    let outcome = kv.txn(Request::always(ten)).await;
    assert!(matches!(outcome, Err(StoreError::RequestTooLarge { .. })), "{outcome:?}");
    put(&kv, "/weft/v1/k/00", "x").await;
}

/// A store that is dropped ends its watches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_end_with_their_store() {
    let cluster = Etcd::single().unwrap();
    let kv = open(&cluster.endpoints()).await;
    let mut watch = kv.watch(b"/", 0).await.unwrap();
    drop(kv);
    assert!(matches!(next(&mut watch).await, Err(StoreError::Closed)));
}
