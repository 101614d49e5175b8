//! Limits of memory, CPU, processes and block devices.
//!
//! The configuration carries version 1 values (shares, blkio weights); the runtime converts them for version 2.
//! What this host cannot limit is left out, with Docker's warning.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice,
    LinuxThrottleDeviceBuilder, LinuxWeightDevice, LinuxWeightDeviceBuilder,
};
use weft_model::{BlkioRate, Resources};

use super::{
    error::OciError,
    host::{CgroupVersion, HostFacts},
};

/// Limits in the configuration's form, and what was left out.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The limits; also what a running container is updated with.
    pub resources: LinuxResources,
    /// What was left out, in Docker's words.
    pub warnings: Vec<String>,
}

/// Converts limits. `blocks` has the numbers of the devices they name ([`super::devices::blocks`]).
pub fn limits(
    wanted: &Resources,
    blocks: &BTreeMap<String, (i64, i64)>,
    host: &HostFacts,
) -> Result<Limits, OciError> {
    let (r, warnings) = grantable(wanted, host);
    let mut resources = LinuxResources::default();
    resources
        .set_memory(memory(&r))
        .set_cpu(cpu(&r)?)
        .set_block_io(block_io(&r, blocks)?)
        .set_pids(pids(r.pids));
    Ok(Limits { resources, warnings })
}

const NO_MEMORY: &str = "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.";
const NO_SWAP: &str = "Your kernel does not support swap limit capabilities or the cgroup is not mounted. \
                       Memory limited without swap.";
const NO_SWAPPINESS: &str = "Your kernel does not support memory swappiness capabilities or the cgroup is not \
                             mounted. Memory swappiness discarded.";
const NO_RESERVATION: &str = "Your kernel does not support memory soft limit capabilities or the cgroup is not \
                              mounted. Limitation discarded.";
const NO_OOM_DISABLE: &str = "Your kernel does not support OomKillDisable. OomKillDisable discarded.";
const NO_KERNEL_MEMORY: &str = "Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. \
     Limitation discarded.";
const NO_PIDS: &str = "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. \
                       PIDs limit discarded.";
const NO_SHARES: &str =
    "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.";
const NO_CFS: &str = "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.";
const NO_REALTIME: &str = "Your kernel does not support CPU real-time scheduler. Real-time limits discarded.";
const NO_CPUSET: &str = "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.";
const NO_WEIGHT: &str =
    "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.";
const NO_WEIGHT_DEVICE: &str = "Your kernel does not support Block I/O weight_device or the cgroup is not \
                                mounted. Weight-device discarded.";

/// What of the limits this host can set, and Docker's warnings for the rest.
pub(super) fn grantable(wanted: &Resources, host: &HostFacts) -> (Resources, Vec<String>) {
    let mut r = wanted.clone();
    let mut warnings = Vec::new();
    grantable_memory(&mut r, host, &mut |w: &str| warnings.push(w.to_owned()));
    grantable_cpu(&mut r, host, &mut |w: &str| warnings.push(w.to_owned()));
    grantable_block_io(&mut r, host, &mut |w: String| warnings.push(w));
    if r.pids.is_some() && !host.has_controller("pids") {
        if r.pids.is_some_and(|n| n > 0) {
            warnings.push(NO_PIDS.to_owned());
        }
        r.pids = None;
    }
    (r, warnings)
}

fn grantable_memory(r: &mut Resources, host: &HostFacts, warn: &mut dyn FnMut(&str)) {
    let memory = host.has_controller("memory");
    if r.memory > 0 && !memory {
        warn(NO_MEMORY);
        (r.memory, r.memory_swap) = (0, -1);
    }
    if r.memory > 0 && r.memory_swap == 0 {
        // Twice the memory, unless that cannot be limited; the default is no wish to warn about.
        r.memory_swap = if host.swap_limit { r.memory.saturating_mul(2) } else { -1 };
    }
    if r.memory > 0 && r.memory_swap != -1 && !host.swap_limit {
        warn(NO_SWAP);
        r.memory_swap = -1;
    }
    if r.memory_reservation > 0 && !memory {
        warn(NO_RESERVATION);
        r.memory_reservation = 0;
    }
    if r.swappiness == Some(-1) {
        r.swappiness = None;
    }
    if r.swappiness.is_some() && !host.swappiness {
        warn(NO_SWAPPINESS);
        r.swappiness = None;
    }
    if r.oom_kill_disable.is_some() && !host.oom_kill_disable {
        if r.oom_kill_disable == Some(true) {
            warn(NO_OOM_DISABLE);
        }
        r.oom_kill_disable = None;
    }
    // Kernels since 5.16 refuse it.
    if r.kernel_memory > 0 || r.kernel_memory_tcp > 0 {
        warn(NO_KERNEL_MEMORY);
        (r.kernel_memory, r.kernel_memory_tcp) = (0, 0);
    }
}

fn grantable_cpu(r: &mut Resources, host: &HostFacts, warn: &mut dyn FnMut(&str)) {
    if r.cpu_shares > 0 && !host.has_controller("cpu") {
        warn(NO_SHARES);
        r.cpu_shares = 0;
    }
    if (r.cpu_period != 0 || r.cpu_quota != 0 || r.nano_cpus != 0) && !host.cpu_cfs {
        warn(NO_CFS);
        (r.cpu_period, r.cpu_quota, r.nano_cpus) = (0, 0, 0);
    }
    if (r.cpu_rt_period != 0 || r.cpu_rt_runtime != 0) && !host.cpu_realtime {
        warn(NO_REALTIME);
        (r.cpu_rt_period, r.cpu_rt_runtime) = (0, 0);
    }
    let cpuset = !r.cpuset_cpus.is_empty() || !r.cpuset_mems.is_empty();
    if cpuset && !host.has_controller("cpuset") {
        warn(NO_CPUSET);
        r.cpuset_cpus.clear();
        r.cpuset_mems.clear();
    }
}

