//! Health checks: a probe is an exec in the container, run in turns while it runs.
//!
//! Docker's rules (`daemon/health.go`): exit code 0 is healthy, anything else is a failure; `retries` failures in a row
//! make it unhealthy; failures within the start period do not count, but a success ends that period. The verdict is computed
//! by [`judge`], a pure function.

use std::{sync::Arc, time::Duration};

use tokio::io::AsyncReadExt;
use weft_base::{Timestamp, chain};
use weft_model::{
    Container, ContainerId, ExecId, ExecSpec, HealthCheck, HealthReport, HealthState, HealthTest, Probe,
};

use crate::{
    Result,
    cell::Cell,
    engine::{Inner, make_dir},
    shim::{self, Attach, Shim},
    volumes,
};

const KEPT_PROBES: usize = 5;
const KEPT_OUTPUT: usize = 4096;

/// Times with defaults filled in.
struct Pace {
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u32,
}

impl Pace {
    fn of(check: &HealthCheck) -> Self {
        let or = |nanos: i64, seconds: u64| match u64::try_from(nanos) {
            Ok(nanos @ 1..) => Duration::from_nanos(nanos),
            _ => Duration::from_secs(seconds),
        };
        Self {
            interval: or(check.interval, 30),
            timeout: or(check.timeout, 30),
            start_period: or(check.start_period, 0),
            start_interval: or(check.start_interval, 5),
            retries: u32::try_from(check.retries).ok().filter(|r| *r > 0).unwrap_or(3),
        }
    }
}

/// The report after one more probe.
fn judge(before: &HealthReport, probe: Probe, starting: bool, retries: u32) -> HealthReport {
    let mut after = before.clone();
    if probe.exit_code == 0 {
        after.failing_streak = 0;
        after.state = HealthState::Healthy;
    } else if !(starting && after.state == HealthState::Starting) {
        after.failing_streak += 1;
        if after.failing_streak >= retries {
            after.state = HealthState::Unhealthy;
        }
    }
    after.log.push(probe);
    let excess = after.log.len().saturating_sub(KEPT_PROBES);
    after.log.drain(..excess);
    after
}

fn command(container: &Container, check: &HealthCheck) -> Option<Vec<String>> {
    match &check.test {
        HealthTest::Exec(args) if !args.is_empty() => Some(args.clone()),
        HealthTest::Shell(line) => {
            let shell = container.spec.process.shell.clone();
            let mut args = shell.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
            args.push(line.clone());
            Some(args)
        }
        HealthTest::Disabled | HealthTest::Exec(_) => None,
    }
}

/// The report of a container that has just started, with the probes of its last run; none where it is not checked.
pub(crate) fn first_report(container: &Container) -> Option<HealthReport> {
    let check = container.spec.health.as_ref()?;
    command(container, check)?;
    let log = container.status.health.as_ref().map(|last| last.log.clone()).unwrap_or_default();
    Some(HealthReport { log, ..HealthReport::default() })
}

impl Inner {
    /// Begins to check a container that runs.
    pub(crate) fn begin_health(self: &Arc<Self>, cell: &Arc<Cell>, container: &Arc<Container>) {
        let Some(check) = container.spec.health.clone() else { return };
        let Some(args) = command(container, &check) else { return };
        let (inner, cell_, container) = (Arc::clone(self), Arc::clone(cell), Arc::clone(container));
        let task = tokio::spawn(async move { inner.check_on(&cell_, &container, &check, &args).await });
        if let Some(old) = cell.state.lock().health.replace(task.abort_handle()) {
            old.abort();
        }
        let tasks = self.tasks.clone();
        let abort = task.abort_handle();
        self.tasks.spawn(async move {
            tokio::select! { _ = task => {}, () = tasks.stopped() => abort.abort() }
        });
    }

    pub(crate) fn end_health(&self, cell: &Cell) {
        if let Some(task) = cell.state.lock().health.take() {
            task.abort();
        }
    }

