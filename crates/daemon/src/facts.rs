//! Facts about this machine that faces show.

use std::{collections::BTreeMap, fs, path::Path};

use weft_base::{Clock, SystemClock};
use weft_cloud::{HostFacts, HostLimits};
use weft_engine::oci::Capability;
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
    let seccomp = config.defaults.seccomp.clone().unwrap_or_else(|| "builtin".into());
    let mut security = vec![format!("name=seccomp,profile={seccomp}")];
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
        live_restore: !config.stop_containers,
        warnings: warnings(config, engine),
        security,
        pools: config.network.pools.iter().map(|(net, size)| (net.to_string(), *size)).collect(),
        backing_fs: file_system(&config.root),
        debug: config.debug,
        started: SystemClock.now(),
        limits: HostLimits {
            memory: engine.has_controller("memory"),
            swap: engine.has_controller("memory") && engine.swap_limit,
            pids: engine.has_controller("pids"),
            cpu_cfs: engine.cpu_cfs,
            cpu_shares: engine.has_controller("cpu"),
            cpuset: engine.has_controller("cpuset"),
            oom_kill_disable: engine.oom_kill_disable,
        },
        ipv4_forwarding: switch("net.ipv4.ip_forward"),
        bridge_netfilter: (
            switch("net.bridge.bridge-nf-call-iptables"),
            switch("net.bridge.bridge-nf-call-ip6tables"),
        ),
        proxies: proxies(config),
        seccomp,
    }
}

/// The facts after the configuration was read again.
pub(crate) fn reloaded(old: &HostFacts, config: &Config) -> HostFacts {
    HostFacts {
        mirrors: config.registry.mirrors.clone(),
        insecure: config.registry.insecure.clone(),
        labels: config.labels.clone(),
        live_restore: !config.stop_containers,
        debug: config.debug,
        proxies: proxies(config),
        ..old.clone()
    }
}

fn switch(name: &str) -> bool {
    weft_sys::sysctl::read(name).is_ok_and(|value| value == "1")
}

/// What the registry client will use: the configuration's, else the environment's.
fn proxies(config: &Config) -> [String; 3] {
    let p = &config.registry.proxies;
    let own = [&p.http, &p.https, &p.none].map(Clone::clone);
    if own.iter().any(|text| !text.is_empty()) {
        return own;
    }
    ["http_proxy", "https_proxy", "no_proxy"].map(|name| {
        std::env::var(name).or_else(|_| std::env::var(name.to_ascii_uppercase())).unwrap_or_default()
    })
}

/// What this host or this daemon cannot grant, in Docker's words where Docker has them.
fn warnings(config: &Config, engine: &weft_engine::oci::HostFacts) -> Vec<String> {
    let mut all = Vec::new();
    for (address, what) in config.listeners().iter().filter_map(|(face, uri)| {
        let clear = face == "docker" && uri.contains("tls=off");
        clear.then(|| (uri.split('?').next().unwrap_or(uri).to_owned(), face))
    }) {
        all.push(format!(
            "WARNING: API is accessible on {address} without encryption.\n         Access to the remote API of {what} is equivalent to root access on the host"
        ));
    }
    let controller = |name: &str| engine.has_controller(name);
    for (there, what) in [
        (controller("memory"), "memory limit"),
        (controller("memory") && engine.swap_limit, "swap limit"),
        (engine.cpu_cfs, "cpu cfs quota"),
        (engine.cpu_cfs, "cpu cfs period"),
        (controller("cpu"), "cpu shares"),
        (controller("cpuset"), "cpuset"),
        (controller("pids"), "pids limit"),
        (engine.blkio_throttle, "blkio throttle"),
    ] {
        if !there {
            all.push(format!("WARNING: No {what} support"));
        }
    }
    for (capability, lost) in CAPABILITIES {
        if !engine.holds(*capability) {
            all.push(format!("WARNING: The daemon has no {}: {lost}", cap_name(*capability)));
        }
    }
    all
}

fn cap_name(capability: Capability) -> String {
    // The crate prints `CAP_SYS_ADMIN` or `SYS_ADMIN`, by its version.
    let text = capability.to_string();
    if text.starts_with("CAP_") { text } else { format!("CAP_{text}") }
}

/// Capabilities whose lack is felt, and how.
const CAPABILITIES: &[(Capability, &str)] = &[
    (
        Capability::SysResource,
        "limits cannot be raised above its own, nor OOM scores lowered; containers get what is possible",
    ),
    (Capability::SysAdmin, "nothing can be mounted"),
    (Capability::NetAdmin, "networks cannot be made"),
    (Capability::Mknod, "devices cannot be made"),
    (Capability::SysPtrace, "processes of containers cannot be looked into"),
    (Capability::SysNice, "real-time scheduling cannot be granted"),
    (Capability::SysBoot, "privileged containers get less than all capabilities"),
    (Capability::SysModule, "kernel modules cannot be loaded on demand"),
];

/// An executable of that name on the path.
pub(crate) fn on_path(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| p.is_file())
}
