//! Numbers that run out: descriptors, watches, connections, processes, the disk.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::{Check, Finding, Without, read};

const GROUP: &str = "limits";

pub(super) fn probe(root: &Path) -> Vec<Check> {
    let number = |path: &str| read(path).split_whitespace().next().and_then(|t| t.parse::<u64>().ok());
    let enough = |name: &str, have: Option<u64>, need: u64, loses: &'static str, remedy: &'static str| {
        let detail = have.map_or("unknown".to_owned(), |h| h.to_string());
        let result = if have.is_none_or(|h| h >= need) {
            Ok(detail)
        } else {
            Err(format!("{detail}, {need} is good"))
        };
        Check::of(GROUP, name, result, Without { finding: Finding::Note, loses, remedy })
    };
    // No limit counts as the greatest number.
    let files = Some(getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX));
    let base = root.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("/"));
    let disk = rustix::fs::statvfs(base).ok();
    let free = disk.as_ref().map(|d| d.f_bavail.saturating_mul(d.f_frsize) >> 20);
    let inodes = disk.as_ref().filter(|d| d.f_files > 0).map(|d| d.f_favail);
    vec![
        enough(
            "open files",
            files,
            65_536,
            "about 1,000 containers and fewer",
            "LimitNOFILE=1048576 in the daemon's unit",
        ),
        enough(
            "inotify instances",
            number("/proc/sys/fs/inotify/max_user_instances"),
            512,
            "programs that watch files fail in the containers that come late",
            "sysctl -w fs.inotify.max_user_instances=1024",
        ),
        enough(
            "connections tracked",
            number("/proc/sys/net/netfilter/nf_conntrack_max"),
            65_536,
            "new connections are dropped under load",
            "sysctl -w net.netfilter.nf_conntrack_max=262144",
        ),
        enough(
            "neighbours (gc_thresh3)",
            number("/proc/sys/net/ipv4/neigh/default/gc_thresh3"),
            1024,
            "containers beyond that number do not find each other",
            "sysctl -w net.ipv4.neigh.default.gc_thresh3=8192",
        ),
        enough(
            "processes (pid_max)",
            number("/proc/sys/kernel/pid_max"),
            32_768,
            "no new processes under load",
            "sysctl -w kernel.pid_max=4194304",
        ),
        enough("free disk, MiB", free, 2048, "images may not fit", "free some space, or another --root"),
        enough("free inodes", inodes, 100_000, "images may not fit", "another file system for --root"),
    ]
}
