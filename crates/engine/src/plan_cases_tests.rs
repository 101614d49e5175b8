//! Single cases of the planner that a kill of the daemon at the wrong moment once got wrong.

use weft_base::Timestamp;
use weft_model::{
    Container, ExitStatus, Labels, NetworkMode, RestartMode, RestartPolicy, RunRequest, default_project,
};

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds, 0).unwrap()
}

/// Created, and asked to start by request 1.
fn asked() -> Container {
    let mut spec = crate::oci::tests::spec();
    spec.run = RunRequest { want: Want::Running, seq: 1, ..RunRequest::default() };
    Container::new(default_project(), at(0), Labels::new(), spec)
}

fn ended(code: i64) -> Actual {
    let seen = Seen { exit: ExitStatus { code, oom_killed: false }, at: at(5) };
    Actual { process: Process::Ended(Some(seen)), residue: true, ..Actual::default() }
}

#[test]
fn a_run_that_no_daemon_saw_answers_its_start_and_is_not_repeated() {
    let mut container = asked();
    let steps = plan(&container, &ended(9), at(9));
    let [Step::RecordExit(end), Step::Clean] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!((end.exit.code, end.next, end.answers, end.by_user), (9, RunState::Exited, Some(1), false));

    container.spec.restart = RestartPolicy { mode: RestartMode::OnFailure, max_retries: 2 };
    let steps = plan(&container, &ended(9), at(9));
    assert!(matches!(steps[0], Step::RecordExit(Ending { next: RunState::Restarting, .. })), "{steps:?}");
}

#[test]
fn a_run_by_policy_that_no_daemon_saw_is_written_down_before_the_next() {
    let mut container = asked();
    container.spec.restart = RestartPolicy { mode: RestartMode::OnFailure, max_retries: 2 };
    (container.status.answered, container.status.state) = (1, RunState::Restarting);
    container.status.restart_count = 1;
    assert!(may_have_run(&container), "its end is looked for");
    // Without it the next run would find the namespace that this one had.
    let next = |container: &Container| {
        let steps = plan(container, &ended(9), at(9));
        let [Step::RecordExit(end), Step::Clean] = &steps[..] else { panic!("{steps:?}") };
        (end.exit.code, end.next, end.answers)
    };
    assert_eq!(next(&container), (9, RunState::Restarting, None));
    container.status.restart_count = 2;
    assert_eq!(next(&container), (9, RunState::Exited, None), "it counts");
    container.status.state = RunState::Exited;
    assert!(!may_have_run(&container));
}

#[test]
fn a_start_without_any_run_is_carried_out() {
    let container = asked();
    assert_eq!(plan(&container, &Actual { residue: true, ..Actual::default() }, at(9)), [Step::Clean]);
    let steps = plan(&container, &Actual::default(), at(9));
    assert_eq!(steps, [Step::Start { answers: Some(1), restart: false }]);
}

#[test]
fn the_end_of_a_known_run_does_not_answer_a_restart() {
    let mut container = asked();
    container.spec.run.restart = true;
    container.status.state = RunState::Running;
    let steps = plan(&container, &ended(0), at(9));
    assert!(matches!(steps[0], Step::RecordExit(Ending { answers: None, .. })), "{steps:?}");
}

#[test]
fn a_daemon_that_takes_its_containers_along_asks_once_and_waits() {
    let mut container = asked();
    container.status.state = RunState::Running;
    container.status.answered = 1;
    container.spec.restart = RestartPolicy { mode: RestartMode::Always, max_retries: 0 };
    let running = Actual { process: Process::Running, closing: true, ..Actual::default() };
    let steps = plan(&container, &running, at(9));
    let [Step::Signal { stopping, .. }] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!(stopping.kill_at, Some(at(19)));
    let asked_for = Actual { stopping: Some(*stopping), ..running.clone() };
    assert_eq!(plan(&container, &asked_for, at(18)), []);
    assert_eq!(plan(&container, &asked_for, at(19)), [Step::Kill { seq: stopping.seq }]);
    // Its end is nobody's wish: the next daemon's policies start it, this one's do not.
    let over = Actual { closing: true, ..ended(0) };
    let steps = plan(&container, &over, at(20));
    let Step::RecordExit(end) = &steps[0] else { panic!("{steps:?}") };
    assert_eq!((end.next, end.by_user, end.answers), (RunState::Exited, false, None));
    container.status.state = RunState::Exited;
    assert_eq!(plan(&container, &Actual { closing: true, ..Actual::default() }, at(21)), []);
    assert!(due_at_boot(&container));
}

