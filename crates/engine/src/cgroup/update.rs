//! New limits for a running container.
//!
//! Takes the runtime configuration's form, which [`crate::oci::limits`] makes; only what it names is changed.
//! Conversions to version 2 are those of the OCI runtimes (runc's `cgroups/utils.go`, crun's `cgroup-resources.c`).

use std::path::Path;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice,
};

use super::hierarchy::{Cgroup, CgroupError, read, write};

impl Cgroup {
    /// Sets limits. The first that the kernel refuses ends it; those before it stay set.
    pub fn update(&self, limits: &LinuxResources) -> Result<(), CgroupError> {
        if !self.exists() {
            return Err(CgroupError::Gone { path: self.path.clone() });
        }
        let v2 = self.v2();
        let dir = |controller: &'static str| {
            let found = v2.clone().or_else(|| self.v1(controller)).filter(|d| d.is_dir());
            found.map(|d| (d, v2.is_some())).ok_or(CgroupError::NoController(controller))
        };
        if let Some(memory) = limits.memory() {
            match dir("memory")? {
                (dir, true) => memory_v2(&dir, memory)?,
                (dir, false) => memory_v1(&dir, memory)?,
            }
        }
        if let Some(cpu) = limits.cpu() {
            if cpu.shares().is_some() || cpu.quota().is_some() || cpu.period().is_some() {
                match dir("cpu")? {
                    (dir, true) => cpu_v2(&dir, cpu)?,
                    (dir, false) => cpu_v1(&dir, cpu)?,
                }
            }
            for (value, file) in [(cpu.cpus(), "cpuset.cpus"), (cpu.mems(), "cpuset.mems")] {
                if let Some(value) = value {
                    write(&dir("cpuset")?.0.join(file), value)?;
                }
            }
        }
        if let Some(pids) = limits.pids() {
            write(&dir("pids")?.0.join("pids.max"), &most(pids))?;
        }
        if let Some(io) = limits.block_io() {
            match dir("blkio")? {
                (dir, true) => block_v2(&dir, io)?,
                (dir, false) => block_v1(&dir, io)?,
            }
        }
        Ok(())
    }
}

fn most(pids: &LinuxPids) -> String {
    if pids.limit() > 0 { pids.limit().to_string() } else { "max".to_owned() }
}

fn memory_v1(dir: &Path, memory: &LinuxMemory) -> Result<(), CgroupError> {
    let put = |file: &str, value: Option<i64>| match value {
        Some(value) => write(&dir.join(file), &value.to_string()),
        None => Ok(()),
    };
    let (limit, both) = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
    // Memory may never be above memory and swap together: the order depends on the direction.
    let now: u64 = read(&dir.join(both)).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(u64::MAX);
    let grows = memory.limit().is_some_and(|l| u64::try_from(l).map_or(true, |l| l > now))
        || memory.swap() == Some(-1);
    if grows {
        put(both, memory.swap())?;
        put(limit, memory.limit())?;
    } else {
        put(limit, memory.limit())?;
        put(both, memory.swap())?;
    }
    put("memory.soft_limit_in_bytes", memory.reservation())?;
    put("memory.swappiness", memory.swappiness().and_then(|s| i64::try_from(s).ok()))?;
    put("memory.oom_control", memory.disable_oom_killer().map(i64::from))
}

fn memory_v2(dir: &Path, memory: &LinuxMemory) -> Result<(), CgroupError> {
    let text = |value: i64| if value < 0 { "max".to_owned() } else { value.to_string() };
    if let Some(swap) = swap_alone(memory.swap(), memory.limit()) {
        write(&dir.join("memory.swap.max"), &text(swap))?;
    }
    if let Some(limit) = memory.limit() {
        write(&dir.join("memory.max"), &text(limit))?;
    }
    if let Some(reservation) = memory.reservation() {
        write(&dir.join("memory.low"), &text(reservation))?;
    }
    Ok(())
}

/// Version 2 limits swap alone, the configuration memory and swap together.
fn swap_alone(both: Option<i64>, memory: Option<i64>) -> Option<i64> {
    match (both?, memory) {
        (both, _) if both < 0 => Some(-1),
        (both, Some(memory)) if memory >= 0 => Some((both - memory).max(0)),
        _ => None,
    }
}

