//! What a cgroup uses, in one neutral form for both versions.

use std::{collections::BTreeMap, fs, path::Path};

use super::hierarchy::{Cgroup, CgroupError};

/// CPU time; nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// All of it.
    pub total: u64,
    /// In the kernel.
    pub kernel: u64,
    /// In programs.
    pub user: u64,
    /// For each CPU; empty on version 2, which does not tell.
    pub per_cpu: Vec<u64>,
    /// Periods of bandwidth limiting that passed.
    pub periods: u64,
    /// Periods in which it was held back.
    pub throttled_periods: u64,
    /// How long it was held back.
    pub throttled_time: u64,
}

/// Memory; bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// In use, page cache among it.
    pub usage: u64,
    /// The most ever in use; 0 where the kernel does not tell.
    pub max_usage: u64,
    /// The limit; `u64::MAX` for none.
    pub limit: u64,
    /// How often the limit was hit (version 2: out-of-memory events).
    pub failures: u64,
    /// Processes killed for lack of memory.
    pub oom_kills: u64,
    /// The kernel's own names and values (`memory.stat`).
    pub stat: BTreeMap<String, u64>,
}

/// Processes and threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PidsUsage {
    /// Now.
    pub current: u64,
    /// At most; 0 for no limit.
    pub limit: u64,
}

