//! What to do next about one container: a pure function of its record and of what is so.
//!
//! ```text
//!             Start                    RecordExit(Exited)
//!  Created ──────────▶ Running ──────────────────────────────▶ Exited ──┐
//!     ▲ failed start    │  ▲  ╲  RecordExit(Restarting)           ▲     │ Start
//!     └─────────────    │  │   ╲───────▶ Restarting ── stop ──────┘     │
//!            Pause ─────┘  │ Resume          │ due: Start               │
//!                 Paused ──┘                 └────────▶ Running ◀───────┘
//!  any + deleting ── Kill, RecordExit, Remove ──▶ (gone)
//! ```
//!
//! The record says what people asked for last (`spec.run`, counted by `seq`) and what of it was answered; the
//! kernel says what runs. Nothing else is remembered between two plans but [`Actual::stopping`] and the back-off, and both
//! may be forgotten (a daemon that died): then a signal is sent twice or a restart comes sooner, nothing worse.

use std::{sync::Arc, time::Duration};

use weft_base::Timestamp;
use weft_model::{
    Container, ContainerId, ContainerSpec, ExitStatus, RestartMode, RestartPolicy, RunState, StopRequest,
    Want,
};

/// Delay before the first restart by policy.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest delay.
const LONGEST_DELAY: Duration = Duration::from_mins(1);
/// A container that ran so long is taken as sound: delays begin anew.
const SOUND: Duration = Duration::from_secs(10);
/// Seconds between stop signal and `SIGKILL` where nobody said.
const STOP_TIMEOUT: i64 = 10;
/// The request that the daemon's own end stands for.
const CLOSING: u64 = u64::MAX - 1;
/// What a container ended with when nobody saw its end (Docker's value).
pub const UNSEEN: i64 = 255;

/// What the kernel and the shim say.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Process {
    /// Nothing runs.
    #[default]
    None,
    /// A shim holds a process that was never let go.
    Unstarted,
    /// It runs.
    Running,
    /// It is frozen.
    Paused,
    /// It ended; nobody has written it down yet. `None` when its status is lost.
    Ended(Option<Seen>),
}

/// An end that was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// How.
    pub exit: ExitStatus,
    /// When.
    pub at: Timestamp,
}

/// A stop under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopping {
    /// The request it serves.
    pub seq: u64,
    /// When patience ends; `None` for never.
    pub kill_at: Option<Timestamp>,
    /// `SIGKILL` was sent.
    pub killed: bool,
}

/// What is so.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Actual {
    /// The process.
    pub process: Process,
    /// A stop that this daemon has begun.
    pub stopping: Option<Stopping>,
    /// When a restart by policy is due; none is waited for when absent.
    pub retry_at: Option<Timestamp>,
    /// The last delay of the back-off; zero when there was none.
    pub last_delay: Duration,
    /// Mounts or files of an ended process are still there.
    pub residue: bool,
    /// The daemon ends and takes its containers along: what runs is stopped, nothing is started, policies wait for the next
    /// daemon.
    pub closing: bool,
}

/// What is written down about an end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ending {
    /// How; the status' own where it was lost.
    pub exit: ExitStatus,
    /// When.
    pub at: Timestamp,
    /// `Exited` or `Restarting`.
    pub next: RunState,
    /// Delay of the restart that follows.
    pub delay: Option<Duration>,
    /// The request that is answered by it.
    pub answers: Option<u64>,
    /// People asked for it.
    pub by_user: bool,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// End a shim whose process was never let go.
    Discard,
    /// Take away mounts and files of an ended process.
    Clean,
    /// Write down that it runs (it was started, but the daemon died before it could say so).
    Adopt {
        /// The request that is answered by it.
        answers: Option<u64>,
    },
    /// Ask it to stop.
    Signal {
        /// The signal, as written; the default when empty.
        signal: String,
        /// Remembered as [`Actual::stopping`].
        stopping: Stopping,
    },
    /// `SIGKILL` to all of it.
    Kill {
        /// The request, `u64::MAX` for removal.
        seq: u64,
    },
    /// Start it.
    Start {
        /// The request that is answered by it; `None` for a policy's restart.
        answers: Option<u64>,
        /// The request was `restart`.
        restart: bool,
    },
    /// Freeze.
    Pause,
    /// Thaw.
    Resume,
    /// Write down an end.
    RecordExit(Ending),
    /// Write down a state, and an answer.
    Settle {
        /// The state.
        state: RunState,
        /// The request.
        answers: Option<u64>,
        /// People stopped it.
        by_user: bool,
    },
    /// Take everything down and delete the record.
    Remove,
}