fn grantable_block_io(r: &mut Resources, host: &HostFacts, warn: &mut dyn FnMut(String)) {
    let weight = host.blkio_weight || (host.cgroup == CgroupVersion::V2 && host.has_controller("blkio"));
    if r.blkio_weight > 0 && !weight {
        warn(NO_WEIGHT.to_owned());
        r.blkio_weight = 0;
    }
    if !r.blkio_weight_device.is_empty() && (host.cgroup == CgroupVersion::V2 || !host.blkio_weight_device) {
        warn(NO_WEIGHT_DEVICE.to_owned());
        r.blkio_weight_device.clear();
    }
    let rates = [
        (&mut r.blkio_read_bps, "BPS Block I/O read", "Block I/O BPS read"),
        (&mut r.blkio_write_bps, "BPS Block I/O write", "Block I/O BPS write"),
        (&mut r.blkio_read_iops, "IOPS Block read", "Block I/O IOPS read"),
        (&mut r.blkio_write_iops, "IOPS Block write", "Block I/O IOPS write"),
    ];
    for (list, limit, discarded) in rates {
        if !list.is_empty() && !host.blkio_throttle {
            warn(format!(
                "Your kernel does not support {limit} limit or the cgroup is not mounted. {discarded} limit discarded."
            ));
            list.clear();
        }
    }
}

fn positive(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|v| *v > 0)
}

fn memory(r: &Resources) -> Option<LinuxMemory> {
    let mut made = LinuxMemory::default();
    made.set_limit((r.memory > 0).then_some(r.memory))
        .set_reservation((r.memory_reservation > 0).then_some(r.memory_reservation))
        // -1 is a wish of its own (swap without limit) once memory is limited.
        .set_swap((r.memory_swap > 0 || (r.memory_swap == -1 && r.memory > 0)).then_some(r.memory_swap))
        .set_swappiness(r.swappiness.and_then(|s| u64::try_from(s).ok()))
        .set_disable_oom_killer(r.oom_kill_disable);
    (made != LinuxMemory::default()).then_some(made)
}

fn cpu(r: &Resources) -> Result<Option<LinuxCpu>, OciError> {
    if r.cpu_shares < 0 {
        return Err(OciError::CpuShares(r.cpu_shares));
    }
    let mut made = LinuxCpu::default();
    made.set_shares(positive(r.cpu_shares));
    if r.nano_cpus > 0 {
        const PERIOD: u64 = 100_000;
        let quota = i128::from(r.nano_cpus) * i128::from(PERIOD) / 1_000_000_000;
        made.set_period(Some(PERIOD)).set_quota(i64::try_from(quota).ok());
    }
    if let Some(period) = positive(r.cpu_period) {
        made.set_period(Some(period));
    }
    if r.cpu_quota != 0 {
        made.set_quota(Some(r.cpu_quota));
    }
    made.set_realtime_period(positive(r.cpu_rt_period))
        .set_realtime_runtime((r.cpu_rt_runtime != 0).then_some(r.cpu_rt_runtime))
        .set_cpus((!r.cpuset_cpus.is_empty()).then(|| r.cpuset_cpus.clone()))
        .set_mems((!r.cpuset_mems.is_empty()).then(|| r.cpuset_mems.clone()));
    Ok((made != LinuxCpu::default()).then_some(made))
}

fn pids(limit: Option<i64>) -> Option<LinuxPids> {
    limit.map(|n| {
        let mut made = LinuxPids::default();
        made.set_limit(if n <= 0 { -1 } else { n });
        made
    })
}

fn block_io(r: &Resources, blocks: &BTreeMap<String, (i64, i64)>) -> Result<Option<LinuxBlockIo>, OciError> {
    let mut made = LinuxBlockIo::default();
    let weights: Vec<LinuxWeightDevice> = r
        .blkio_weight_device
        .iter()
        .filter_map(|w| {
            let (major, minor) = *blocks.get(&w.path)?;
            Some(LinuxWeightDeviceBuilder::default().major(major).minor(minor).weight(w.weight).build())
        })
        .collect::<Result<_, _>>()?;
    let rates = |list: &[BlkioRate]| {
        let all: Vec<LinuxThrottleDevice> = list
            .iter()
            .filter_map(|rate| {
                let (major, minor) = *blocks.get(&rate.path)?;
                Some(LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(rate.rate).build())
            })
            .collect::<Result<_, _>>()?;
        Ok::<_, OciError>((!all.is_empty()).then_some(all))
    };
    made.set_weight((r.blkio_weight > 0).then_some(r.blkio_weight))
        .set_weight_device((!weights.is_empty()).then_some(weights))
        .set_throttle_read_bps_device(rates(&r.blkio_read_bps)?)
        .set_throttle_write_bps_device(rates(&r.blkio_write_bps)?)
        .set_throttle_read_iops_device(rates(&r.blkio_read_iops)?)
        .set_throttle_write_iops_device(rates(&r.blkio_write_iops)?);
    Ok((made != LinuxBlockIo::default()).then_some(made))
}
