//! SIGKILL while a replica writes its file: what a start without the store finds is a state that the store had, whole and
//! not ahead of it.
//!
//! This binary starts itself again as the victim. It repeats one transaction that writes the same step to three keys
//! and removes the key of an earlier step, through a replica, with a store of its own beside it.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests say what they expect")]

use std::{
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use weft_store::{
    Embedded, Item, Kv, LeaseId, Op, Options, Range, Replica, ReplicaOptions, Request, Response, StoreError,
    Watch,
};

const VICTIM: &str = "WEFT_REPLICA_KILL_VICTIM";
const ROUNDS: u32 = 30;
const BUDGET: Duration = Duration::from_secs(15);
const WINDOW: u64 = 4;

fn options(dir: &Path) -> ReplicaOptions {
    ReplicaOptions {
        path: Some(dir.join("replica.redb")),
        follow: vec!["/k/".into()],
        pause: Duration::ZERO,
        ..ReplicaOptions::default()
    }
}

fn text(item: &Item) -> u64 {
    String::from_utf8_lossy(&item.value).trim_start_matches('x').parse().unwrap()
}

/// The victim; does nothing unless it is started as one.
#[test]
fn victim() {
    let Ok(dir) = std::env::var(VICTIM) else { return };
    let dir = Path::new(&dir);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let origin = Arc::new(Embedded::open(dir.join("store.redb"), Options::default()).unwrap());
        let kv = Replica::open(origin, options(dir)).await.unwrap();
        assert!(kv.caught_up(Duration::from_secs(20)).await);
        let mut step = kv.get(b"/k/a").await.unwrap().map_or(0, |i| text(&i));
        loop {
            step += 1;
            let value = format!("{}{step}", "x".repeat(usize::try_from(step % 9).unwrap() * 400));
            let mut then: Vec<_> = ["/k/a", "/k/b", "/k/c"].map(|k| Op::put(k, value.clone())).into();
            then.push(Op::put(format!("/k/step/{step:09}"), value));
            if step > WINDOW {
                then.push(Op::delete(format!("/k/step/{:09}", step - WINDOW)));
            }
            kv.txn(Request::always(then)).await.unwrap();
        }
    });
}

/// A store that is not there.
struct Gone;

fn gone<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable { store: "origin".into(), reason: "it is gone".into() })
}

#[async_trait]
impl Kv for Gone {
    async fn get(&self, _: &[u8]) -> Result<Option<Item>, StoreError> {
        gone()
    }
    async fn range(&self, _: &[u8]) -> Result<Range, StoreError> {
        gone()
    }
    async fn txn(&self, _: Request) -> Result<Response, StoreError> {
        gone()
    }
    async fn watch(&self, _: &[u8], _: u64) -> Result<Watch, StoreError> {
        gone()
    }
    async fn lease(&self, _: Duration) -> Result<LeaseId, StoreError> {
        gone()
    }
    async fn keepalive(&self, _: LeaseId) -> Result<Duration, StoreError> {
        gone()
    }
    async fn revoke(&self, _: LeaseId) -> Result<(), StoreError> {
        gone()
    }
    async fn compact(&self, _: u64) -> Result<(), StoreError> {
        gone()
    }
    async fn revision(&self) -> Result<u64, StoreError> {
        gone()
    }
}

/// The step that the file is at; none when the victim died before its first start was done.
async fn verify(dir: &Path, round: u32) -> Option<u64> {
    let origin = Embedded::open(dir.join("store.redb"), Options::default()).unwrap();
    let kv = match Replica::open(Arc::new(Gone), options(dir)).await {
        Ok(kv) => kv,
        Err(StoreError::Unavailable { .. }) => return None,
        Err(error) => panic!("round {round}: {error}"),
    };
    assert!(!dir.join("replica.redb.damaged").exists(), "round {round}: the file was damaged");
    let applied = kv.standings()[0].applied.unwrap();
    assert!(applied <= origin.revision().await.unwrap(), "round {round}: the file is ahead of the store");
    let items = kv.range(b"/k/").await.unwrap().items;
    let Some(head) = items.iter().find(|i| i.key == "/k/a") else {
        assert!(items.is_empty(), "round {round}: {items:?}");
        return Some(0);
    };
    let step = text(head);
    assert_eq!(head.mod_revision, applied, "round {round}");
    for key in ["/k/b", "/k/c"] {
        let item = items.iter().find(|i| i.key == key).unwrap();
        assert_eq!((text(item), item.mod_revision), (step, applied), "round {round}: half a transaction");
    }
    let steps: Vec<_> = items.iter().filter(|i| i.key.starts_with(b"/k/step/")).map(text).collect();
    let expected: Vec<_> = ((step + 1).saturating_sub(WINDOW).max(1)..=step).collect();
    assert_eq!(steps, expected, "round {round}: half a transaction");
    Some(step)
}

#[test]
fn killed_while_it_writes_the_file_is_whole_and_never_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let started = Instant::now();
    let (mut rounds, mut busy, mut last) = (0, 0, 0);
    while rounds < ROUNDS && (started.elapsed() < BUDGET || rounds == 0) {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--nocapture"])
            .env(VICTIM, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let jitter =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
        std::thread::sleep(Duration::from_millis(50 + u64::from(jitter / 1000 % 200)));
        victim.kill().unwrap();
        let status = victim.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "the victim ended by itself: {status}");
        rounds += 1;
        if let Some(step) = runtime.block_on(verify(dir.path(), rounds)) {
            assert!(step >= last, "round {rounds}: the file went back from step {last} to {step}");
            busy += u32::from(step > last);
            last = step;
        }
    }
    assert!(busy > rounds / 4, "only {busy} of {rounds} rounds got anything done: the test is void");
    println!("{rounds} kills, the file at step {last}");
}
