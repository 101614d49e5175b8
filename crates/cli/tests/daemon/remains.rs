//! What is left of a container whose shim died while there was no daemon.

use std::path::{Path, PathBuf};

use crate::{Host, plain, until};

/// The container's cgroup, in every hierarchy that has it.
fn cgroups(host: &Host, id: &str) -> Vec<PathBuf> {
    let below = Path::new(host.sandbox.cgroup()).join(id);
    let root = Path::new("/sys/fs/cgroup");
    let mounts = std::fs::read_dir(root).unwrap().flatten().map(|entry| entry.path());
    mounts.chain([root.to_owned()]).map(|mount| mount.join(&below)).filter(|dir| dir.is_dir()).collect()
}

/// Whoever is the parent of a process.
fn parent(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_shim_that_dies_unseen_leaves_no_cgroup() {
    let mut host = Host::start(plain());
    let id = host.ok(&["run", "-d", "--name", "c1", "busybox", "sleep", "1000"]);
    let dirs = cgroups(&host, &id);
    let procs = dirs.iter().find_map(|dir| std::fs::read_to_string(dir.join("cgroup.procs")).ok());
    let init: i32 = procs.unwrap().lines().next().unwrap().parse().unwrap();
    let shim = parent(init);
    let named = std::fs::read_to_string(format!("/proc/{shim}/cmdline")).unwrap();
    assert!(named.contains("shim"), "{named}");
    host.daemon.kill9().unwrap();
    for pid in [shim, init] {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    host.daemon.boot(&host.sandbox).unwrap();
    until("its end", || host.json(&["inspect", "c1"])[0]["State"]["ExitCode"] == 255);
    host.ok(&["rm", "-f", "c1"]);
    assert_eq!(cgroups(&host, &id), Vec::<PathBuf>::new());
}
