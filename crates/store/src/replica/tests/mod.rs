//! A replica over an embedded store, with a wire between them that can be cut, and slow.

mod file;
mod many;
mod offline;
mod random;
mod wire;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use tempfile::TempDir;

use self::wire::{Mode, Wire};
use crate::{Batch, Embedded, Event, Kv, Op, Options, Replica, ReplicaOptions, Request, StoreError, Watch};

/// For what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store, the wire to it, and where the replica's file is.
struct Bed {
    dir: TempDir,
    origin: Arc<Embedded>,
    wire: Arc<Wire>,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { retain: 100, ..Options::default() };
        let origin = Arc::new(Embedded::open(dir.path().join("store.redb"), options).unwrap());
        let wire = Arc::new(Wire::to(Arc::clone(&origin) as Arc<dyn Kv>));
        Self { dir, origin, wire }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("replica.redb")
    }

    fn options(&self) -> ReplicaOptions {
        ReplicaOptions {
            path: Some(self.path()),
            follow: vec!["/a/".into(), "/b/".into()],
            partial: vec!["/fact/".into()],
            patience: Duration::from_secs(10),
            pause: Duration::from_millis(1),
            ..ReplicaOptions::default()
        }
    }

    async fn open(&self) -> Result<Replica, StoreError> {
        Replica::open(Arc::clone(&self.wire) as Arc<dyn Kv>, self.options()).await
    }

    /// Waits until the replica shows what the store holds below its prefixes.
    async fn same(&self, replica: &Replica, prefixes: &[&str]) {
        let begun = std::time::Instant::now();
        loop {
            let (mut here, mut there) = (Vec::new(), Vec::new());
            for prefix in prefixes {
                here.extend(replica.range(prefix.as_bytes()).await.unwrap().items);
                there.extend(self.origin.range(prefix.as_bytes()).await.unwrap().items);
            }
            if here == there {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "the replica has {here:#?}, the store {there:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn put(kv: &impl Kv, key: &str, value: &str) -> u64 {
    let request = Request::always(vec![Op::put(key.to_owned(), value.to_owned())]);
    kv.txn(request).await.unwrap_or_else(|e| panic!("put {key}: {e}")).revision
}

async fn delete(kv: &impl Kv, key: &str) {
    kv.txn(Request::always(vec![Op::delete(key.to_owned())])).await.unwrap();
}

async fn value(kv: &impl Kv, key: &str) -> Option<String> {
    let item = kv.get(key.as_bytes()).await.unwrap_or_else(|e| panic!("get {key}: {e}"));
    item.map(|i| String::from_utf8_lossy(&i.value).into_owned())
}

async fn next(watch: &mut Watch) -> Result<Batch, StoreError> {
    tokio::time::timeout(PATIENCE, watch.next()).await.expect("a watch did not tell of a change")
}

/// A batch as `key=value` and `-key`, sorted.
fn shown(batch: &Batch) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let one = |event: &Event| match event {
        Event::Put(item) => format!("{}={}", text(&item.key), text(&item.value)),
        Event::Delete { key, .. } => format!("-{}", text(key)),
    };
    let mut all: Vec<_> = batch.events.iter().map(one).collect();
    all.sort();
    all
}

/// What a reader knows who listed and then takes what the watch tells.
fn learn(known: &mut BTreeMap<Bytes, Bytes>, batch: &Batch) {
    for event in &batch.events {
        match event {
            Event::Put(item) => known.insert(item.key.clone(), item.value.clone()),
            Event::Delete { key, .. } => known.remove(key),
        };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_with_one_replica() {
    let bed = Bed::new();
    let origin = Embedded::open(bed.dir.path().join("whole.redb"), Options::default()).unwrap();
    let options = ReplicaOptions { follow: vec!["/contract/".into()], ..bed.options() };
    let kv: Arc<dyn Kv> = Arc::new(Replica::open(Arc::new(origin), options).await.unwrap());
    crate::contract::run_all(|| async { Arc::clone(&kv) }).await;
}

/// Each case has a replica of its own, without a file, of everything there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_with_new_replicas() {
    let bed = Bed::new();
    let origin = Embedded::open(bed.dir.path().join("whole.redb"), Options::default()).unwrap();
    let origin: Arc<dyn Kv> = Arc::new(origin);
    crate::contract::run_all(|| async {
        let options = ReplicaOptions { follow: vec![Bytes::new()], ..ReplicaOptions::default() };
        Arc::new(Replica::open(Arc::clone(&origin), options).await.unwrap()) as Arc<dyn Kv>
    })
    .await;
}