/// What to do now; empty when all is as it should be or something has to be waited for.
#[must_use]
pub fn plan(container: &Container, actual: &Actual, now: Timestamp) -> Vec<Step> {
    let pending = container.spec.run.seq > container.status.answered;
    match &actual.process {
        Process::Unstarted => vec![Step::Discard],
        Process::Ended(seen) => vec![Step::RecordExit(ending(container, actual, *seen, now)), Step::Clean],
        Process::None if container.meta.deleting.is_some() => vec![Step::Remove],
        Process::None if container.status.state.is_alive() => {
            vec![Step::RecordExit(ending(container, actual, None, now)), Step::Clean]
        }
        Process::None if actual.residue => vec![Step::Clean],
        Process::None if actual.closing => Vec::new(),
        Process::None if pending => rest_request(container),
        Process::None => restart(container, actual, now),
        Process::Running | Process::Paused if container.meta.deleting.is_some() => kill(actual, u64::MAX),
        Process::Running | Process::Paused if actual.closing => {
            ask(container, actual, now, CLOSING, &StopRequest::default())
        }
        Process::Running | Process::Paused => alive(container, actual, pending, now),
    }
}

/// When to plan again though nothing has happened.
#[must_use]
pub fn next_look(container: &Container, actual: &Actual) -> Option<Timestamp> {
    match actual.process {
        Process::Running | Process::Paused => actual.stopping.filter(|s| !s.killed).and_then(|s| s.kill_at),
        Process::None if container.status.state == RunState::Restarting && !actual.closing => actual.retry_at,
        _ => None,
    }
}

fn kill(actual: &Actual, seq: u64) -> Vec<Step> {
    let done = actual.stopping.is_some_and(|s| s.seq == seq && s.killed);
    if done { Vec::new() } else { vec![Step::Kill { seq }] }
}

/// A request to a container that does not run.
fn rest_request(container: &Container) -> Vec<Step> {
    let (run, state) = (&container.spec.run, container.status.state);
    let answers = Some(run.seq);
    match run.want {
        Want::Running if !run.paused => vec![Step::Start { answers, restart: run.restart }],
        Want::Running => vec![Step::Settle { state, answers, by_user: false }],
        Want::Stopped if state == RunState::Restarting => {
            vec![Step::Settle { state: RunState::Exited, answers, by_user: true }]
        }
        Want::Stopped => vec![Step::Settle { state, answers, by_user: true }],
    }
}

/// Nothing runs and nothing is asked: only a restart by policy may be waited for.
fn restart(container: &Container, actual: &Actual, now: Timestamp) -> Vec<Step> {
    // After a restart of the daemon the due time is forgotten: then it is now.
    let due = container.status.state == RunState::Restarting && actual.retry_at.is_none_or(|at| at <= now);
    if due { vec![Step::Start { answers: None, restart: false }] } else { Vec::new() }
}