/// One line of block device accounting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockIo {
    /// Device.
    pub major: u64,
    /// Device.
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total` (version 1); `read`, `write` (version 2).
    pub op: String,
    /// Bytes, or operations.
    pub value: u64,
}

/// What a cgroup uses. A controller that this host lacks leaves its part at its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU.
    pub cpu: CpuUsage,
    /// Memory.
    pub memory: MemoryUsage,
    /// Processes.
    pub pids: PidsUsage,
    /// Bytes to and from block devices, cgroups below included.
    pub io_bytes: Vec<BlockIo>,
    /// Operations on block devices, cgroups below included.
    pub io_operations: Vec<BlockIo>,
}

impl Cgroup {
    /// Reads what it uses now. About a dozen small files, some ten microseconds each.
    pub fn usage(&self) -> Result<Usage, CgroupError> {
        if let Some(dir) = self.v2() {
            if !dir.is_dir() {
                return Err(CgroupError::Gone { path: self.path.clone() });
            }
            return Ok(v2(&dir));
        }
        if !self.exists() {
            return Err(CgroupError::Gone { path: self.path.clone() });
        }
        let mut usage = Usage::default();
        if let Some(dir) = self.v1("cpuacct") {
            cpu_v1(&dir, &mut usage.cpu);
        }
        if let Some(dir) = self.v1("cpu") {
            let stat = pairs(&dir.join("cpu.stat"));
            usage.cpu.periods = get(&stat, "nr_periods");
            usage.cpu.throttled_periods = get(&stat, "nr_throttled");
            usage.cpu.throttled_time = get(&stat, "throttled_time");
        }
        if let Some(dir) = self.v1("memory") {
            usage.memory = memory_v1(&dir);
        }
        if let Some(dir) = self.v1("pids") {
            usage.pids = pids(&dir);
        }
        if let Some(dir) = self.v1("blkio") {
            usage.io_bytes = block_v1(&dir, "io_service_bytes");
            usage.io_operations = block_v1(&dir, "io_serviced");
        }
        Ok(usage)
    }

    /// CPU time used, in nanoseconds, and nothing else: one small file. `None` when there is no such cgroup.
    #[must_use]
    pub fn cpu_time(&self) -> Option<u64> {
        match self.v2() {
            Some(dir) => pairs(&dir.join("cpu.stat")).get("usage_usec").map(|us| us.saturating_mul(1000)),
            None => number(&self.v1("cpuacct")?.join("cpuacct.usage")),
        }
    }
}

/// A file of one number; `max` and what cannot be read are `None`.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A file of `name value` lines.
fn pairs(path: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn get(stat: &BTreeMap<String, u64>, name: &str) -> u64 {
    stat.get(name).copied().unwrap_or(0)
}

fn cpu_v1(dir: &Path, cpu: &mut CpuUsage) {
    cpu.total = number(&dir.join("cpuacct.usage")).unwrap_or(0);
    let each = fs::read_to_string(dir.join("cpuacct.usage_percpu")).unwrap_or_default();
    cpu.per_cpu = each.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    // In nanoseconds since 4.9; `cpuacct.stat` counts ticks only.
    cpu.user = number(&dir.join("cpuacct.usage_user")).unwrap_or(0);
    cpu.kernel = number(&dir.join("cpuacct.usage_sys")).unwrap_or(0);
}

fn memory_v1(dir: &Path) -> MemoryUsage {
    // Without a limit the kernel says a number close to 2^63.
    let limit = number(&dir.join("memory.limit_in_bytes")).filter(|l| *l < 1 << 62);
    MemoryUsage {
        usage: number(&dir.join("memory.usage_in_bytes")).unwrap_or(0),
        max_usage: number(&dir.join("memory.max_usage_in_bytes")).unwrap_or(0),
        limit: limit.unwrap_or(u64::MAX),
        failures: number(&dir.join("memory.failcnt")).unwrap_or(0),
        oom_kills: get(&pairs(&dir.join("memory.oom_control")), "oom_kill"),
        stat: pairs(&dir.join("memory.stat")),
    }
}

fn pids(dir: &Path) -> PidsUsage {
    PidsUsage {
        current: number(&dir.join("pids.current")).unwrap_or(0),
        limit: number(&dir.join("pids.max")).unwrap_or(0),
    }
}

/// The scheduler's accounting where there is one, the throttling layer's otherwise.
fn block_v1(dir: &Path, what: &str) -> Vec<BlockIo> {
    ["bfq.", "throttle."]
        .iter()
        .map(|by| block_lines(&dir.join(format!("blkio.{by}{what}_recursive"))))
        .find(|lines| !lines.is_empty())
        .unwrap_or_default()
}

fn block_lines(path: &Path) -> Vec<BlockIo> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let mut fields = line.split(' ');
        let (major, minor) = fields.next()?.split_once(':')?;
        let op = fields.next()?.to_owned();
        let value = fields.next()?.parse().ok()?;
        Some(BlockIo { major: major.parse().ok()?, minor: minor.parse().ok()?, op, value })
    };
    text.lines().filter_map(line).collect()
}

fn v2(dir: &Path) -> Usage {
    let cpu = pairs(&dir.join("cpu.stat"));
    let micros = |name: &str| get(&cpu, name).saturating_mul(1000);
    let events = pairs(&dir.join("memory.events"));
    let io = fs::read_to_string(dir.join("io.stat")).unwrap_or_default();
    Usage {
        cpu: CpuUsage {
            total: micros("usage_usec"),
            kernel: micros("system_usec"),
            user: micros("user_usec"),
            per_cpu: Vec::new(),
            periods: get(&cpu, "nr_periods"),
            throttled_periods: get(&cpu, "nr_throttled"),
            throttled_time: micros("throttled_usec"),
        },
        memory: MemoryUsage {
            usage: number(&dir.join("memory.current")).unwrap_or(0),
            max_usage: number(&dir.join("memory.peak")).unwrap_or(0),
            limit: number(&dir.join("memory.max")).unwrap_or(u64::MAX),
            failures: get(&events, "oom"),
            oom_kills: get(&events, "oom_kill"),
            stat: pairs(&dir.join("memory.stat")),
        },
        pids: pids(dir),
        io_bytes: block_v2(&io, "rbytes", "wbytes"),
        io_operations: block_v2(&io, "rios", "wios"),
    }
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`.
pub(super) fn block_v2(text: &str, read: &str, write: &str) -> Vec<BlockIo> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.split(' ');
        let Some((major, minor)) = fields.next().and_then(|d| d.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        let values: BTreeMap<&str, u64> = fields
            .filter_map(|f| f.split_once('='))
            .filter_map(|(k, v)| Some((k, v.parse().ok()?)))
            .collect();
        for (op, name) in [("read", read), ("write", write)] {
            if let Some(value) = values.get(name) {
                found.push(BlockIo { major, minor, op: op.to_owned(), value: *value });
            }
        }
    }
    found
}
