//! What the tests of the crate share: stores on real clusters, and small words for writing and watching.
#![allow(dead_code, clippy::unwrap_used, reason = "helpers of tests; each test uses some")]

use std::time::Duration;

use weft_store::{Batch, Event, Kv, Op, Request, StoreError, Watch};
use weft_store_etcd::{Config, Etcd, Options};

/// Times short enough for a test to wait for them.
pub fn quick() -> Options {
    let ms = Duration::from_millis;
    Options { request: ms(2500), attempt: ms(700), connect: ms(700), ping: Duration::from_secs(10) }
}

/// How long a call may take beyond its time on a busy machine.
pub const SLACK: Duration = Duration::from_secs(2);
/// For what must come.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn config(text: &str) -> Config {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

pub async fn open(address: &str) -> Etcd {
    let address = format!("etcd://{address}");
    Etcd::connect(config(&address), quick()).await.unwrap_or_else(|e| panic!("{address}: {e}"))
}

pub async fn refused(address: &str) -> StoreError {
    let address = format!("etcd://{address}");
    match Etcd::connect(config(&address), quick()).await {
        Ok(_) => panic!("{address} was opened"),
        Err(error) => error,
    }
}

pub async fn try_put(kv: &impl Kv, key: &str, value: &str) -> Result<u64, StoreError> {
    let op = Op::put(key.to_owned(), value.to_owned());
    Ok(kv.txn(Request::always(vec![op])).await?.revision)
}

pub async fn put(kv: &impl Kv, key: &str, value: &str) -> u64 {
    try_put(kv, key, value).await.unwrap_or_else(|e| panic!("put {key}: {e}"))
}

/// Tries until it is done: the cluster comes back.
pub async fn put_at_last(kv: &impl Kv, key: &str, value: &str) -> u64 {
    let begun = std::time::Instant::now();
    loop {
        match try_put(kv, key, value).await {
            Ok(revision) => return revision,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "put {key}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn value(kv: &impl Kv, key: &str) -> Option<String> {
    let item = kv.get(key.as_bytes()).await.unwrap_or_else(|e| panic!("get {key}: {e}"));
    item.map(|i| String::from_utf8_lossy(&i.value).into_owned())
}

pub async fn next(watch: &mut Watch) -> Result<Batch, StoreError> {
    tokio::time::timeout(PATIENCE, watch.next()).await.expect("a watch did not tell of a change")
}

/// A batch as `key=value` and `-key`.
pub fn shown(batch: &Batch) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let one = |event: &Event| match event {
        Event::Put(item) => format!("{}={}", text(&item.key), text(&item.value)),
        Event::Delete { key, .. } => format!("-{}", text(key)),
    };
    batch.events.iter().map(one).collect()
}
