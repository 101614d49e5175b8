//! What this host and this daemon can grant; found once.

use std::{collections::BTreeMap, fs, path::Path};

use nix::sys::resource::{Resource, getrlimit};
use oci_spec::runtime::{Capabilities, Capability, PosixRlimitType};

use super::caps;

/// Which cgroup hierarchies carry the controllers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupVersion {
    /// One hierarchy for each controller (also on a hybrid host, whose unified hierarchy has none).
    V1,
    /// One for all.
    #[default]
    V2,
}

/// Facts about host and daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Capabilities the daemon itself holds.
    pub capabilities: Capabilities,
    /// Cgroup version.
    pub cgroup: CgroupVersion,
    /// Controllers at hand: `memory`, `cpu`, `cpuset`, `pids`, `blkio` (`io` counts as `blkio`), `devices`, `freezer`.
    pub controllers: Vec<String>,
    /// Swap can be limited.
    pub swap_limit: bool,
    /// Memory swappiness can be set (not on version 2).
    pub swappiness: bool,
    /// The out-of-memory killer can be switched off (not on version 2).
    pub oom_kill_disable: bool,
    /// Block devices can have weights.
    pub blkio_weight: bool,
    /// Weights of single devices: one of the disks is scheduled by them.
    pub blkio_weight_device: bool,
    /// Block devices can be throttled.
    pub blkio_throttle: bool,
    /// CPU bandwidth can be limited.
    pub cpu_cfs: bool,
    /// Real-time bandwidth can be limited.
    pub cpu_realtime: bool,
    /// CPUs online.
    pub cpus: usize,
    /// CPUs as the kernel lists them (`0-3`).
    pub cpu_list: String,
    /// Memory nodes as the kernel lists them.
    pub mem_list: String,
    /// Kernel version: major, minor.
    pub kernel: (u32, u32),
    /// The daemon's own `oom_score_adj`.
    pub oom_score_adj: i32,
    /// The daemon's own process limits by lower-case name: soft, hard (`u64::MAX` for none).
    pub rlimits: BTreeMap<String, (u64, u64)>,
    /// Kernel parameters set in a container's own network namespace: name, value.
    pub default_sysctls: Vec<(String, String)>,
    /// Paths masked beside the common ones (thermal throttling of each CPU).
    pub masked: Vec<String>,
    /// The kernel has cgroup namespaces.
    pub cgroup_namespaces: bool,
}

/// Process limits as Docker names them.
pub(super) const RLIMITS: [(&str, Resource, PosixRlimitType); 15] = [
    ("core", Resource::RLIMIT_CORE, PosixRlimitType::RlimitCore),
    ("cpu", Resource::RLIMIT_CPU, PosixRlimitType::RlimitCpu),
    ("data", Resource::RLIMIT_DATA, PosixRlimitType::RlimitData),
    ("fsize", Resource::RLIMIT_FSIZE, PosixRlimitType::RlimitFsize),
    ("locks", Resource::RLIMIT_LOCKS, PosixRlimitType::RlimitLocks),
    ("memlock", Resource::RLIMIT_MEMLOCK, PosixRlimitType::RlimitMemlock),
    ("msgqueue", Resource::RLIMIT_MSGQUEUE, PosixRlimitType::RlimitMsgqueue),
    ("nice", Resource::RLIMIT_NICE, PosixRlimitType::RlimitNice),
    ("nofile", Resource::RLIMIT_NOFILE, PosixRlimitType::RlimitNofile),
    ("nproc", Resource::RLIMIT_NPROC, PosixRlimitType::RlimitNproc),
    ("rss", Resource::RLIMIT_RSS, PosixRlimitType::RlimitRss),
    ("rtprio", Resource::RLIMIT_RTPRIO, PosixRlimitType::RlimitRtprio),
    ("rttime", Resource::RLIMIT_RTTIME, PosixRlimitType::RlimitRttime),
    ("sigpending", Resource::RLIMIT_SIGPENDING, PosixRlimitType::RlimitSigpending),
    ("stack", Resource::RLIMIT_STACK, PosixRlimitType::RlimitStack),
];

/// Without it no container could be confined, nor even be found again.
const NO_CGROUPS: &str = "no cgroup file system can be seen here, or version 1 without the devices controller. Mount one \
    (mount -t cgroup2 none /sys/fs/cgroup); `ip netns exec` hides those that are mounted, nsenter --net=FILE does not";

/// Refuses a host without cgroups. To be asked before anything is made.
///
/// # Errors
/// `Invalid`, with what can be done.
pub fn require_cgroups() -> crate::Result<()> {
    let there = Groups::find().controllers().iter().any(|c| c == "devices");
    if there { Ok(()) } else { Err(crate::EngineError::Invalid(NO_CGROUPS.into())) }
}

