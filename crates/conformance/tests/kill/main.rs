//! `kill -9` of the daemon, round after round, while containers start, stop, log and publish.
//!
//! Workers use the API without a pause and write each acknowledgement into a [`ledger`]. The daemon is killed at a
//! random moment and started again; then the ledger is compared with what the new daemon says: nothing acknowledged is
//! lost, nothing acknowledged as removed comes back, no container has stopped. Beside them stand containers that must
//! not notice at all: one published whose visitors count every failed request, one that numbers its log lines, one
//! with a health check, one that its policy restarts for ever. At the end all is removed, and links, mounts, cgroups,
//! rules, files and processes are counted as they were counted at the beginning.
//!
//! `WEFT_KILL_ROUNDS` (default 12) and `WEFT_KILL_SEED` choose another run. Weft only: dockerd's containers end with it.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests say what they expect")]

mod api;
mod census;
mod chance;
mod ledger;
mod steady;
mod stories;
mod teller;
mod workers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::Api;
use census::Census;
use chance::Chance;
use ledger::Ledger;
use serde_json::{Map, Value};
use steady::Steady;
use weft_testkit::{Daemon, DaemonOptions, ImageSpec, Sandbox, Subject, busybox_archive};

/// Rounds where nobody says.
const ROUNDS: u64 = 12;
/// The longest life of a daemon between two kills, in milliseconds.
const LIFE: u64 = 2_500;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

/// A daemon with an image, after one container came and went, so that what is made once and kept is there.
fn begin(sandbox: &Sandbox, mut config: Map<String, Value>) -> (Daemon, Api) {
    config.insert("default-address-pools".into(), serde_json::json!([{"base": "10.201.0.0/16", "size": 26}]));
    let options = DaemonOptions { config, ..DaemonOptions::default() };
    let daemon = Daemon::start(sandbox, Subject::Weft, "weft", options).unwrap();
    let api = Api::new(daemon.socket());
    let archive = sandbox.dir().join("busybox.tar");
    busybox_archive(&ImageSpec::tagged("busybox:latest"), &archive).unwrap();
    let loaded = api.call("POST", "/images/load", Some(&std::fs::read(&archive).unwrap())).unwrap();
    assert_eq!(loaded.status, 200, "{}", loaded.text());
    workers::warm_up(&api);
    (daemon, api)
}

#[test]
fn nothing_acknowledged_is_lost() {
    let rounds = number("WEFT_KILL_ROUNDS").unwrap_or(ROUNDS);
    play(&Sandbox::new().unwrap(), Map::new(), rounds);
}

/// The same where containers have user namespaces, and networks that belong to them.
#[test]
fn nor_with_userns_remap() {
    let rounds = number("WEFT_KILL_ROUNDS").unwrap_or(ROUNDS / 2);
    let sandbox = Sandbox::new().unwrap();
    sandbox.give_ids(231_072).unwrap();
    play(&sandbox, Map::from_iter([("userns-remap".to_owned(), "default".into())]), rounds);
}

fn play(sandbox: &Sandbox, config: Map<String, Value>, rounds: u64) {
    let seed = number("WEFT_KILL_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 16 | rounds);
    eprintln!("{rounds} rounds, WEFT_KILL_SEED={seed}");
    let (mut daemon, api) = begin(sandbox, config);
    let before = Census::take(sandbox, &daemon);

    let ledger = Arc::new(Ledger::default());
    let steady = Steady::start(&api, sandbox);
    let workers = workers::start(&api, &ledger, seed);
    let mut chance = Chance::new(seed);
    let mut slowest = Duration::ZERO;
    for round in 1..=rounds {
        std::thread::sleep(Duration::from_millis(chance.below(LIFE)));
        ledger.killing();
        daemon.kill9().unwrap();
        daemon.boot(sandbox).unwrap();
        slowest = slowest.max(daemon.start_time());
        let trouble =
            ledger.quiet(|facts| [ledger::differences(&api, facts), steady.differences(&api)].concat());
        assert!(trouble.is_empty(), "round {round}: {trouble:#?}\n{}", daemon.log_tail());
        assert!(!workers.failed(), "round {round}: {:#?}\n{}", workers.stop(), daemon.log_tail());
    }
    let did = workers.stop();
    assert!(did.trouble.is_empty(), "{:#?}\n{}", did.trouble, daemon.log_tail());
    let visits = steady.finish(&api);
    eprintln!("{} operations acknowledged, {}; slowest start {slowest:?}", did.acknowledged, visits);

    workers::remove_all(&api);
    let begun = Instant::now();
    let mut left = before.differences(&Census::take(sandbox, &daemon));
    // The dead need a moment to leave their cgroups, and what is swept on a timer its turn.
    while !left.is_empty() && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(200));
        left = before.differences(&Census::take(sandbox, &daemon));
    }
    assert!(left.is_empty(), "left over: {left:#?}\n{}", daemon.log_tail());
    daemon.stop().unwrap();
    let kept = census::store_keys(sandbox, &daemon);
    assert!(kept.is_empty(), "records left: {kept:#?}");
}
