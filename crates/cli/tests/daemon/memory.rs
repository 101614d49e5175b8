//! A memory kill in a container that goes on.

use std::process::Stdio;

use crate::{Host, plain, until};

#[test]
fn oom_event_comes_when_it_happens_and_the_daemon_stays_calm() {
    let host = Host::start(plain());
    let log = host.sandbox.dir().join("events");
    let mut events = host
        .daemon
        .docker()
        .args(["events", "--filter", "event=oom"])
        .stdout(std::fs::File::create(&log).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The first process is the shell; its child is the one that is killed.
    let eat =
        "while [ ! -e /go ]; do sleep 0.1; done; dd if=/dev/zero of=/dev/null bs=200M count=1; sleep 1000";
    host.ok(&["run", "-d", "--name", "c1", "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", eat]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "");
    host.ok(&["exec", "c1", "touch", "/go"]);
    until("the event", || std::fs::read_to_string(&log).unwrap().contains("container oom"));
    let state = host.json(&["inspect", "c1"]);
    assert_eq!(state[0]["State"]["Running"], true);
    assert_eq!(state[0]["State"]["OOMKilled"], true);
    // Half a second of a daemon that spun would be some fifty ticks.
    let ticks = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", host.daemon.pid())).unwrap();
        stat.rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|t| t.parse::<u64>().unwrap())
            .sum()
    };
    let before = ticks();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let used = ticks() - before;
    assert!(used < 20, "{used} ticks in 2 s");
    host.ok(&["rm", "-f", "c1"]);
    assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), 1, "told once");
    events.kill().unwrap();
    events.wait().unwrap();
}