fn cpu_v1(dir: &Path, cpu: &LinuxCpu) -> Result<(), CgroupError> {
    if let Some(shares) = cpu.shares() {
        write(&dir.join("cpu.shares"), &shares.to_string())?;
    }
    let quota = || cpu.quota().map(|q| write(&dir.join("cpu.cfs_quota_us"), &q.to_string())).transpose();
    let period = || cpu.period().map(|p| write(&dir.join("cpu.cfs_period_us"), &p.to_string())).transpose();
    // Either order can be refused, depending on the values before: the other one then goes first.
    if period().is_err() {
        quota()?;
        period()?;
    }
    quota().map(drop)
}

fn cpu_v2(dir: &Path, cpu: &LinuxCpu) -> Result<(), CgroupError> {
    if let Some(shares) = cpu.shares().filter(|s| *s > 0) {
        write(&dir.join("cpu.weight"), &weight_of_shares(shares).to_string())?;
    }
    if cpu.quota().is_none() && cpu.period().is_none() {
        return Ok(());
    }
    let now = read(&dir.join("cpu.max"))?;
    let (old_quota, old_period) = now.trim().split_once(' ').unwrap_or(("max", "100000"));
    let quota = match cpu.quota() {
        Some(q) if q > 0 => q.to_string(),
        Some(_) => "max".to_owned(),
        None => old_quota.to_owned(),
    };
    let period = cpu.period().map_or_else(|| old_period.to_owned(), |p| p.to_string());
    write(&dir.join("cpu.max"), &format!("{quota} {period}"))
}

/// 2…262144 to 1…10000.
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// 10…1000 to 1…10000.
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

fn block_v1(dir: &Path, io: &LinuxBlockIo) -> Result<(), CgroupError> {
    let weight_file =
        ["blkio.weight", "blkio.bfq.weight"].map(|f| dir.join(f)).into_iter().find(|f| f.exists());
    if let (Some(weight), Some(file)) = (io.weight(), &weight_file) {
        write(file, &weight.to_string())?;
    }
    for device in io.weight_device().iter().flatten() {
        if let (Some(weight), Some(file)) = (device.weight(), &weight_file) {
            let file =
                file.with_file_name(format!("{}_device", file.file_name().unwrap_or_default().display()));
            write(&file, &format!("{}:{} {weight}", device.major(), device.minor()))?;
        }
    }
    for (list, file) in rates(io) {
        for d in list {
            write(&dir.join(file.0), &format!("{}:{} {}", d.major(), d.minor(), d.rate()))?;
        }
    }
    Ok(())
}

/// Lists of rates with their files: version 1's name, version 2's key in `io.max`.
fn rates(io: &LinuxBlockIo) -> [(Vec<LinuxThrottleDevice>, (&'static str, &'static str)); 4] {
    let list = |l: &Option<Vec<LinuxThrottleDevice>>| l.clone().unwrap_or_default();
    [
        (list(io.throttle_read_bps_device()), ("blkio.throttle.read_bps_device", "rbps")),
        (list(io.throttle_write_bps_device()), ("blkio.throttle.write_bps_device", "wbps")),
        (list(io.throttle_read_iops_device()), ("blkio.throttle.read_iops_device", "riops")),
        (list(io.throttle_write_iops_device()), ("blkio.throttle.write_iops_device", "wiops")),
    ]
}

fn block_v2(dir: &Path, io: &LinuxBlockIo) -> Result<(), CgroupError> {
    if let Some(weight) = io.weight() {
        let bfq = dir.join("io.bfq.weight");
        if bfq.exists() {
            write(&bfq, &weight.to_string())?;
        } else {
            write(&dir.join("io.weight"), &format!("default {}", io_weight(weight)))?;
        }
    }
    for (list, file) in rates(io) {
        for d in list {
            write(&dir.join("io.max"), &format!("{}:{} {}={}", d.major(), d.minor(), file.1, d.rate()))?;
        }
    }
    Ok(())
}
