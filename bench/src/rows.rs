//! The rows: what is prepared once, and what one sample is.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use weft_testkit::{Daemon, DaemonOptions, Sandbox};

use crate::measure::{Bed, shell};

/// What the issue asks to reach.
#[derive(Clone, Copy)]
pub enum Target {
    /// At most this share of dockerd's figure.
    OfDockerd(f64),
    /// At least this many times dockerd's figure.
    TimesDockerd(f64),
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// Nothing is asked: what something costs.
    Told,
}

/// One figure.
#[derive(Clone, Copy)]
pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    pub unit: &'static str,
    pub target: Target,
    /// Takes seconds: fewer samples.
    pub slow: bool,
    pub before: fn(&mut Bed) -> Result<()>,
    pub sample: fn(&mut Bed) -> Result<f64>,
}

const IMG: &str = "busybox";
/// Megabytes of log lines of the log rows.
const LOG_MB: f64 = 200.0;

fn nothing(_: &mut Bed) -> Result<()> {
    Ok(())
}

/// All rows, in the order.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    Row { name: "run", what: "docker run --rm IMG true, default bridge", unit: "ms", target: Target::OfDockerd(0.25), slow: false,
        before: nothing, sample: |bed| bed.time(&["run", "--rm", IMG, "true"]) },
    Row { name: "run-p", what: "the same with -p", unit: "ms", target: Target::OfDockerd(0.25), slow: false,
        before: nothing, sample: |bed| bed.time(&["run", "--rm", "-p", "18080:80", IMG, "true"]) },
    Row { name: "run-none", what: "the same with --network none", unit: "ms", target: Target::OfDockerd(0.25), slow: false,
        before: nothing, sample: |bed| bed.time(&["run", "--rm", "--network", "none", IMG, "true"]) },
    Row { name: "exec", what: "docker exec C true", unit: "ms", target: Target::OfDockerd(0.5), slow: false,
        before: exec_ready, sample: |bed| bed.time(&["exec", "bench-exec", "true"]) },
    Row { name: "run-d-20", what: "20 docker run -d, one after another", unit: "ms", target: Target::OfDockerd(1.0 / 3.0), slow: true,
        before: nothing, sample: twenty },
    Row { name: "run-d-50", what: "50 docker run -d, eight at a time", unit: "ms", target: Target::OfDockerd(1.0 / 3.0), slow: true,
        before: nothing, sample: fifty },
    Row { name: "list", what: "GET /containers/json, 20 running, 1 connection", unit: "1/s", target: Target::AtLeast(10_000.0), slow: true,
        before: |bed| bed.sleepers(20), sample: |bed| bed.requests_per_second("/v1.41/containers/json") },
    Row { name: "info", what: "GET /info, 1 connection", unit: "1/s", target: Target::AtLeast(5_000.0), slow: true,
        before: nothing, sample: |bed| bed.requests_per_second("/v1.41/info") },
    Row { name: "pss-idle", what: "memory idle, PSS of all the daemon's processes (fresh daemon)", unit: "MB", target: Target::AtMost(15.0), slow: true,
        before: nothing, sample: idle_memory },
    Row { name: "pss-container", what: "memory for each running container, PSS beyond its own (20 running)", unit: "MB", target: Target::AtMost(1.0), slow: true,
        before: nothing, sample: container_memory },
    Row { name: "log-write", what: "200 MB of log lines written", unit: "MB/s", target: Target::AtLeast(100.0), slow: true,
        before: nothing, sample: write_log },
    Row { name: "log-read", what: "the same read back by docker logs", unit: "MB/s", target: Target::AtLeast(300.0), slow: true,
        before: |bed| write_log(bed).map(drop), sample: read_log },
    Row { name: "start-clean", what: "start to ready, clean", unit: "ms", target: Target::AtMost(300.0), slow: true,
        before: nothing, sample: clean_start },
    Row { name: "start-killed", what: "start to ready after kill -9 with 20 containers", unit: "ms", target: Target::AtMost(500.0), slow: true,
        before: nothing, sample: start_after_kill },
    Row { name: "survivors", what: "of those 20 containers, still running untouched", unit: "", target: Target::AtLeast(20.0), slow: true,
        before: nothing, sample: survivors },
    Row { name: "load", what: "load of a 212 MB image", unit: "ms", target: Target::OfDockerd(1.0), slow: true,
        before: nothing, sample: load },
    Row { name: "save", what: "save of a 212 MB image", unit: "ms", target: Target::OfDockerd(1.0), slow: true,
        before: |bed| load(bed).map(drop), sample: save },
];

fn exec_ready(bed: &mut Bed) -> Result<()> {
    bed.docker(&["run", "-d", "--name", "bench-exec", IMG, "sleep", "100000"]).map(drop)
}

fn twenty(bed: &mut Bed) -> Result<f64> {
    let begun = Instant::now();
    bed.sleepers(20)?;
    let took = begun.elapsed();
    bed.clear()?;
    Ok(took.as_secs_f64() * 1000.0)
}