    async fn check_on(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        container: &Arc<Container>,
        check: &HealthCheck,
        args: &[String],
    ) {
        let pace = Pace::of(check);
        let mut report = container.status.health.clone().unwrap_or_default();
        let begun = container.status.started_at.unwrap_or_else(|| self.clock.now());
        loop {
            let starting = self.clock.now().since(begun) < pace.start_period;
            let young = starting && report.state == HealthState::Starting;
            let pause = if young && check.start_interval > 0 { pace.start_interval } else { pace.interval };
            tokio::time::sleep(pause).await;
            if cell.news.borrow().status.state == weft_model::RunState::Paused {
                continue;
            }
            let probe = self.probe(container, args, pace.timeout).await;
            let starting = probe.start.since(begun) < pace.start_period;
            let after = judge(&report, probe, starting, pace.retries);
            let changed = after.state != report.state;
            report = after;
            self.write_report(cell, &report).await;
            if changed {
                self.events.container(container, format!("health_status: {}", report.state.as_str()), []);
            }
        }
    }

    async fn write_report(&self, cell: &Cell, report: &HealthReport) {
        let written = self
            .write_status(cell, false, |status| {
                if status.state.is_alive() {
                    status.health = Some(report.clone());
                }
            })
            .await;
        if let Err(error) = written {
            tracing::warn!(container = %cell.id, error = chain(&error), "its health cannot be written down");
        }
    }

    /// Ends the probes of an earlier daemon: nobody waits for them any more.
    pub(crate) fn end_probes(self: &Arc<Self>, container: ContainerId) {
        let probes = self.live(container).join("probe");
        let Ok(entries) = std::fs::read_dir(probes) else { return };
        let dirs: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        self.tasks.spawn(async move {
            for dir in dirs {
                if let Ok(Some(shim)) = Shim::adopt(&dir).await {
                    let _ = shim.kill(libc::SIGKILL, true).await;
                    let _ = tokio::time::timeout(Duration::from_secs(5), shim.wait()).await;
                }
                if let Err(error) = volumes::remove_tree(&dir) {
                    tracing::warn!(%container, error = chain(&error), "a probe left something");
                }
            }
        });
    }

    async fn probe(
        self: &Arc<Self>,
        container: &Arc<Container>,
        args: &[String],
        timeout: Duration,
    ) -> Probe {
        let start = self.clock.now();
        let spec = ExecSpec {
            id: ExecId::new(),
            container: container.spec.id,
            args: args.to_vec(),
            env: Vec::new(),
            working_dir: String::new(),
            user: String::new(),
            tty: false,
            attach: (false, true, true),
            privileged: false,
            detach_keys: String::new(),
            console_size: None,
        };
        let dir = self.live(container.spec.id).join("probe").join(spec.id.to_string());
        let mut output = Vec::new();
        let done = self.run_probe(container, &spec, &dir, timeout, &mut output).await;
        let end = self.clock.now();
        if let Err(error) = volumes::remove_tree(&dir) {
            tracing::warn!(container = %container.spec.id, error = chain(&error), "a probe left something");
        }
        done_probe(start, end, done, output, timeout)
    }

    async fn run_probe(
        self: &Arc<Self>,
        container: &Arc<Container>,
        spec: &ExecSpec,
        dir: &std::path::Path,
        timeout: Duration,
        output: &mut Vec<u8>,
    ) -> Result<Option<i64>> {
        make_dir(dir)?;
        let wanted = shim::ExecSpec {
            id: spec.id.to_string(),
            container: self.live(spec.container),
            process: self.exec_process(container, spec).await?,
            tty: false,
            stdin: false,
            console_size: None,
        };
        let facts = [("execID", spec.id.to_string())];
        let line = spec.args.join(" ");
        self.events.container(container, format!("exec_create: {line}"), facts.clone());
        let shim = Shim::exec(&self.config.launcher, dir, &wanted).await?;
        let mut stream = shim.attach(Attach { stdin: false, stdout: true, stderr: true }).await?;
        self.events.container(container, format!("exec_start: {line}"), facts);
        shim.start().await?;
        let run = async {
            let mut buffer = vec![0u8; 8 << 10];
            let mut frames = Unframe::default();
            while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                frames.take(&buffer[..n], output);
            }
            shim.wait().await
        };
        let code = match tokio::time::timeout(timeout, run).await {
            Ok(exit) => Some(i64::from(exit?.code)),
            Err(_) => {
                let _ = shim.kill(libc::SIGKILL, true).await;
                let _ = tokio::time::timeout(Duration::from_secs(5), shim.wait()).await;
                None
            }
        };
        let facts = [("execID", spec.id.to_string()), ("exitCode", code.unwrap_or(137).to_string())];
        self.events.container(container, "exec_die", facts);
        Ok(code)
    }
}