impl HostFacts {
    /// Looks at this machine and this process. What cannot be read counts as absent.
    #[must_use]
    pub fn detect() -> Self {
        let status = read("/proc/self/status");
        let groups = Groups::find();
        let cpu_list = read("/sys/devices/system/cpu/online");
        let memory = |file: &str| groups.has("memory", file);
        Self {
            capabilities: held(&status),
            cgroup: groups.version,
            controllers: groups.controllers(),
            swap_limit: memory("memory.memsw.limit_in_bytes")
                || (groups.version == CgroupVersion::V2 && !read("/proc/swaps").is_empty()),
            swappiness: memory("memory.swappiness"),
            oom_kill_disable: memory("memory.oom_control"),
            blkio_weight: groups.has("blkio", "blkio.weight") || groups.has("blkio", "blkio.bfq.weight"),
            blkio_weight_device: groups.has("blkio", "blkio.weight_device")
                || groups.has("blkio", "blkio.bfq.weight_device") && a_disk_has_bfq(),
            blkio_throttle: groups.version == CgroupVersion::V2
                && groups.controllers().iter().any(|c| c == "blkio")
                || groups.has("blkio", "blkio.throttle.read_bps_device"),
            cpu_cfs: groups.version == CgroupVersion::V2 && groups.controllers().iter().any(|c| c == "cpu")
                || groups.has("cpu", "cpu.cfs_quota_us"),
            cpu_realtime: groups.has("cpu", "cpu.rt_runtime_us"),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            cpu_list,
            mem_list: read("/sys/devices/system/node/online"),
            kernel: kernel(),
            oom_score_adj: read("/proc/self/oom_score_adj").parse().unwrap_or(0),
            rlimits: own_limits(),
            default_sysctls: default_sysctls(),
            masked: masked(),
            cgroup_namespaces: Path::new("/proc/self/ns/cgroup").exists(),
        }
    }

    /// The daemon holds `capability`.
    #[must_use]
    pub fn holds(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }

    /// A controller is at hand.
    #[must_use]
    pub fn has_controller(&self, name: &str) -> bool {
        self.controllers.iter().any(|c| c == name)
    }
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn held(status: &str) -> Capabilities {
    let mask = |field: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(field));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
    };
    let both = mask("CapPrm:") & mask("CapBnd:");
    caps::ALL.into_iter().enumerate().filter(|(bit, _)| both & (1 << bit) != 0).map(|(_, c)| c).collect()
}

fn a_disk_has_bfq() -> bool {
    let disks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    disks.into_iter().any(|disk| {
        let path = disk.path().join("queue/scheduler");
        fs::read_to_string(path).is_ok_and(|text| text.contains("[bfq]"))
    })
}

fn kernel() -> (u32, u32) {
    let release = read("/proc/sys/kernel/osrelease");
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn own_limits() -> BTreeMap<String, (u64, u64)> {
    let own = |(name, limit, _): (&str, Resource, PosixRlimitType)| {
        getrlimit(limit).ok().map(|both| (name.to_owned(), both))
    };
    RLIMITS.into_iter().filter_map(own).collect()
}

/// What Docker sets in each container's own network namespace: pings and low ports need no capability.
fn default_sysctls() -> Vec<(String, String)> {
    let wanted =
        [("net.ipv4.ping_group_range", "0 2147483647"), ("net.ipv4.ip_unprivileged_port_start", "0")];
    let exists = |name: &str| Path::new("/proc/sys").join(name.replace('.', "/")).exists();
    wanted.into_iter().filter(|(name, _)| exists(name)).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

fn masked() -> Vec<String> {
    let cpus = fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let mut paths: Vec<_> = cpus
        .map(|cpu| cpu.path().join("thermal_throttle"))
        .filter(|path| path.exists())
        .filter_map(|path| path.to_str().map(str::to_owned))
        .collect();
    paths.sort();
    paths
}

/// Mounted cgroup hierarchies: controllers to mount points.
struct Groups {
    version: CgroupVersion,
    mounts: Vec<(Vec<String>, String)>,
}

impl Groups {
    fn find() -> Self {
        let mut version = CgroupVersion::V1;
        let mut mounts = Vec::new();
        for line in read("/proc/self/mountinfo").lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(point) = left.split(' ').nth(4) else { continue };
            // Something else may be mounted above it.
            if !Path::new(point).join("cgroup.procs").exists() {
                continue;
            }
            let mut right = right.split(' ');
            match (right.next(), point) {
                (Some("cgroup2"), "/sys/fs/cgroup") => {
                    version = CgroupVersion::V2;
                    let listed = read("/sys/fs/cgroup/cgroup.controllers");
                    let mut names: Vec<_> =
                        listed.split(' ').map(|n| if n == "io" { "blkio" } else { n }.to_owned()).collect();
                    // Version 2 has these without a controller: BPF programs and a file of the core.
                    names.extend(["devices".to_owned(), "freezer".to_owned()]);
                    mounts.push((names, point.to_owned()));
                }
                (Some("cgroup"), _) => {
                    let options = right.nth(1).unwrap_or("");
                    mounts.push((options.split(',').map(str::to_owned).collect(), point.to_owned()));
                }
                _ => {}
            }
        }
        Self { version, mounts }
    }

    fn controllers(&self) -> Vec<String> {
        let known = ["memory", "cpu", "cpuacct", "cpuset", "pids", "blkio", "devices", "freezer", "hugetlb"];
        let all = self.mounts.iter().flat_map(|(names, _)| names);
        all.filter(|n| known.contains(&n.as_str())).cloned().collect()
    }

    /// A version 1 controller has `file`, in its root or in any group below it.
    fn has(&self, controller: &str, file: &str) -> bool {
        self.mounts.iter().filter(|(names, _)| names.iter().any(|n| n == controller)).any(|(_, point)| {
            let root = Path::new(point);
            let groups = fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path());
            root.join(file).exists() || groups.filter(|p| p.is_dir()).take(4).any(|p| p.join(file).exists())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let facts = HostFacts::detect();
        assert!(facts.kernel.0 >= 4, "{facts:?}");
        assert!(facts.cpus >= 1);
        assert!(facts.rlimits.contains_key("nofile"));
        assert!(facts.holds(Capability::SysAdmin), "tests run as root");
        assert!(facts.has_controller("memory"), "{:?}", facts.controllers);
    }

    #[test]
    fn capability_masks() {
        let facts = held("CapPrm:\t0000000000000003\nCapBnd:\t0000000000000001\n");
        assert_eq!(facts, [Capability::Chown].into_iter().collect());
    }
}
