//! Keeping the subjects up, taking interleaved samples, and the median of them.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use weft_testkit::{Daemon, DaemonOptions, ImageSpec, Sandbox, Subject, busybox_archive, sandbox};

use crate::rows::Row;

/// Rest before each sample, so that the last one's clean-up is not measured.
const PAUSE: Duration = Duration::from_millis(150);
/// The TCP listener for wrk, in the sandbox's own network namespace.
const TCP: &str = "127.0.0.1:2375";
/// What the daemon's directory in its sandbox is called.
const NAME: &str = "subject";
/// Size of the image of the load and save rows.
const BALLAST: u64 = 210 << 20;

/// A row's medians, one for each subject, or why there is none.
pub struct Measured {
    pub row: &'static Row,
    pub values: Vec<Result<f64, String>>,
}

/// One subject, up, with the image `busybox` loaded.
pub struct Bed {
    // Dropped in this order: the daemon before its sandbox.
    pub daemon: Daemon,
    pub sandbox: Sandbox,
    pub big: PathBuf,
}

impl Bed {
    pub fn new(subject: Subject, archives: &tempfile::TempDir) -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let options = DaemonOptions { tcp: Some(TCP.to_owned()), ..Default::default() };
        let daemon = Daemon::start(&sandbox, subject, NAME, options)?;
        let bed = Self { daemon, sandbox, big: archives.path().join("big.tar") };
        let small = archives.path().join("small.tar");
        bed.docker(&["load", "-q", "-i", &small.display().to_string()])?;
        Ok(bed)
    }

    /// A client command that must succeed; its standard output.
    pub fn docker(&self, args: &[&str]) -> Result<String> {
        let output = self.daemon.docker().args(args).output().context("start docker")?;
        ensure!(
            output.status.success(),
            "docker {args:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Milliseconds that a client command takes from fork to exit, its output thrown away.
    pub fn time(&self, args: &[&str]) -> Result<f64> {
        let begun = Instant::now();
        let output =
            self.daemon.docker().args(args).stdout(Stdio::null()).output().context("start docker")?;
        let took = begun.elapsed().as_secs_f64() * 1000.0;
        ensure!(
            output.status.success(),
            "docker {args:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(took)
    }

    /// Starts `count` sleeping containers on the default bridge.
    pub fn sleepers(&self, count: usize) -> Result<()> {
        for _ in 0..count {
            self.docker(&["run", "-d", "-l", "bench", "busybox", "sleep", "100000"])?;
        }
        Ok(())
    }

    /// Removes every container.
    pub fn clear(&self) -> Result<()> {
        let ids = self.docker(&["ps", "-aq"])?;
        if !ids.is_empty() {
            let ids: Vec<&str> = ids.lines().collect();
            self.docker(&[&["rm", "-f", "-v"], &ids[..]].concat())?;
        }
        Ok(())
    }

    /// Requests a second of one connection, by wrk in the sandbox.
    pub fn requests_per_second(&self, path: &str) -> Result<f64> {
        let mut wrk = self.sandbox.command("wrk");
        let output =
            wrk.args(["-t1", "-c1", "-d3s", &format!("http://{TCP}{path}")]).output().context("start wrk")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(!text.contains("Non-2xx"), "{path}: {text}");
        let line = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
        line.and_then(|rate| rate.trim().parse().ok()).with_context(|| format!("wrk said: {text}"))
    }

    /// Proportional set size, in kB, of the daemon's own processes: what the sandbox runs less its init,
    /// its `sleep`, and what runs inside containers.
    pub fn pss_kb(&self) -> Result<f64> {
        let container = std::fs::read_link(format!("/proc/{}/ns/pid", self.sandbox.init_pid()))?;
        let mut total = 0.0;
        for pid in pids_of(&self.sandbox) {
            let Ok(namespace) = std::fs::read_link(format!("/proc/{pid}/ns/pid")) else { continue };
            let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let ours = ["tini", "sleep", "sh", "nsenter"].contains(&command.trim());
            if namespace != container || ours {
                continue;
            }
            let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let pss = text.lines().find_map(|line| line.strip_prefix("Pss:"));
            let pss = pss.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
            total += pss.unwrap_or_default();
        }
        ensure!(total > 0.0, "no process of the daemon is seen");
        Ok(total)
    }
}

/// Every process whose pid namespace's parent chain leads to the sandbox: told by its first process's children.
pub fn pids_of(sandbox: &Sandbox) -> Vec<i32> {
    let mut found = vec![sandbox.init_pid()];
    let mut next = 0;
    // nsenter's children belong to nsenter outside, so ask by namespace as well.
    found.extend(sandbox.processes().into_iter().filter(|pid| *pid != sandbox.init_pid()));
    while next < found.len() {
        let path = format!("/proc/{0}/task/{0}/children", found[next]);
        let children = std::fs::read_to_string(path).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        next += 1;
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Measures the chosen ones of `rows` on all subjects.
pub fn all(
    subjects: &[Subject],
    rows: &'static [Row],
    only: &[String],
    samples: usize,
) -> Result<Vec<Measured>> {
    let archives = tempfile::Builder::new().prefix("weft-bench-").tempdir()?;
    busybox_archive(&ImageSpec::tagged("busybox:latest"), &archives.path().join("small.tar"))?;
    let mut big = ImageSpec::tagged("weft-bench-big:latest");
    let chosen: Vec<&'static Row> =
        rows.iter().filter(|row| only.is_empty() || only.iter().any(|name| name == row.name)).collect();
    if chosen.iter().any(|row| ["load", "save"].contains(&row.name)) {
        big.ballast = BALLAST;
    }
    busybox_archive(&big, &archives.path().join("big.tar"))?;
    let mut beds =
        subjects.iter().map(|subject| Bed::new(*subject, &archives)).collect::<Result<Vec<_>>>()?;
    chosen.into_iter().map(|row| one(row, &mut beds, samples)).collect()
}

fn one(row: &'static Row, beds: &mut [Bed], samples: usize) -> Result<Measured> {
    eprintln!("measuring {} …", row.name);
    let count = if row.slow { (samples / 3).max(1) } else { samples.max(1) };
    let mut taken: Vec<Result<Vec<f64>, String>> = beds.iter().map(|_| Ok(Vec::new())).collect();
    for (bed, samples) in beds.iter_mut().zip(&mut taken) {
        if let Err(error) = (row.before)(bed) {
            *samples = Err(format!("{error:#}"));
        }
    }
    for _ in 0..count {
        for (bed, samples) in beds.iter_mut().zip(&mut taken) {
            let Ok(numbers) = samples else { continue };
            std::thread::sleep(PAUSE);
            match (row.sample)(bed) {
                Ok(number) => {
                    eprintln!("  {}: {number:.3}", bed.daemon.subject().name());
                    numbers.push(number);
                }
                Err(error) => *samples = Err(format!("{error:#}")),
            }
        }
    }
    for bed in beds.iter_mut() {
        if let Err(error) = bed.clear() {
            bail!("cannot clear up after {}: {error:#}", row.name);
        }
    }
    let values = taken.into_iter().map(|samples| samples.map(median)).collect();
    Ok(Measured { row, values })
}

/// The middle value; the mean of the two middle ones of an even count.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len().is_multiple_of(2) {
        (numbers[middle - 1] + numbers[middle]) / 2.0
    } else {
        numbers[middle]
    }
}

/// Runs a shell command on this host that must succeed.
pub fn shell(bed: &Bed, script: &str) -> Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("DOCKER_HOST", bed.daemon.docker_host()).stdout(Stdio::null());
    sandbox::run(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }
}