fn done_probe(
    start: Timestamp,
    end: Timestamp,
    done: Result<Option<i64>>,
    mut output: Vec<u8>,
    timeout: Duration,
) -> Probe {
    output.truncate(KEPT_OUTPUT);
    let text = String::from_utf8_lossy(&output).into_owned();
    let (exit_code, output) = match done {
        Ok(Some(code)) => (code, text),
        Ok(None) => (-1, format!("Health check exceeded timeout ({timeout:?}): {text}")),
        Err(error) => (-1, chain(&error)),
    };
    Probe { start, end, exit_code, output }
}

/// Takes Docker's stream headers away.
#[derive(Default)]
struct Unframe {
    head: Vec<u8>,
    left: usize,
}

impl Unframe {
    fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if self.left == 0 {
                let n = bytes.len().min(8 - self.head.len());
                self.head.extend_from_slice(&bytes[..n]);
                bytes = &bytes[n..];
                if let [_, _, _, _, a, b, c, d] = self.head[..] {
                    self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                    self.head.clear();
                }
                continue;
            }
            let n = bytes.len().min(self.left);
            if out.len() < KEPT_OUTPUT {
                out.extend_from_slice(&bytes[..n]);
            }
            self.left -= n;
            bytes = &bytes[n..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzz_output_of_probes() {
        let seed = b"\x01\0\0\0\0\0\0\x05hello\x02\0\0\0\0\0\0\x01!".to_vec();
        weft_testkit::fuzz::run("health-frames", &[seed], &[], |bytes| {
            let (mut frames, mut out) = (Unframe::default(), Vec::new());
            bytes.chunks(5).for_each(|piece| frames.take(piece, &mut out));
            assert!(out.len() <= bytes.len());
        });
    }

    #[test]
    fn verdicts_follow_dockers_rules() {
        let at = Timestamp::from_unix(0, 0).unwrap();
        let probe = |exit_code| Probe { start: at, end: at, exit_code, output: String::new() };
        let run = |codes: &[(i64, bool)]| {
            let start = HealthReport::default();
            codes.iter().fold(start, |report, (code, starting)| judge(&report, probe(*code), *starting, 3))
        };
        for (codes, state, streak) in [
            (&[(1, true), (1, true), (1, true), (1, true)][..], HealthState::Starting, 0),
            (&[(0, true)], HealthState::Healthy, 0),
            (&[(0, true), (1, true), (1, true), (1, true)], HealthState::Unhealthy, 3),
            (&[(1, false), (1, false)], HealthState::Starting, 2),
            (&[(1, false), (-1, false), (7, false)], HealthState::Unhealthy, 3),
            (&[(1, false), (1, false), (1, false), (0, false)], HealthState::Healthy, 0),
        ] {
            let report = run(codes);
            assert_eq!((report.state, report.failing_streak), (state, streak), "{codes:?}");
            assert!(report.log.len() <= KEPT_PROBES);
        }
    }

    #[test]
    fn headers_go_whatever_the_cut() {
        let bytes = [&[1, 0, 0, 0, 0, 0, 0, 2][..], b"ab", &[2, 0, 0, 0, 0, 0, 0, 1], b"c"].concat();
        for step in [1, 3, 20] {
            let (mut frames, mut out) = (Unframe::default(), Vec::new());
            bytes.chunks(step).for_each(|c| frames.take(c, &mut out));
            assert_eq!(out, b"abc");
        }
    }
}