fn alive(container: &Container, actual: &Actual, pending: bool, now: Timestamp) -> Vec<Step> {
    let (run, status) = (&container.spec.run, &container.status);
    let real = if actual.process == Process::Paused { RunState::Paused } else { RunState::Running };
    if !status.state.is_alive() {
        // Started by a daemon that died before it could write so: that was the request's doing.
        let mine = pending && run.want == Want::Running && !run.paused;
        return vec![Step::Adopt { answers: mine.then_some(run.seq) }];
    }
    if !pending {
        let differs = status.state != real;
        if differs && real == RunState::Paused && !run.paused {
            // Frozen for a commit by a daemon that died meanwhile.
            return vec![Step::Resume];
        }
        let settle = Step::Settle { state: real, answers: None, by_user: false };
        return if differs { vec![settle] } else { Vec::new() };
    }
    let answers = Some(run.seq);
    let settle = |state| Step::Settle { state, answers, by_user: false };
    match (run.want, real) {
        (Want::Stopped, _) => stop(container, actual, now),
        (Want::Running, _) if run.restart => stop(container, actual, now),
        (Want::Running, RunState::Running) if run.paused => vec![Step::Pause, settle(RunState::Paused)],
        (Want::Running, RunState::Paused) if !run.paused => vec![Step::Resume, settle(RunState::Running)],
        (Want::Running, state) => vec![settle(state)],
    }
}

/// Seconds between a container's stop signal and `SIGKILL`; negative for no end.
#[must_use]
pub fn stop_timeout(container: &Container) -> i64 {
    container.spec.stop_timeout.unwrap_or(STOP_TIMEOUT)
}

fn stop(container: &Container, actual: &Actual, now: Timestamp) -> Vec<Step> {
    ask(container, actual, now, container.spec.run.seq, &container.spec.run.stop)
}

/// The stop signal, and `SIGKILL` when patience ends.
fn ask(container: &Container, actual: &Actual, now: Timestamp, seq: u64, request: &StopRequest) -> Vec<Step> {
    if let Some(stopping) = actual.stopping.filter(|s| s.seq == seq) {
        let over = !stopping.killed && stopping.kill_at.is_some_and(|at| at <= now);
        return if over { vec![Step::Kill { seq }] } else { Vec::new() };
    }
    let signal = request.signal.clone().unwrap_or_else(|| container.spec.stop_signal.clone());
    let seconds = request.timeout.unwrap_or_else(|| stop_timeout(container));
    let kill_at = u64::try_from(seconds).ok().map(|s| now.plus(Duration::from_secs(s.min(1 << 32))));
    let mut steps = vec![Step::Signal { signal, stopping: Stopping { seq, kill_at, killed: false } }];
    if actual.process == Process::Paused {
        // A frozen process hears nothing.
        steps.push(Step::Resume);
    }
    steps
}

fn ending(container: &Container, actual: &Actual, seen: Option<Seen>, now: Timestamp) -> Ending {
    let (run, status) = (&container.spec.run, &container.status);
    let seen = seen.unwrap_or(Seen { exit: ExitStatus { code: UNSEEN, oom_killed: false }, at: now });
    let pending = run.seq > status.answered;
    let stop_asked = pending && run.want == Want::Stopped;
    // Started for the request and ended, and no daemon lived to write either down: that run is the answer.
    let unseen_run = ran_unseen(container);
    let start_asked = pending && run.want == Want::Running && (run.restart || !run.paused) && !unseen_run;
    let stopped = status.stopped_by_user && !unseen_run;
    let restarts = if unseen_run { 0 } else { status.restart_count };
    let end = Ending {
        exit: seen.exit,
        at: seen.at,
        next: RunState::Exited,
        delay: None,
        answers: (stop_asked || unseen_run).then_some(run.seq),
        by_user: stop_asked || stopped,
    };
    let free = !actual.closing && !stop_asked && !start_asked && container.meta.deleting.is_none();
    // A kill by people ends even `always`; its mark is in the status.
    if !free || stopped || !policy_restarts(container.spec.restart, false, seen.exit.code, restarts) {
        return end;
    }
    let ran = status.started_at.map(|start| seen.at.since(start)).unwrap_or_default();
    // A start that people asked for sets the count back, and the delays with it (moby `daemon/start.go`).
    let last = if restarts == 0 { Duration::ZERO } else { actual.last_delay };
    Ending { next: RunState::Restarting, delay: Some(next_delay(last, ran)), ..end }
}

