//! The planner's laws on random containers, whatever the daemon and the process do meanwhile: applying plans reaches what
//! was asked; planning again gives nothing; no step is planned for what is not there.

use proptest::prelude::*;
use weft_base::Timestamp;
use weft_model::{
    Container, ContainerStatus, Meta, ProjectId, RestartMode, RestartPolicy, RunRequest, StopRequest,
};

use super::*;

/// Rounds in which every container must come to rest.
const ROUNDS: usize = 60;

/// How the process behaves.
#[derive(Clone, Copy, Debug)]
struct Nature {
    /// It ignores the stop signal.
    stubborn: bool,
    /// It cannot be started.
    broken: bool,
    /// It ends by itself at once, so many times, with this code; then it stays.
    ends: u8,
    code: i64,
}

/// What people do, one after another.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Start,
    Stop,
    Kill,
    Restart,
    Pause,
    Unpause,
    Remove,
    /// Not people: the daemon is killed and starts again.
    DaemonDies,
    /// The process ends by itself.
    Ends(u8),
    /// The shim and its status are lost.
    Lost,
}

fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    let one = prop_oneof![
        4 => Just(Wish::Start),
        3 => Just(Wish::Stop),
        1 => Just(Wish::Kill),
        2 => Just(Wish::Restart),
        2 => Just(Wish::Pause),
        2 => Just(Wish::Unpause),
        1 => Just(Wish::Remove),
        2 => Just(Wish::DaemonDies),
        2 => (0..3u8).prop_map(Wish::Ends),
        1 => Just(Wish::Lost),
    ];
    prop::collection::vec(one, 1..12)
}

fn natures() -> impl Strategy<Value = Nature> {
    (any::<bool>(), prop::bool::weighted(0.1), 0..4u8, 0..3i64)
        .prop_map(|(stubborn, broken, ends, code)| Nature { stubborn, broken, ends, code })
}

fn policies() -> impl Strategy<Value = RestartPolicy> {
    use RestartMode::{Always, No, OnFailure, UnlessStopped};
    (prop::sample::select(vec![No, Always, UnlessStopped, OnFailure]), 0..3u32)
        .prop_map(|(mode, max_retries)| RestartPolicy { mode, max_retries })
}

/// A host with one container on it.
struct Machine {
    container: Container,
    actual: Actual,
    nature: Nature,
    now: Timestamp,
    gone: bool,
    /// The daemon dies after so many further steps.
    dies_after: Option<usize>,
    /// It died, ever.
    died: bool,
    /// It was started since people froze it.
    fresh: bool,
}

impl Machine {
    fn new(policy: RestartPolicy, nature: Nature, timeout: Option<i64>) -> Self {
        let mut spec = crate::oci::tests::spec();
        spec.restart = policy;
        spec.stop_timeout = timeout;
        let meta = Meta {
            project: ProjectId::from_bytes([1; 32]),
            created: Timestamp::EPOCH,
            generation: 1,
            labels: [].into(),
            deleting: None,
        };
        let container = Container { meta, spec, status: ContainerStatus::default() };
        let now = Timestamp::from_unix(1_000_000, 0).unwrap();
        Self {
            container,
            actual: Actual::default(),
            nature,
            now,
            gone: false,
            dies_after: None,
            died: false,
            fresh: true,
        }
    }

    fn wish(&mut self, wish: Wish) {
        let alive = matches!(self.actual.process, Process::Running | Process::Paused);
        let stop = |timeout| StopRequest { signal: None, timeout };
        match wish {
            Wish::Start => self.ask(Want::Running, false, false, stop(None)),
            Wish::Stop => self.ask(Want::Stopped, false, false, stop(None)),
            Wish::Kill => {
                let kill = StopRequest { signal: Some("KILL".into()), timeout: None };
                self.ask(Want::Stopped, false, false, kill);
            }
            Wish::Restart => self.ask(Want::Running, true, false, stop(Some(1))),
            // `cloud` refuses these where nothing runs.
            Wish::Pause if alive => {
                self.fresh = false;
                self.ask(Want::Running, false, true, stop(None));
            }
            Wish::Unpause if alive => self.ask(Want::Running, false, false, stop(None)),
            Wish::Pause | Wish::Unpause => {}
            Wish::Remove => self.container.meta.deleting = Some(self.now),
            Wish::DaemonDies => self.daemon_dies(),
            Wish::Ends(code) if alive => self.end(i64::from(code)),
            Wish::Lost if alive => self.actual.process = Process::Ended(None),
            Wish::Ends(_) | Wish::Lost => {}
        }
    }

    fn ask(&mut self, want: Want, restart: bool, paused: bool, stop: StopRequest) {
        let seq = self.container.spec.run.seq + 1;
        self.container.spec.run = RunRequest { seq, want, restart, paused, stop };
    }

    fn end(&mut self, code: i64) {
        let exit = ExitStatus { code, oom_killed: false };
        self.actual.process = Process::Ended(Some(Seen { exit, at: self.now }));
    }