fn fifty(bed: &mut Bed) -> Result<f64> {
    let begun = Instant::now();
    shell(bed, &format!("seq 50 | xargs -P 8 -I N docker run -d {IMG} sleep 100000"))?;
    let took = begun.elapsed();
    bed.clear()?;
    Ok(took.as_secs_f64() * 1000.0)
}

/// A second daemon of the same kind in a sandbox of its own, with no data at all.
pub(crate) fn fresh(bed: &Bed) -> Result<(Daemon, Sandbox)> {
    let sandbox = Sandbox::new()?;
    let daemon = Daemon::start(&sandbox, bed.daemon.subject(), "fresh", DaemonOptions::default())?;
    Ok((daemon, sandbox))
}

fn idle_memory(bed: &mut Bed) -> Result<f64> {
    let (daemon, sandbox) = fresh(bed)?;
    let fresh = Bed { daemon, sandbox, big: bed.big.clone() };
    std::thread::sleep(std::time::Duration::from_secs(1));
    Ok(fresh.pss_kb()? / 1024.0)
}

fn container_memory(bed: &mut Bed) -> Result<f64> {
    // A fresh daemon: garbage of earlier rows, collected meanwhile, would count as a gain.
    let (daemon, sandbox) = fresh(bed)?;
    let fresh = Bed { daemon, sandbox, big: bed.big.clone() };
    let small = bed.big.with_file_name("small.tar");
    fresh.docker(&["load", "-q", "-i", &small.display().to_string()])?;
    fresh.sleepers(1)?;
    let before = fresh.pss_kb()?;
    fresh.sleepers(20)?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    Ok((fresh.pss_kb()? - before) / 20.0 / 1024.0)
}

fn write_log(bed: &mut Bed) -> Result<f64> {
    let _ = bed.docker(&["rm", "-f", "bench-log"]);
    let bytes = (LOG_MB * 1e6).to_string();
    let script = format!(
        "yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c {bytes}"
    );
    // The log must hold all of it, so rotation gets room; `logs` later proves that nothing was dropped.
    let took = bed.time(&[
        "run",
        "-d",
        "--name",
        "bench-log",
        "--log-opt",
        "max-size=1g",
        "--log-opt",
        "max-file=1",
        IMG,
        "sh",
        "-c",
        &script,
    ])? + bed.time(&["wait", "bench-log"])?;
    Ok(LOG_MB / (took / 1000.0))
}

fn read_log(bed: &mut Bed) -> Result<f64> {
    let begun = Instant::now();
    let mut child = bed.daemon.docker().args(["logs", "bench-log"]).stdout(Stdio::piped()).spawn()?;
    let read =
        std::io::copy(&mut child.stdout.take().context("output of docker logs")?, &mut std::io::sink())?;
    ensure!(child.wait()?.success(), "docker logs failed");
    let took = begun.elapsed().as_secs_f64();
    ensure!(read >= 199_000_000, "docker logs gave {read} bytes of 200 MB");
    Ok(LOG_MB / took)
}

fn clean_start(bed: &mut Bed) -> Result<f64> {
    let (daemon, _sandbox) = fresh(bed)?;
    Ok(daemon.start_time().as_secs_f64() * 1000.0)
}

/// Kills the daemon with 20 containers running and starts it again.
fn crash(bed: &mut Bed) -> Result<()> {
    bed.clear()?;
    bed.sleepers(20)?;
    bed.daemon.kill9()?;
    bed.daemon.boot(&bed.sandbox)
}

fn start_after_kill(bed: &mut Bed) -> Result<f64> {
    crash(bed)?;
    Ok(bed.daemon.start_time().as_secs_f64() * 1000.0)
}

fn survivors(bed: &mut Bed) -> Result<f64> {
    bed.clear()?;
    bed.sleepers(20)?;
    let format = ["ps", "-q", "--no-trunc"];
    let state = |bed: &Bed| -> Result<Vec<String>> {
        let ids = bed.docker(&format)?;
        let mut all = Vec::new();
        for id in ids.lines() {
            all.push(bed.docker(&["inspect", "-f", "{{.Id}} {{.State.Pid}} {{.State.StartedAt}}", id])?);
        }
        Ok(all)
    };
    let before = state(bed)?;
    bed.daemon.kill9()?;
    bed.daemon.boot(&bed.sandbox)?;
    let after = state(bed)?;
    let kept = before.iter().filter(|line| after.contains(line)).count();
    Ok(f64::from(u32::try_from(kept)?))
}

fn load(bed: &mut Bed) -> Result<f64> {
    let _ = bed.docker(&["rmi", "-f", "weft-bench-big"]);
    bed.time(&["load", "-q", "-i", &bed.big.display().to_string()])
}

fn save(bed: &mut Bed) -> Result<f64> {
    let file = bed.sandbox.dir().join("saved.tar");
    bed.time(&["save", "-o", &file.display().to_string(), "weft-bench-big"])
}
