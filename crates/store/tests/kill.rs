//! SIGKILL at random points under concurrent load, round after round on one file: every acknowledged
//! transaction is there, and each unacknowledged one is whole or absent.
//!
//! This binary starts itself again as the victim. Each of its writers repeats one transaction that moves a
//! window: it writes three keys of step `n`, the head, and removes the three keys of step `n - WINDOW`. After each
//! acknowledgement it notes the step in a file by one `write`, which outlives the process.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests say what they expect")]

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

use weft_store::{Compare, Embedded, Kv, Op, Options, Request, check};

const VICTIM: &str = "WEFT_STORE_KILL_VICTIM";
const WRITERS: usize = 16;
const WINDOW: u64 = 5;
const ROUNDS: u32 = 40;
const BUDGET: Duration = Duration::from_secs(15);

/// A small history, so that compaction runs under the axe too.
fn options() -> Options {
    Options { retain: 200, ..Options::default() }
}

fn key(writer: usize, step: u64, part: char) -> String {
    format!("/k/{writer:02}/{step:09}/{part}")
}

fn head(writer: usize) -> String {
    format!("/head/{writer:02}")
}

async fn write_for_ever(kv: Arc<Embedded>, writer: usize, mut acked: File) {
    let found = kv.get(head(writer).as_bytes()).await.unwrap();
    let (mut step, mut revision) =
        found.map_or((0, 0), |i| (String::from_utf8_lossy(&i.value).parse().unwrap(), i.mod_revision));
    loop {
        step += 1;
        let pad = "x".repeat(usize::try_from(step % 7).unwrap() * 300);
        let value = format!("{{\"step\":{step},\"pad\":\"{pad}\"}}");
        let mut then = vec![Op::put(head(writer), step.to_string())];
        then.extend(['a', 'b', 'c'].map(|part| Op::put(key(writer, step, part), value.clone())));
        if step > WINDOW {
            then.extend(['a', 'b', 'c'].map(|part| Op::delete(key(writer, step - WINDOW, part))));
        }
        let compares = vec![Compare::unchanged(head(writer), revision)];
        let response = kv.txn(Request { compares, then, otherwise: vec![] }).await.unwrap();
        assert!(response.succeeded);
        revision = response.revision;
        acked.write_all(format!("{writer} {step} {revision}\n").as_bytes()).unwrap();
    }
}

/// The victim; does nothing unless it is started as one.
#[test]
fn victim() {
    let Ok(dir) = std::env::var(VICTIM) else { return };
    let dir = Path::new(&dir);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let kv = Arc::new(Embedded::open(dir.join("store.redb"), options()).unwrap());
        let acked = OpenOptions::new().append(true).create(true).open(dir.join("acked")).unwrap();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(write_for_ever(Arc::clone(&kv), writer, acked.try_clone().unwrap())))
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

/// The last acknowledged step of each writer, and the newest acknowledged revision.
fn acknowledged(dir: &Path) -> (BTreeMap<usize, u64>, u64) {
    let text = std::fs::read_to_string(dir.join("acked")).unwrap_or_default();
    let (mut steps, mut newest) = (BTreeMap::new(), 0);
    for line in text.lines() {
        let mut parts = line.split(' ').map(|p| p.parse::<u64>().unwrap());
        let (writer, step, revision) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        steps.insert(usize::try_from(writer).unwrap(), step);
        newest = newest.max(revision);
    }
    (steps, newest)
}

/// Checks the file after a kill. `known` has the step at which each writer began this round: an unacknowledged
/// step of the round before that was found whole is where its writer went on from.
async fn verify(dir: &Path, round: u32, known: &mut BTreeMap<usize, u64>) -> u64 {
    let (acked, newest) = acknowledged(dir);
    let kv = Embedded::open(dir.join("store.redb"), options()).unwrap();
    assert!(kv.revision().await.unwrap() >= newest, "round {round}: the revision went back");
    let mut expected_keys = 0;
    for writer in 0..WRITERS {
        let began = known.get(&writer).copied().unwrap_or(0);
        let acked = acked.get(&writer).copied().unwrap_or(0).max(began);
        let item = kv.get(head(writer).as_bytes()).await.unwrap();
        let step = item.map_or(0, |i| String::from_utf8_lossy(&i.value).parse().unwrap());
        assert!(
            step == acked || step == acked + 1,
            "round {round}: writer {writer} is at step {step}, acknowledged (or found at the start) was {acked}"
        );
        known.insert(writer, step);
        for there in step.saturating_sub(WINDOW - 1).max(1)..=step {
            for part in ['a', 'b', 'c'] {
                let item = kv.get(key(writer, there, part).as_bytes()).await.unwrap();
                let item =
                    item.unwrap_or_else(|| panic!("round {round}: {writer}/{there}/{part} is missing"));
                let value: serde_json::Value = serde_json::from_slice(&item.value).unwrap();
                assert_eq!(value["step"], there, "round {round}");
                expected_keys += 1;
            }
        }
    }
    let keys = kv.range(b"/k/").await.unwrap().items.len();
    assert_eq!(keys, expected_keys, "round {round}: keys of a transaction that is not whole");
    acked.values().sum()
}

#[test]
fn killed_at_random_points_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let started = Instant::now();
    let (mut steps, mut rounds, mut busy, mut known) = (0, 0, 0, BTreeMap::new());
    while rounds < ROUNDS && (started.elapsed() < BUDGET || rounds == 0) {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--nocapture"])
            .env(VICTIM, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let jitter =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
        std::thread::sleep(Duration::from_millis(20 + u64::from(jitter / 1000 % 180)));
        victim.kill().unwrap();
        let status = victim.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "the victim ended by itself: {status}");
        rounds += 1;
        let now = runtime.block_on(verify(dir.path(), rounds, &mut known));
        busy += u32::from(now > steps);
        steps = now;
    }
    assert!(busy > rounds / 4, "only {busy} of {rounds} rounds got anything done: the test is void");
    let report = check(dir.path().join("store.redb")).unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
    println!("{rounds} kills, {steps} acknowledged transactions, file {} bytes", report.bytes);
}
