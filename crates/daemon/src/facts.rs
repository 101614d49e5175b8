//! Facts about this machine that faces show.

use std::{collections::BTreeMap, fs, path::Path};

use weft_base::{Clock, SystemClock};
use weft_cloud::HostFacts;
use weft_model::HostId;

use crate::Config;

fn os_release(key: &str) -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_default().trim_matches('"').to_owned()
}

fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// The type of the file system that `path` lies on (statfs(2), `f_type`).
fn file_system(path: &Path) -> String {
    let Ok(found) = rustix::fs::statfs(path) else { return "unknown".into() };
    match found.f_type {
        0xef53 => "extfs",
        0x9123_683e => "btrfs",
        0x5846_5342 => "xfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlayfs",
        0x2fc1_2fc1 => "zfs",
        0x6969 => "nfs",
        _ => "unknown",
    }
    .to_owned()
}

/// Everything known now.
pub(crate) fn gather(config: &Config, id: HostId, engine: &weft_engine::oci::HostFacts) -> HostFacts {
    let uname = rustix::system::uname();
    let unified = engine.cgroup == weft_engine::oci::CgroupVersion::V2;
    let mut runtimes: BTreeMap<_, _> = config.defaults.runtimes.clone();
    runtimes.insert("weft".into(), std::path::PathBuf::new());
    for name in ["runc", "crun"] {
        if let Some(path) = on_path(name) {
            runtimes.entry(name.into()).or_insert(path);
        }
    }
    let mut log_drivers = vec!["json-file".to_owned(), "local".into(), "none".into()];
    for (driver, socket) in [("journald", "/run/systemd/journal/socket"), ("syslog", "/dev/log")] {
        if Path::new(socket).exists() {
            log_drivers.push(driver.into());
        }
    }
    let mut security = vec!["name=seccomp,profile=builtin".to_owned()];
    if config.defaults.userns_remap.is_some() {
        security.push("name=userns".into());
    }
    if unified {
        security.push("name=cgroupns".into());
    }
    HostFacts {
        id,
        name: config.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        root: config.root.clone(),
        kernel: uname.release().to_string_lossy().into_owned(),
        os: os_release("PRETTY_NAME"),
        os_version: os_release("VERSION_ID"),
        machine: uname.machine().to_string_lossy().into_owned(),
        cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        memory: memory(),
        cgroup_version: if unified { 2 } else { 1 },
        runtimes,
        default_runtime: config.defaults.runtime.clone().unwrap_or_else(|| "weft".into()),
        log_drivers,
        log_driver: config.defaults.log_driver.clone().unwrap_or_else(|| "json-file".into()),
        mirrors: config.registry.mirrors.clone(),
        insecure: config.registry.insecure.clone(),
        labels: config.labels.clone(),
        warnings: Vec::new(),
        security,
        pools: config.network.pools.iter().map(|(net, size)| (net.to_string(), *size)).collect(),
        backing_fs: file_system(&config.root),
        debug: config.debug,
        started: SystemClock.now(),
    }
}

/// An executable of that name on the path.
pub(crate) fn on_path(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| p.is_file())
}
