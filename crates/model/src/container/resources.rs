//! Limits on what a container may use, and the devices it may reach.

use serde::{Deserialize, Serialize};

/// A device node made available inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// Path on the host.
    pub host: String,
    /// Path inside.
    pub target: String,
    /// Any of `r`, `w`, `m`.
    pub access: String,
}

/// A request for devices by capability (`--gpus`); Weft refuses what it has no driver for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRequest {
    /// Driver name.
    #[serde(default)]
    pub driver: String,
    /// How many, -1 for all.
    #[serde(default)]
    pub count: i64,
    /// Device ids.
    #[serde(default)]
    pub ids: Vec<String>,
    /// Alternatives of capability sets.
    #[serde(default)]
    pub capabilities: Vec<Vec<String>>,
}

/// A weight for one block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlkioDevice {
    /// Path of the device.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// A rate for one block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlkioRate {
    /// Path of the device.
    pub path: String,
    /// Bytes or operations a second.
    pub rate: u64,
}

/// A process limit (`getrlimit(2)`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Lower-case name without `RLIMIT_`: `nofile`.
    pub name: String,
    /// Soft limit, -1 for none.
    pub soft: i64,
    /// Hard limit, -1 for none.
    pub hard: i64,
}

/// Limits; zero, empty and `None` mean no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes of memory.
    pub memory: i64,
    /// Bytes of memory and swap together; -1 for unlimited swap.
    pub memory_swap: i64,
    /// Bytes of memory kept under pressure.
    pub memory_reservation: i64,
    /// Bytes of kernel memory (cgroup v1 only).
    pub kernel_memory: i64,
    /// Bytes of kernel TCP memory (cgroup v1 only).
    pub kernel_memory_tcp: i64,
    /// 0 to 100; `None` for the default.
    pub swappiness: Option<i64>,
    /// Never kill on out of memory.
    pub oom_kill_disable: Option<bool>,
    /// -1000 to 1000.
    pub oom_score_adj: i32,
    /// Billionths of a CPU.
    pub nano_cpus: i64,
    /// Relative weight (cgroup v1 shares, 2 to 262144).
    pub cpu_shares: i64,
    /// Microseconds in a period.
    pub cpu_period: i64,
    /// Microseconds of CPU time in a period.
    pub cpu_quota: i64,
    /// Microseconds of a real-time period.
    pub cpu_rt_period: i64,
    /// Microseconds of real-time run time.
    pub cpu_rt_runtime: i64,
    /// CPUs, such as `0-3,7`.
    pub cpuset_cpus: String,
    /// Memory nodes.
    pub cpuset_mems: String,
    /// Most processes; -1 or 0 for unlimited; `None` when not given.
    pub pids: Option<i64>,
    /// 10 to 1000.
    pub blkio_weight: u16,
    /// Weights for each device.
    pub blkio_weight_device: Vec<BlkioDevice>,
    /// Bytes read a second.
    pub blkio_read_bps: Vec<BlkioRate>,
    /// Bytes written a second.
    pub blkio_write_bps: Vec<BlkioRate>,
    /// Reads a second.
    pub blkio_read_iops: Vec<BlkioRate>,
    /// Writes a second.
    pub blkio_write_iops: Vec<BlkioRate>,
    /// Devices made available.
    pub devices: Vec<DeviceSpec>,
    /// Rules of the device cgroup as written: `c 42:* rmw`.
    pub device_cgroup_rules: Vec<String>,
    /// Requests by capability.
    pub device_requests: Vec<DeviceRequest>,
    /// Process limits.
    pub ulimits: Vec<Ulimit>,
    /// Bytes of `/dev/shm`; 64 MiB when zero.
    pub shm_size: i64,
    /// Parent cgroup; the daemon's when empty.
    pub cgroup_parent: String,
}
