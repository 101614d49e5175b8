//! The machine's own figures, beside which those of a container are shown.

use std::fs;

/// CPU time of all processes since boot, nanoseconds: the first line of `/proc/stat` without guest time (which
/// user time contains).
#[must_use]
pub fn system_cpu_time() -> u64 {
    parse_stat(&fs::read_to_string("/proc/stat").unwrap_or_default())
}

fn parse_stat(text: &str) -> u64 {
    // The kernel counts in ticks of 1/100 s towards programs (USER_HZ), on every architecture Weft runs on.
    const NANOS_PER_TICK: u64 = 10_000_000;
    let line = text.lines().next().unwrap_or_default();
    let ticks: u64 = line.split_whitespace().skip(1).take(8).filter_map(|n| n.parse::<u64>().ok()).sum();
    ticks.saturating_mul(NANOS_PER_TICK)
}

/// CPUs online.
#[must_use]
pub fn online_cpus() -> u32 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let cpus = stat.lines().filter(|l| l.starts_with("cpu") && !l.starts_with("cpu ")).count();
    u32::try_from(cpus).unwrap_or(1).max(1)
}

/// Bytes of memory of the machine.
#[must_use]
pub fn machine_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_without_guest_time() {
        assert_eq!(parse_stat("cpu  1 2 3 4 5 6 7 8 100 100\ncpu0 1\n"), 360_000_000);
        assert!(system_cpu_time() > 0 && machine_memory() > 1 << 20 && online_cpus() >= 1);
    }
}
