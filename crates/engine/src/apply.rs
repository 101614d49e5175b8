//! Carries out the plan's steps. Each may be run twice, and each may be the last thing this daemon does.

use std::{sync::Arc, time::Duration};

use weft_base::chain;
use weft_model::{Container, HealthState, RunState};

use crate::{
    EngineError, Result,
    cell::{Cell, Life},
    engine::Inner,
    plan::{Ending, Step, Stopping},
    shim::ShimError,
    signal,
};

/// A shim whose process was never let go ends within this, or is left for the next look.
const DISCARD: Duration = Duration::from_secs(10);

impl Inner {
    pub(crate) async fn apply(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        container: &Arc<Container>,
        step: Step,
    ) -> Result<()> {
        match step {
            Step::Discard => self.discard(cell).await,
            Step::Clean => self.clean(cell).await,
            Step::Adopt { answers } => self.record_running(cell, answers, false, true).await.map(drop),
            Step::Signal { signal, stopping } => self.ask_to_stop(cell, container, &signal, stopping).await,
            Step::Kill { seq } => self.kill_all(cell, container, seq).await,
            Step::Start { answers, restart } => self.start(cell, container, answers, restart).await,
            Step::Pause => self.freeze(cell, container, true).await,
            Step::Resume => self.freeze(cell, container, false).await,
            Step::RecordExit(ending) => self.record_exit(cell, container, ending).await,
            Step::Settle { state, answers, by_user } => {
                let change = |status: &mut weft_model::ContainerStatus| {
                    status.state = state;
                    status.stopped_by_user |= by_user;
                    status.answered = answers.unwrap_or(status.answered);
                };
                self.write_status(cell, false, change).await.map(drop)
            }
            Step::Remove => self.remove(cell, container).await,
        }
    }

    async fn discard(&self, cell: &Cell) -> Result<()> {
        let life = cell.state.lock().life.clone();
        if let Life::Held { shim, .. } = life {
            // It may still be at the creating, or over already: both show in the wait.
            let _ = shim.kill(libc::SIGKILL, true).await;
            match tokio::time::timeout(DISCARD, shim.wait()).await {
                Ok(_) => {}
                Err(_) => return Err(EngineError::Internal("an unstarted shim does not end".into())),
            }
        }
        let mut state = cell.state.lock();
        state.life = Life::None;
        state.residue = true;
        Ok(())
    }

    /// Sends the stop signal; that it ended meanwhile is no failure.
    async fn ask_to_stop(
        &self,
        cell: &Cell,
        container: &Container,
        written: &str,
        stopping: Stopping,
    ) -> Result<()> {
        // What cannot be read was refused when it was written; an image may still carry nonsense.
        let number = signal::parse(written).unwrap_or(libc::SIGTERM);
        self.send(cell, container, number, number == libc::SIGKILL).await?;
        cell.state.lock().stopping = Some(Stopping { killed: number == libc::SIGKILL, ..stopping });
        Ok(())
    }

    async fn kill_all(&self, cell: &Cell, container: &Container, seq: u64) -> Result<()> {
        self.send(cell, container, libc::SIGKILL, true).await?;
        cell.state.lock().stopping = Some(Stopping { seq, kill_at: None, killed: true });
        Ok(())
    }

    /// Sends a signal and says so.
    pub(crate) async fn send(
        &self,
        cell: &Cell,
        container: &Container,
        number: i32,
        all: bool,
    ) -> Result<()> {
        let Some(shim) = cell.shim() else { return Ok(()) };
        match shim.kill(number, all).await {
            Ok(()) | Err(ShimError::State(_)) => {}
            Err(e) => return Err(e.into()),
        }
        if number == libc::SIGKILL {
            // The shim thaws what it kills.
            self.mark_paused(cell, false);
        }
        self.events.container(container, "kill", [("signal", number.to_string())]);
        Ok(())
    }

    fn mark_paused(&self, cell: &Cell, now: bool) {
        if let Life::Held { paused, .. } = &mut cell.state.lock().life {
            *paused = now;
        }
    }

    async fn freeze(&self, cell: &Cell, container: &Container, freeze: bool) -> Result<()> {
        let Some(shim) = cell.shim() else { return Ok(()) };
        let done = if freeze { shim.pause().await } else { shim.resume().await };
        match done {
            // It is so already, or it ended: the next look shows.
            Ok(()) | Err(ShimError::State(_)) => {}
            Err(e) => return Err(e.into()),
        }
        self.mark_paused(cell, freeze);
        self.events.container(container, if freeze { "pause" } else { "unpause" }, []);
        Ok(())
    }

