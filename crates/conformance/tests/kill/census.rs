//! Everything that a daemon can leave behind on its host, counted: links, addresses and routes, rules, mounts,
//! cgroups, files, processes, descriptors; and the records in its store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use weft_testkit::{Daemon, Sandbox, daemon::weft_binary, sandbox::run};

/// Descriptors of the daemon that may come and go (connections, timers, runtime).
const SLACK: usize = 8;

/// What is there, by kind.
pub struct Census {
    sets: BTreeMap<&'static str, BTreeSet<String>>,
    descriptors: usize,
}

impl Census {
    pub fn take(sandbox: &Sandbox, daemon: &Daemon) -> Self {
        let home = daemon.log_path().parent().unwrap().to_owned();
        let mut sets = BTreeMap::new();
        sets.insert(
            "link",
            lines(sandbox, &["ip", "-br", "link"], |line| line.split_whitespace().next().map(cut_peer)),
        );
        sets.insert("address", lines(sandbox, &["ip", "-br", "-4", "addr"], spaced));
        sets.insert("route", lines(sandbox, &["ip", "route"], spaced));
        sets.insert("rule", lines(sandbox, &["nft", "-s", "list", "ruleset"], rule));
        let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", sandbox.init_pid())).unwrap();
        let points = mounts.lines().map(|line| line.split(' ').nth(4).unwrap());
        sets.insert("mount", points.filter(|point| ours(&home, point)).map(str::to_owned).collect());
        sets.insert("cgroup", cgroups(sandbox.cgroup()));
        let mut files = BTreeSet::new();
        walk(&home, &home, &mut files);
        sets.insert("file", files);
        sets.insert("process", processes(sandbox));
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).map_or(0, Iterator::count);
        Self { sets, descriptors }
    }

    /// What `after` has beyond this, and what is missing in it.
    pub fn differences(&self, after: &Self) -> Vec<String> {
        let mut out = Vec::new();
        for (kind, before) in &self.sets {
            let now = &after.sets[kind];
            out.extend(now.difference(before).map(|what| format!("{kind} more: {what}")));
            // What the store of images throws away at a start is not missed.
            let missing = before.difference(now).filter(|_| *kind != "file");
            out.extend(missing.map(|what| format!("{kind} less: {what}")));
        }
        if after.descriptors > self.descriptors + SLACK {
            out.push(format!("descriptors: {} became {}", self.descriptors, after.descriptors));
        }
        out
    }
}

/// Mounts among the temporary files of others come and go here as they do on the machine.
fn ours(home: &Path, point: &str) -> bool {
    let point = Path::new(point);
    point.starts_with(home) || !point.starts_with(std::env::temp_dir())
}

/// One line with single spaces, without what says that a bridge has no living port just now.
fn spaced(line: &str) -> Option<String> {
    let words = line.split_whitespace().filter(|word| !["UP", "DOWN", "UNKNOWN", "linkdown"].contains(word));
    Some(words.collect::<Vec<_>>().join(" "))
}

/// The same of a rule set, without what says when a chain was made.
fn rule(line: &str) -> Option<String> {
    spaced(line).filter(|line| !line.starts_with("comment \"after table handle "))
}

/// `wf12@if3` without the index of the other end.
fn cut_peer(name: &str) -> String {
    name.split('@').next().unwrap_or_default().to_owned()
}

fn lines(sandbox: &Sandbox, args: &[&str], keep: impl Fn(&str) -> Option<String>) -> BTreeSet<String> {
    let output = sandbox.command(args[0]).args(&args[1..]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().filter_map(keep).collect()
}

/// The daemon's cgroups in every hierarchy.
fn cgroups(name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain(["/sys/fs/cgroup".into()]) {
        walk_cgroups(&hierarchy.join(name), &mut found);
    }
    found
}

fn walk_cgroups(dir: &Path, found: &mut BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    found.insert(dir.display().to_string());
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        walk_cgroups(&entry.path(), found);
    }
}

/// Every path below `dir`, seen from outside the sandbox's mounts, so that layers are not walked twice.
fn walk(home: &Path, dir: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.strip_prefix(home).unwrap().display().to_string();
        // Unpacked layers are the image's; compiled filters are kept on purpose, one for each profile.
        if name.starts_with("data/snapshots/layers") || name.starts_with("run/seccomp") {
            continue;
        }
        found.insert(name);
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(home, &path, found);
        }
    }
}

/// Command lines of the sandbox's processes, each with a number for those that are alike.
fn processes(sandbox: &Sandbox) -> BTreeSet<String> {
    let mut counted: BTreeMap<String, usize> = BTreeMap::new();
    for pid in sandbox.processes() {
        // A shim's arguments say whose it is.
        let Ok(line) = std::fs::read_to_string(format!("/proc/{pid}/cmdline")) else { continue };
        *counted.entry(line.replace('\0', " ").trim().to_owned()).or_default() += 1;
    }
    counted.into_iter().flat_map(|(name, count)| (1..=count).map(move |n| format!("{name} {n}"))).collect()
}

/// Keys of records that should be gone, read from the store of a stopped daemon.
pub fn store_keys(sandbox: &Sandbox, daemon: &Daemon) -> Vec<String> {
    let root = daemon.log_path().parent().unwrap().join("data");
    let mut check = sandbox.command(weft_binary().unwrap());
    run(check.args(["store", "check", "--root"]).arg(&root)).unwrap();
    let mut dump = sandbox.command(weft_binary().unwrap());
    let output = dump.args(["store", "dump", "--root"]).arg(&root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let key = |line: &str| {
        let value: Value = serde_json::from_str(line).ok()?;
        value["key"].as_str().map(str::to_owned)
    };
    let keys: Vec<String> = text.lines().filter_map(key).collect();
    assert!(keys.iter().any(|key| key.contains("/network/")), "no key is understood: {text:.500}");
    let kinds = ["/container/", "/port/", "/volume/", "/exec/"];
    keys.into_iter().filter(|key| kinds.iter().any(|kind| key.contains(kind))).collect()
}
