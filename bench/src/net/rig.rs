//! Getting into the namespaces of containers, and onto one core.

use std::fs::File;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::unistd::Pid;

use crate::measure::Bed;

/// The core of the daemon, of servers.
pub const THERE: usize = 0;
/// The core of whoever asks.
pub const HERE: usize = 1;

/// A network namespace, by its file.
#[derive(Clone, Debug)]
pub struct Netns(pub String);

impl Netns {
    /// That of a running container, by a path of the measuring program's own file system.
    pub fn of(bed: &Bed, container: &str) -> Result<Self> {
        let key = bed.docker(&["inspect", "-f", "{{.NetworkSettings.SandboxKey}}", container])?;
        if key.is_empty() {
            bail!("{container} has no network namespace");
        }
        Ok(Self(format!("/proc/{}/root{key}", bed.sandbox.init_pid())))
    }

    /// That of a process.
    pub fn of_process(pid: i32) -> Self {
        Self(format!("/proc/{pid}/ns/net"))
    }

    /// Runs `work` on a thread inside, on one core.
    pub fn run<T: Send>(&self, core: usize, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let net = File::open(&self.0).with_context(|| self.0.clone())?;
        let inside = move || {
            setns(net, CloneFlags::CLONE_NEWNET).context("entering the namespace")?;
            pin(Pid::from_raw(0), core)?;
            work()
        };
        std::thread::scope(|scope| {
            scope.spawn(inside).join().unwrap_or_else(|_| bail!("the measuring thread panicked"))
        })
    }

    /// A command that runs inside, on one core.
    pub fn command(&self, core: usize, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.0)).args(["--", "taskset", "-c", &core.to_string(), program]);
        command
    }
}

/// Puts a thread (0: the calling one) on one core, where the machine has it.
pub fn pin(thread: Pid, core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core % cores())?;
    sched_setaffinity(thread, &set).context("choosing a core")
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).max(HERE + 1)
}

fn threads(pid: i32) -> Vec<Pid> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| Some(Pid::from_raw(task.file_name().to_str()?.parse().ok()?))).collect()
}

/// The daemon on one core for as long as this lives.
pub struct OneCore(i32);

impl OneCore {
    pub fn new(bed: &Bed) -> Result<Self> {
        let pid = bed.daemon.pid();
        for thread in threads(pid) {
            pin(thread, THERE)?;
        }
        Ok(Self(pid))
    }
}

impl Drop for OneCore {
    fn drop(&mut self) {
        let mut all = CpuSet::new();
        for core in 0..cores() {
            let _ = all.set(core);
        }
        for thread in threads(self.0) {
            let _ = sched_setaffinity(thread, &all);
        }
    }
}

/// Seconds of CPU that the daemon's process has used: fields 14 and 15 of proc_pid_stat(5).
pub fn cpu_seconds(bed: &Bed) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", bed.daemon.pid()))?;
    let rest = text.rsplit_once(") ").context("a malformed stat")?.1;
    let ticks: f64 =
        rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("no clock tick")?;
    Ok(ticks / f64::from(i32::try_from(hertz)?))
}

/// Whether a program is there to be run.
pub fn need(program: &str) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|dir| dir.join(program).is_file()) {
        bail!("{program} is not installed; `make deps-bench` installs what benchmarks need");
    }
    Ok(())
}