    async fn record_exit(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        container: &Container,
        ending: Ending,
    ) -> Result<()> {
        self.end_health(cell);
        self.sampler.baselines.forget(cell.id);
        cell.logging.send_replace(false);
        // The end may come before anybody looked at the last kill.
        self.tell_ooms(cell, container);
        let told = std::mem::take(&mut cell.state.lock().ooms_told) > 0;
        let written = self
            .write_status(cell, true, |status| {
                if !status.state.is_alive() {
                    // A whole run that no daemon saw: what its start would have written.
                    status.started_at = Some(ending.at);
                    status.error.clear();
                    status.start_failure = 0;
                    if ending.answers.is_some() && !ending.by_user {
                        status.restart_count = 0;
                    }
                }
                status.state = ending.next;
                status.runs += 1;
                status.pid = 0;
                status.exit = ending.exit;
                status.finished_at = Some(ending.at);
                status.stopped_by_user = ending.by_user;
                status.restart_count += u32::from(ending.next == RunState::Restarting);
                status.answered = ending.answers.unwrap_or(status.answered);
                // What is not checked any more is not healthy, as Docker has it.
                if let Some(health) = &mut status.health {
                    health.state = HealthState::Unhealthy;
                }
            })
            .await;
        {
            let mut state = cell.state.lock();
            state.life = Life::None;
            state.stopping = None;
            state.residue = true;
            state.retry_at = ending.delay.map(|delay| self.clock.now().plus(delay));
            state.last_delay = ending.delay.unwrap_or_default();
        }
        written?;
        self.tell_exit(container, ending, told).await;
        Ok(())
    }

    /// Says `oom` for each time the shim has told of it; whether there was any news.
    pub(crate) fn tell_ooms(&self, cell: &Cell, container: &Container) -> bool {
        let news = {
            let mut state = cell.state.lock();
            let Life::Held { shim, .. } = &state.life else { return false };
            let seen = shim.ooms();
            seen.saturating_sub(std::mem::replace(&mut state.ooms_told, seen))
        };
        (0..news).for_each(|_| self.events.container(container, "oom", []));
        news > 0
    }

    async fn tell_exit(&self, container: &Container, ending: Ending, oom_told: bool) {
        if ending.exit.oom_killed && !oom_told {
            self.events.container(container, "oom", []);
        }
        let ran = container.status.started_at.map(|s| ending.at.since(s)).unwrap_or_default().as_secs();
        let facts = [("exitCode", ending.exit.code.to_string()), ("execDuration", ran.to_string())];
        self.events.container(container, "die", facts);
        self.tell_down(container).await;
        let run = &container.spec.run;
        let restarts =
            run.restart && run.want == weft_model::Want::Running && run.seq > container.status.answered;
        if (ending.answers.is_some() && ending.by_user) || restarts {
            self.events.container(container, "stop", []);
        }
    }

    /// Writes down that it runs.
    pub(crate) async fn record_running(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        answers: Option<u64>,
        restart: bool,
        adopted: bool,
    ) -> Result<Arc<Container>> {
        let pid = cell.shim().and_then(|s| s.init()).and_then(|p| u32::try_from(p.pid).ok()).unwrap_or(0);
        let now = self.clock.now();
        // Whoever sees it running sees that it is checked.
        let container = self.container(cell.id).await?;
        let health = crate::health::first_report(&container);
        let container = self
            .write_status(cell, false, |status| {
                status.state = RunState::Running;
                status.pid = pid;
                status.started_at = Some(now);
                status.error.clear();
                status.start_failure = 0;
                status.exit = weft_model::ExitStatus::default();
                if let Some(seq) = answers {
                    status.answered = seq;
                    status.restart_count = 0;
                    status.stopped_by_user = false;
                }
                status.health.clone_from(&health);
            })
            .await?;
        if !adopted {
            self.begin_baseline(cell.id);
            self.events.container(&container, "start", []);
        }
        if restart {
            self.events.container(&container, "restart", []);
        }
        self.begin_health(cell, &container);
        Ok(container)
    }

    async fn remove(self: &Arc<Self>, cell: &Arc<Cell>, container: &Arc<Container>) -> Result<()> {
        if let Err(error) = self.take_down(cell.id).await {
            let text = chain(&error);
            self.write_status(cell, false, |status| {
                status.state = RunState::Dead;
                status.error.clone_from(&text);
            })
            .await?;
            return Err(error);
        }
        self.delete_record(cell.id).await?;
        self.events.container(container, "destroy", []);
        Ok(())
    }
}