    /// What is remembered only is forgotten.
    fn daemon_dies(&mut self) {
        self.died = true;
        let process = self.actual.process.clone();
        let residue = self.actual.residue || process == Process::None;
        self.actual = Actual { process, residue, ..Actual::default() };
    }

    /// Plans and applies until nothing is left to do. Refuses steps that stand on nothing.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS {
            if self.gone {
                return Ok(());
            }
            let steps = plan(&self.container, &self.actual, self.now);
            if steps != plan(&self.container, &self.actual, self.now) {
                return Err("two plans for one state".into());
            }
            if steps.is_empty() {
                match next_look(&self.container, &self.actual) {
                    // What is waited for comes.
                    Some(at) => self.now = at.max(self.now),
                    None => return Ok(()),
                }
                if plan(&self.container, &self.actual, self.now).is_empty() {
                    return Err("looking again at the time that was asked for changes nothing".into());
                }
                continue;
            }
            for step in steps {
                if self.dies_after == Some(0) {
                    self.dies_after = None;
                    self.daemon_dies();
                    break;
                }
                self.dies_after = self.dies_after.map(|left| left - 1);
                if !self.apply(&step).map_err(|why| format!("{step:?}: {why}"))? {
                    break;
                }
            }
        }
        Err(format!("does not come to rest: {:?} {:?}", self.container.status, self.actual))
    }

    /// As `Inner::apply`; `false` when the rest of the plan is void.
    fn apply(&mut self, step: &Step) -> Result<bool, String> {
        let alive = matches!(self.actual.process, Process::Running | Process::Paused);
        let status = &mut self.container.status;
        match step {
            Step::Discard => {
                need(self.actual.process == Process::Unstarted, "there is no unstarted shim")?;
                self.actual.process = Process::None;
                self.actual.residue = true;
            }
            Step::Clean => {
                need(self.actual.process == Process::None, "what runs is cleaned away")?;
                self.actual.residue = false;
            }
            Step::Adopt { answers } => {
                need(alive && !status.state.is_alive(), "nothing to adopt")?;
                status.state = RunState::Running;
                status.started_at = Some(self.now);
                if let Some(seq) = answers {
                    status.answered = *seq;
                    (status.restart_count, status.stopped_by_user) = (0, false);
                }
            }
            Step::Signal { signal, stopping } => {
                need(alive, "a signal to nobody")?;
                let kill = signal == "KILL";
                self.actual.stopping = Some(Stopping { killed: kill, ..*stopping });
                if kill {
                    self.end(137);
                } else if !self.nature.stubborn && self.actual.process == Process::Running {
                    self.end(143);
                } else if !self.nature.stubborn {
                    // Frozen, it hears once it is thawed, which must follow.
                    return Ok(true);
                }
            }
            Step::Kill { seq } => {
                need(alive, "a kill of nobody")?;
                self.actual.stopping = Some(Stopping { seq: *seq, kill_at: None, killed: true });
                self.end(137);
            }
            Step::Start { answers, .. } => self.start(*answers)?,
            Step::Pause => {
                need(self.actual.process == Process::Running, "only what runs is frozen")?;
                self.actual.process = Process::Paused;
            }
            Step::Resume => {
                // What a signal ended before it was thawed is past thawing.
                if !alive {
                    return Ok(true);
                }
                self.actual.process = Process::Running;
                if self.actual.stopping.is_some() && !self.nature.stubborn {
                    self.end(143);
                }
            }
            Step::RecordExit(ending) => {
                need(!alive, "an end of what runs")?;
                status.state = ending.next;
                status.exit = ending.exit;
                status.stopped_by_user = ending.by_user;
                status.restart_count += u32::from(ending.next == RunState::Restarting);
                status.answered = ending.answers.unwrap_or(status.answered);
                self.actual = Actual {
                    residue: true,
                    retry_at: ending.delay.map(|delay| self.now.plus(delay)),
                    last_delay: ending.delay.unwrap_or_default(),
                    ..Actual::default()
                };
            }
            Step::Settle { state, answers, by_user } => {
                need(alive == state.is_alive(), "a state that is not so")?;
                status.state = *state;
                status.stopped_by_user |= by_user;
                status.answered = answers.unwrap_or(status.answered);
            }
            Step::Remove => {
                need(self.container.meta.deleting.is_some(), "nobody asked for it")?;
                need(self.actual.process == Process::None, "it runs")?;
                self.gone = true;
            }
        }
        Ok(!self.gone)
    }

    fn start(&mut self, answers: Option<u64>) -> Result<(), String> {
        let (spec, status) = (&self.container.spec, &mut self.container.status);
        need(self.actual.process == Process::None, "started twice")?;
        need(self.container.meta.deleting.is_none(), "it is being removed")?;
        let by_policy = status.state == RunState::Restarting;
        let wanted = answers == Some(spec.run.seq) && spec.run.want == Want::Running;
        need(answers.map_or(by_policy, |_| wanted), "nobody asked for it")?;
        if self.nature.broken {
            status.state =
                if status.state == RunState::Created { RunState::Created } else { RunState::Exited };
            status.answered = answers.unwrap_or(status.answered);
            (self.actual.residue, self.actual.retry_at) = (true, None);
            return Ok(());
        }
        status.state = RunState::Running;
        status.started_at = Some(self.now);
        if let Some(seq) = answers {
            status.answered = seq;
            (status.restart_count, status.stopped_by_user) = (0, false);
        }
        self.actual.process = Process::Running;
        self.fresh = true;
        if self.nature.ends > 0 {
            self.nature.ends -= 1;
            self.end(self.nature.code);
        }
        Ok(())
    }

    /// Whether what was asked is so.
    fn reached(&self) -> Result<(), String> {
        if self.gone {
            return Ok(());
        }
        let (run, status) = (&self.container.spec.run, &self.container.status);
        let alive = matches!(self.actual.process, Process::Running | Process::Paused);
        need(self.container.meta.deleting.is_none(), "it was to be removed")?;
        need(run.seq == status.answered, "the request is not answered")?;
        need(status.state.is_alive() == alive, "the record is wrong about the process")?;
        need(
            (status.state == RunState::Paused) == (self.actual.process == Process::Paused),
            "or about its freezing",
        )?;
        // `always` comes back with the daemon, whatever was asked before.
        let revived = self.died && self.container.spec.restart.mode == RestartMode::Always;
        need(!alive || run.want == Want::Running || revived, "it was to be stopped")?;
        // A new instance after a frozen one's end runs, as with dockerd.
        let frozen = alive && run.paused && !self.fresh;
        need(!frozen || self.actual.process == Process::Paused, "it was to be frozen")?;
        need(!alive || run.paused || self.actual.process == Process::Running, "it was to be thawed")?;
        need(alive || !self.actual.residue || status.state == RunState::Created, "something is left of it")?;
        need(status.state != RunState::Restarting, "a restart is due for ever")
    }
}

