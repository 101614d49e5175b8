//! SIGKILL of the client and of the cluster's only member, at random points under concurrent load: every acknowledged
//! transaction is there, and each unacknowledged one is whole or absent. The same victim as the embedded store's.
//!
//! This binary starts itself again as the victim. Each of its writers repeats one transaction that moves a window: it
//! writes three keys of step `n`, the head, and removes the three keys of step `n - WINDOW`. After each acknowledgement it
//! notes the step in a file by one `write`, which outlives the process.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests say what they expect")]

mod common;

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use common::{open, put_at_last};
use weft_store::{Compare, Kv, Op, Request, StoreError};
use weft_store_etcd::Etcd;
use weft_testkit::etcd;

const VICTIM: &str = "WEFT_ETCD_KILL_VICTIM";
const ADDRESS: &str = "WEFT_ETCD_KILL_ADDRESS";
const WRITERS: usize = 8;
const WINDOW: u64 = 5;
const ROUNDS: u32 = 24;
const BUDGET: Duration = Duration::from_secs(25);

fn key(writer: usize, step: u64, part: char) -> String {
    format!("/weft/v1/k/{writer:02}/{step:09}/{part}")
}

fn head(writer: usize) -> String {
    format!("/weft/v1/head/{writer:02}")
}

/// Where a writer stands: its step and the head's revision.
async fn standing(kv: &Etcd, writer: usize) -> Result<(u64, u64), StoreError> {
    let found = kv.get(head(writer).as_bytes()).await?;
    Ok(found.map_or((0, 0), |i| (String::from_utf8_lossy(&i.value).parse().unwrap(), i.mod_revision)))
}

async fn write_for_ever(kv: Arc<Etcd>, writer: usize, mut acked: File) {
    'anew: loop {
        // After a lost answer, and at the start: what is there is where it goes on.
        let Ok((mut step, mut revision)) = standing(&kv, writer).await else { continue };
        loop {
            step += 1;
            let mut then = vec![Op::put(head(writer), step.to_string())];
            then.extend(['a', 'b', 'c'].map(|part| Op::put(key(writer, step, part), step.to_string())));
            if step > WINDOW {
                then.extend(['a', 'b', 'c'].map(|part| Op::delete(key(writer, step - WINDOW, part))));
            }
            let compares = vec![Compare::unchanged(head(writer), revision)];
            match kv.txn(Request { compares, then, otherwise: vec![] }).await {
                Ok(response) => {
                    assert!(response.succeeded, "nobody else writes here");
                    revision = response.revision;
                    acked.write_all(format!("{writer} {step}\n").as_bytes()).unwrap();
                }
                Err(error) if error.transient() => continue 'anew,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// The victim; does nothing unless it is started as one.
#[test]
fn victim() {
    let (Ok(dir), Ok(address)) = (std::env::var(VICTIM), std::env::var(ADDRESS)) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let kv = loop {
            let config = common::config(&format!("etcd://{address}"));
            match Etcd::connect(config, common::quick()).await {
                Ok(kv) => break Arc::new(kv),
                Err(error) => assert!(error.transient(), "{error}"),
            }
        };
        let acked = OpenOptions::new().append(true).create(true).open(Path::new(&dir).join("acked")).unwrap();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(write_for_ever(Arc::clone(&kv), writer, acked.try_clone().unwrap())))
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

/// The last acknowledged step of each writer.
fn acknowledged(dir: &Path) -> BTreeMap<usize, u64> {
    let text = std::fs::read_to_string(dir.join("acked")).unwrap_or_default();
    let pair = |line: &str| {
        let (writer, step) = line.split_once(' ').unwrap();
        (writer.parse().unwrap(), step.parse().unwrap())
    };
    text.lines().map(pair).collect()
}

/// All windows are whole in one picture of the store: what a dead client had under way may still come.
async fn verify(kv: &Etcd, dir: &Path, round: u32) -> u64 {
    let acked = acknowledged(dir);
    let items = kv.range(b"/weft/v1/").await.unwrap().items;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let all: BTreeMap<_, _> = items.iter().map(|i| (text(&i.key), text(&i.value))).collect();
    let mut expected_keys = 0;
    for writer in 0..WRITERS {
        let acked = acked.get(&writer).copied().unwrap_or(0);
        let step: u64 = all.get(&head(writer)).map_or(0, |step| step.parse().unwrap());
        assert!(step >= acked, "round {round}: writer {writer} is at step {step}, acknowledged was {acked}");
        for there in step.saturating_sub(WINDOW - 1).max(1)..=step {
            for part in ['a', 'b', 'c'] {
                let value = all.get(&key(writer, there, part));
                assert_eq!(value, Some(&there.to_string()), "round {round}: {writer}/{there}/{part}");
                expected_keys += 1;
            }
        }
    }
    let keys = all.keys().filter(|key| key.starts_with("/weft/v1/k/")).count();
    assert_eq!(keys, expected_keys, "round {round}: keys of a transaction that is not whole");
    acked.values().sum()
}

#[test]
fn killed_at_random_points_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = etcd::Etcd::single().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let kv = runtime.block_on(open(&cluster.endpoints()));
    let started = Instant::now();
    let (mut steps, mut rounds, mut busy) = (0, 0, 0);
    while rounds < ROUNDS && (started.elapsed() < BUDGET || rounds == 0) {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--nocapture"])
            .env(VICTIM, dir.path())
            .env(ADDRESS, cluster.endpoints())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let jitter =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
        let some_time = || std::thread::sleep(Duration::from_millis(80 + u64::from(jitter / 1000 % 300)));
        some_time();
        // Every third time the member dies under the client, which goes on with it, then the client.
        let both = rounds % 3 == 2;
        if both {
            cluster.kill(0).unwrap();
            cluster.restart(0).unwrap();
            cluster.wait().unwrap();
            std::thread::sleep(Duration::from_millis(500));
        }
        victim.kill().unwrap();
        let status = victim.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "the victim ended by itself: {status}");
        rounds += 1;
        runtime.block_on(async {
            // The member may just have come back.
            put_at_last(&kv, "/weft/v1/barrier", "x").await;
            let now = verify(&kv, dir.path(), rounds).await;
            busy += u32::from(now > steps);
            steps = now;
        });
    }
    assert!(busy > rounds / 2, "only {busy} of {rounds} rounds got anything done: the test is void");
    println!("{rounds} kills, {steps} acknowledged transactions");
}
