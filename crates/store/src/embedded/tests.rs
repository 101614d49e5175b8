//! What is the embedded backend's own: the file, its lock, restarts, history on disk.

use std::{sync::Arc, time::Duration};

use weft_base::{Clock, FakeClock, Timestamp};

use super::*;
use crate::{Event, Op};

fn at(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("store.redb")
}

fn open(dir: &tempfile::TempDir) -> Embedded {
    Embedded::open(at(dir), Options::default()).unwrap()
}

async fn put(kv: &impl Kv, key: &str, value: &str) -> u64 {
    let op = Op::put(key.to_owned(), value.to_owned());
    kv.txn(Request::always(vec![op])).await.unwrap().revision
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract() {
    let dir = tempfile::tempdir().unwrap();
    let kv: Arc<dyn Kv> = Arc::new(open(&dir));
    crate::contract::run_all(|| async { Arc::clone(&kv) }).await;
}

#[tokio::test]
async fn a_history_of_huge_values_is_cut_short() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(&dir);
    let value = "x".repeat(3 << 20);
    for n in 0..90 {
        put(&kv, "/k", &format!("{n}{value}")).await;
    }
    let compacted = kv.shared.state.read().compacted;
    assert!(compacted > 1, "{compacted}");
    let reopened = kv.range(b"").await.unwrap();
    drop(kv);
    let size = std::fs::metadata(at(&dir)).unwrap().len();
    assert!(size < 600 << 20, "{size}");
    assert_eq!(open(&dir).range(b"").await.unwrap().items, reopened.items);
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let before = {
        let kv = open(&dir);
        for n in 0..50 {
            put(&kv, &format!("/k{}", n % 20), &n.to_string()).await;
        }
        kv.txn(Request::always(vec![Op::delete("/k3")])).await.unwrap();
        kv.range(b"").await.unwrap()
    };
    let kv = open(&dir);
    let after = kv.range(b"").await.unwrap();
    assert_eq!((after.revision, &after.items), (before.revision, &before.items));
    assert_eq!(after.items.len(), 19);
    // The history is there as well, and goes on without a gap.
    let mut watch = kv.watch(b"", 2).await.unwrap();
    put(&kv, "/new", "x").await;
    for revision in 2..=before.revision + 1 {
        assert_eq!(watch.next().await.unwrap().revision, revision);
    }
}

#[tokio::test]
async fn the_revision_never_goes_back_even_when_the_last_record_was_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let last = {
        let kv = open(&dir);
        put(&kv, "/a", "1").await;
        let last = kv.txn(Request::always(vec![Op::delete("/a")])).await.unwrap().revision;
        kv.compact(last).await.unwrap();
        last
    };
    let kv = open(&dir);
    assert_eq!(kv.revision().await.unwrap(), last);
    assert!(matches!(kv.watch(b"", last).await.err(), Some(StoreError::Compacted { .. })));
    assert_eq!(put(&kv, "/a", "2").await, last + 1);
}

#[tokio::test]
async fn a_second_opener_is_refused_with_the_files_name() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(&dir);
    let error = Embedded::open(at(&dir), Options::default()).err().unwrap();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("store.redb"), "{error}");
    let mut watch = kv.watch(b"", 0).await.unwrap();
    drop(kv);
    // A watch that is still held does not keep the file.
    drop(open(&dir));
    assert!(matches!(watch.next().await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn history_compacts_itself_and_a_lagging_watch_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let kv = Embedded::open(at(&dir), Options { retain: 10, ..Options::default() }).unwrap();
    let mut lagging = kv.watch(b"", 0).await.unwrap();
    for n in 0..100 {
        put(&kv, "/a", &n.to_string()).await;
    }
    assert!(matches!(lagging.next().await, Err(StoreError::Compacted { .. })));
    assert!(matches!(lagging.next().await, Err(StoreError::Closed)), "the error is the last word");
    let left = kv.shared.state.read().dead.len();
    assert!(left <= 21, "{left} dead records are kept");
    drop(kv);
    let report = crate::check(at(&dir)).unwrap();
    assert_eq!((report.keys, report.problems.len()), (1, 0));
}

#[tokio::test]
async fn leases_keep_their_deadline_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = FakeClock::at(Timestamp::from_unix(1_000_000, 0).unwrap());
    let options = || Options { clock: Arc::new(clock.clone()) as Arc<dyn Clock>, ..Options::default() };
    let leased = |lease| Op::Put { key: "/a".into(), value: "x".into(), lease: Some(lease) };
    let lease = {
        let kv = Embedded::open(at(&dir), options()).unwrap();
        let lease = kv.lease(Duration::from_secs(3600)).await.unwrap();
        kv.txn(Request::always(vec![leased(lease)])).await.unwrap();
        lease
    };
    clock.advance(Duration::from_secs(3000));
    {
        let kv = Embedded::open(at(&dir), options()).unwrap();
        let left = kv.shared.state.read().leases[&lease].deadline.elapsed();
        assert_eq!(left, Duration::ZERO, "it ends in the future");
        assert!(kv.get(b"/a").await.unwrap().is_some());
        let next = kv.lease(Duration::from_secs(1)).await.unwrap();
        assert!(next > lease, "ids are not given twice");
    }
    clock.advance(Duration::from_secs(601));
    let kv = Embedded::open(at(&dir), options()).unwrap();
    let mut watch = kv.watch(b"/a", kv.revision().await.unwrap()).await.unwrap();
    loop {
        let batch = watch.next().await.unwrap();
        if batch.events.iter().any(|e| matches!(e, Event::Delete { .. })) {
            break;
        }
    }
    assert!(kv.get(b"/a").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_share_commits() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(&dir);
    let writes = (0..500).map(|n| put(&kv, Box::leak(format!("/k{n}").into_boxed_str()), "x"));
    let mut revisions = futures_util::future::join_all(writes).await;
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), 500, "each transaction has its own revision");
    assert_eq!(kv.range(b"/k").await.unwrap().items.len(), 500);
}