#[test]
fn a_new_daemon_starts_what_rests_by_its_policy() {
    let mut container = asked();
    (container.status.answered, container.status.state) = (1, RunState::Exited);
    container.status.exit.code = 137;
    for (mode, stopped, due) in [
        (RestartMode::No, false, false),
        (RestartMode::Always, true, true),
        (RestartMode::UnlessStopped, true, false),
        (RestartMode::UnlessStopped, false, true),
        (RestartMode::OnFailure, true, false),
        (RestartMode::OnFailure, false, true),
    ] {
        container.spec.restart = RestartPolicy { mode, max_retries: 0 };
        container.status.stopped_by_user = stopped;
        assert_eq!(due_at_boot(&container), due, "{mode:?}, stopped: {stopped}");
        assert_eq!(plan(&container, &Actual::default(), at(9)), [], "the engine starts nothing by itself");
    }
    // A request stands, or it goes: that comes first.
    container.spec.run.seq = 2;
    assert!(!due_at_boot(&container));
    (container.spec.run.seq, container.meta.deleting) = (1, Some(at(9)));
    assert!(!due_at_boot(&container));
}

#[test]
fn who_joins_another_comes_after_it_at_boot() {
    let resting = |joined: Option<ContainerId>, restart: RestartMode| {
        let mut container = asked();
        container.spec.id = ContainerId::new();
        (container.status.answered, container.status.state) = (1, RunState::Exited);
        container.spec.restart = RestartPolicy { mode: restart, max_retries: 0 };
        if let Some(other) = joined {
            container.spec.network = NetworkMode::Container(other);
        }
        Arc::new(container)
    };
    let base = resting(None, RestartMode::Always);
    let (second, never) = (resting(Some(base.spec.id), RestartMode::Always), resting(None, RestartMode::No));
    let third = resting(Some(second.spec.id), RestartMode::Always);
    let free = resting(Some(never.spec.id), RestartMode::Always);
    let all = [&third, &second, &never, &base, &free].map(Arc::clone);
    let id = |c: &Arc<Container>| c.spec.id;
    assert_eq!(rounds_at_boot(&all), [vec![id(&base), id(&free)], vec![id(&second)], vec![id(&third)]]);
    // Records cannot be made so, but if they were, all are tried.
    let mut circle = Container::clone(&base);
    circle.spec.network = NetworkMode::Container(circle.spec.id);
    assert_eq!(rounds_at_boot(&[Arc::new(circle)]), [vec![id(&base)]]);
}

#[test]
fn a_start_that_was_asked_for_begins_the_delays_anew() {
    let mut container = asked();
    container.spec.restart = RestartPolicy { mode: RestartMode::Always, max_retries: 0 };
    (container.status.answered, container.status.state) = (1, RunState::Running);
    let delay = |container: &Container| {
        let actual = Actual { last_delay: Duration::from_secs(6), ..ended(1) };
        let Step::RecordExit(end) = plan(container, &actual, at(9)).remove(0) else { panic!() };
        end.delay.map(|delay| delay.as_millis())
    };
    container.status.restart_count = 7;
    assert_eq!(delay(&container), Some(12_000), "by policy");
    // As the start has left it.
    container.status.restart_count = 0;
    assert_eq!(delay(&container), Some(100));
}

#[test]
fn what_comes_up_by_itself_is_waited_for() {
    let mut container = asked();
    assert!(on_its_way(&container, false), "asked for");
    container.status.answered = 1;
    for (state, due, coming) in [
        (RunState::Created, false, false),
        (RunState::Exited, false, false),
        (RunState::Exited, true, true),
        (RunState::Restarting, false, true),
        (RunState::Running, false, true),
        (RunState::Dead, true, false),
    ] {
        container.status.state = state;
        assert_eq!(on_its_way(&container, due), coming, "{state:?}");
    }
    container.status.state = RunState::Restarting;
    (container.spec.run.seq, container.spec.run.want) = (2, Want::Stopped);
    assert!(!on_its_way(&container, false), "people want it down");
    (container.spec.run.want, container.meta.deleting) = (Want::Running, Some(at(9)));
    assert!(!on_its_way(&container, false), "people want it away");
}
