//! What is left of a container whose shim died while there was no daemon.

use std::path::{Path, PathBuf};

use crate::{Host, plain, run, until};

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

/// The container's first process and its shim, as numbered here: the sandbox has pids of its own, so those that the daemon shows
/// are somebody else's outside.
fn processes(host: &Host, id: &str) -> [i32; 2] {
    let dirs = cgroups(host, id);
    let procs = dirs.iter().find_map(|dir| std::fs::read_to_string(dir.join("cgroup.procs")).ok()).unwrap();
    let init: i32 = procs.lines().next().unwrap().parse().unwrap();
    let shim = parent(init);
    let named = std::fs::read_to_string(format!("/proc/{shim}/cmdline")).unwrap();
    assert!(named.contains("shim") && named.contains(id), "{named}");
    [shim, init]
}

#[test]
fn who_shares_a_network_comes_back_after_its_owner_when_the_machine_died() {
    let mut host = Host::start(plain());
    let run = |host: &Host, name: &str, network: &str| {
        let flags = ["run", "-d", "--restart", "always", "--name", name, "--network", network];
        host.ok(&[&flags[..], &["busybox", "sleep", "1000"]].concat())
    };
    let mut running = vec![run(&host, "owner", "bridge")];
    let sharers = ["s1", "s2", "s3", "rested"];
    running.extend(sharers.map(|name| run(&host, name, "container:owner")));
    // `always` brings this one back, too, by a request of the new daemon.
    host.ok(&["stop", "-t", "0", "rested"]);
    running.pop();
    let names = ["owner", "s1", "s2", "s3", "rested"];
    let began = |host: &Host, name: &str| host.json(&["inspect", name])[0]["State"]["StartedAt"].to_string();
    let before = names.map(|name| began(&host, name));
    let all: Vec<i32> = running.iter().flat_map(|id| processes(&host, id)).collect();
    host.daemon.kill9().unwrap();
    for pid in all {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    host.daemon.boot(&host.sandbox).unwrap();
    until("all of them", || {
        // At first the records say what was so before.
        let up = |name: &str| host.json(&["inspect", name])[0]["State"]["Status"] == "running";
        names.iter().zip(&before).all(|(name, old)| up(name) && began(&host, name) != *old)
    });
    let netns = |name: &str| host.ok(&["exec", name, "readlink", "/proc/1/ns/net"]);
    for name in sharers {
        assert_eq!(netns(name), netns("owner"), "{name}");
    }
    host.ok(&["rm", "-f", "owner", "s1", "s2", "s3", "rested"]);
}

/// A daemon in a mount namespace of its own takes the names of network namespaces with it. The next one finds them by their
/// processes, and the containers go on.
#[test]
fn containers_keep_their_network_when_its_name_is_lost() {
    let mut host = Host::start(plain());
    let serve = "mkdir /www; echo hi > /www/index.html; exec httpd -f -p 80 -h /www";
    host.ok(&["run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sh", "-c", serve]);
    let at = std::net::SocketAddr::from((host.sandbox.address(), 8080));
    let reached = || std::net::TcpStream::connect_timeout(&at, std::time::Duration::from_secs(2)).is_ok();
    until("the server", reached);
    let links = |host: &Host| host.ok(&["exec", "web", "ip", "-o", "addr"]);
    let before = links(&host);
    let path =
        host.json(&["inspect", "web"])[0]["NetworkSettings"]["SandboxKey"].as_str().unwrap().to_owned();
    host.daemon.kill9().unwrap();
    run(host.sandbox.command("umount").args(["-l", &path]));
    host.daemon.boot(&host.sandbox).unwrap();
    until("the daemon", || host.json(&["inspect", "web"])[0]["State"]["Status"] == "running");
    assert!(reached());
    assert_eq!(links(&host), before);
    host.ok(&["restart", "-t", "0", "web"]);
    until("the server", reached);
    host.ok(&["rm", "-f", "web"]);
}