/// A start is asked for and the record knows of no run: an end that is found then is that start's.
#[must_use]
pub fn ran_unseen(container: &Container) -> bool {
    let (run, status) = (&container.spec.run, &container.status);
    run.seq > status.answered && run.want == Want::Running && !run.paused && !status.state.is_alive()
}

/// A daemon may have started it and died before it could write so: an end that is found then is a run's that nobody saw.
#[must_use]
pub fn may_have_run(container: &Container) -> bool {
    ran_unseen(container) || container.status.state == RunState::Restarting
}

/// It rests, and its policy has a new daemon start it. That takes a request: its ports went when it ended.
#[must_use]
pub fn due_at_boot(container: &Container) -> bool {
    let (spec, status) = (&container.spec, &container.status);
    status.state == RunState::Exited
        && spec.run.seq <= status.answered
        && container.meta.deleting.is_none()
        && policy_restarts(spec.restart, status.stopped_by_user, status.exit.code, status.restart_count)
}

/// It does not run, or not any more, and will without anybody's doing: who joins its namespaces by policy waits for it.
/// `due` says that this daemon has yet to start it, because it came up ([`due_at_boot`]).
#[must_use]
pub fn on_its_way(container: &Container, due: bool) -> bool {
    let (run, status) = (&container.spec.run, &container.status);
    let asked = run.seq > status.answered;
    let coming = match status.state {
        // What the record takes for running and is not, has an end that is about to be written down.
        RunState::Running | RunState::Paused | RunState::Restarting => !asked || run.want == Want::Running,
        RunState::Created | RunState::Exited => due || asked && run.want == Want::Running && !run.paused,
        RunState::Removing | RunState::Dead => false,
    };
    coming && container.meta.deleting.is_none()
}

/// Those of `containers` that a new daemon starts, in rounds: who joins another's namespaces comes after it.
#[must_use]
pub fn rounds_at_boot(containers: &[Arc<Container>]) -> Vec<Vec<ContainerId>> {
    let mut left: Vec<&ContainerSpec> =
        containers.iter().filter(|c| due_at_boot(c)).map(|c| &c.spec).collect();
    let mut rounds = Vec::new();
    while !left.is_empty() {
        let waits = |spec: &ContainerSpec| left.iter().any(|other| spec.joins().any(|id| id == other.id));
        let (later, mut now): (Vec<_>, Vec<_>) = left.iter().partition(|spec| waits(spec));
        if now.is_empty() {
            // A circle: no order is right.
            now = left;
            left = Vec::new();
        } else {
            left = later;
        }
        rounds.push(now.iter().map(|spec| spec.id).collect());
    }
    rounds
}

/// Docker's rule (`restartmanager.ShouldRestart`).
#[must_use]
pub fn policy_restarts(policy: RestartPolicy, stopped_by_user: bool, code: i64, restarts: u32) -> bool {
    match policy.mode {
        RestartMode::No => false,
        RestartMode::Always => true,
        RestartMode::UnlessStopped => !stopped_by_user,
        RestartMode::OnFailure => {
            !stopped_by_user && code != 0 && (policy.max_retries == 0 || restarts < policy.max_retries)
        }
    }
}

/// Doubling from 100 ms to a minute, anew after a run of 10 s.
#[must_use]
pub fn next_delay(last: Duration, ran: Duration) -> Duration {
    if last.is_zero() || ran >= SOUND { FIRST_DELAY } else { (last * 2).min(LONGEST_DELAY) }
}

#[cfg(test)]
#[path = "plan_cases_tests.rs"]
mod cases_tests;
#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