fn need(so: bool, otherwise: &str) -> Result<(), String> {
    if so { Ok(()) } else { Err(otherwise.to_owned()) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_asked_is_reached_and_then_nothing_is_planned(
        policy in policies(), nature in natures(), timeout in prop::option::of(0..20i64), wishes in wishes(),
    ) {
        let mut machine = Machine::new(policy, nature, timeout);
        for wish in wishes {
            machine.wish(wish);
            machine.settle().map_err(|why| TestCaseError::fail(format!("{wish:?}: {why}")))?;
            let reached = machine.reached();
            prop_assert_eq!(reached, Ok(()), "{:?} {:?} {:?}", wish, machine.container.status, machine.actual);
            if !machine.gone {
                prop_assert_eq!(plan(&machine.container, &machine.actual, machine.now), vec![]);
            }
        }
    }

    #[test]
    fn a_daemon_that_dies_between_any_two_steps_changes_nothing_of_it(
        policy in policies(), nature in natures(), wishes in wishes(), deaths in prop::collection::vec(0..6usize, 12),
    ) {
        let mut machine = Machine::new(policy, nature, Some(1));
        for (wish, death) in wishes.into_iter().zip(deaths) {
            machine.wish(wish);
            machine.dies_after = Some(death);
            machine.settle().map_err(|why| TestCaseError::fail(format!("{wish:?}: {why}")))?;
            prop_assert_eq!(machine.reached(), Ok(()), "{:?} {:?} {:?}", wish, machine.container.status, machine.actual);
        }
    }

    #[test]
    fn requests_that_overtake_each_other_end_in_the_last(
        policy in policies(), nature in natures(), wishes in wishes(),
    ) {
        let mut machine = Machine::new(policy, nature, Some(1));
        for wish in wishes {
            machine.wish(wish);
        }
        machine.settle().map_err(TestCaseError::fail)?;
        prop_assert_eq!(machine.reached(), Ok(()), "{:?} {:?}", machine.container.status, machine.actual);
    }

    #[test]
    fn what_people_stopped_stays_down(
        policy in policies(), nature in natures(), before in wishes(), deaths in 0..3usize,
    ) {
        let mut machine = Machine::new(policy, nature, Some(1));
        for wish in before {
            machine.wish(wish);
            machine.settle().map_err(TestCaseError::fail)?;
        }
        machine.wish(Wish::Stop);
        machine.settle().map_err(TestCaseError::fail)?;
        for _ in 0..deaths {
            machine.wish(Wish::DaemonDies);
            machine.nature.ends = 0;
            machine.settle().map_err(TestCaseError::fail)?;
        }
        let up = matches!(machine.actual.process, Process::Running | Process::Paused);
        // Only `always` comes back, and only with a daemon's start, as with dockerd.
        prop_assert!(!up || (policy.mode == RestartMode::Always && deaths > 0));
    }
}

#[test]
fn delays_double_up_to_a_minute_and_begin_anew() {
    let (mut delay, mut seen) = (Duration::ZERO, Vec::new());
    for _ in 0..12 {
        delay = next_delay(delay, Duration::ZERO);
        seen.push(delay.as_millis());
    }
    assert_eq!(seen, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
    assert_eq!(next_delay(delay, Duration::from_secs(10)), Duration::from_millis(100));
}
