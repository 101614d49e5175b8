//! What the engine holds in memory of one container: its shim, a stop under way, the back-off, and the news for
//! those who wait. All of it may be lost; the record and the shim's files say the rest.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use weft_base::Timestamp;
use weft_model::{Container, ContainerId, ContainerStatus, ExitStatus, RunState};

use crate::{
    Result,
    plan::{Actual, Process, Seen, Stopping},
    shim::{Attach, Exit, Shim, ShimError},
};

/// A client that waits for the container's next start.
pub(crate) struct Joiner {
    pub attach: Attach,
    pub answer: oneshot::Sender<Result<tokio::net::UnixStream>>,
}

/// What stands behind a container.
#[derive(Clone, Default)]
pub(crate) enum Life {
    /// Nothing.
    #[default]
    None,
    /// A shim.
    Held { shim: Shim, unstarted: bool, paused: bool },
    /// It ended while nobody looked.
    Ended(Option<Seen>),
}

/// What waiters look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct News {
    /// The status as last written.
    pub status: Arc<ContainerStatus>,
    /// Ends seen since this daemon knows it.
    pub ends: u64,
    /// The record is gone.
    pub gone: bool,
}

#[derive(Default)]
pub(crate) struct State {
    pub life: Life,
    pub stopping: Option<Stopping>,
    pub retry_at: Option<Timestamp>,
    pub last_delay: Duration,
    pub residue: bool,
    /// Somebody wants the actor to look.
    pub dirty: bool,
    /// The actor runs.
    pub busy: bool,
    /// How many of the shim's out-of-memory events of this run were told on.
    pub ooms_told: u64,
    pub joiners: Vec<Joiner>,
    /// A start under way has told that networks and volumes are there.
    pub told_up: bool,
    /// Ends the health checks of this run.
    pub health: Option<tokio::task::AbortHandle>,
}

/// One container's memory.
pub(crate) struct Cell {
    pub id: ContainerId,
    pub state: Mutex<State>,
    pub nudge: Notify,
    pub news: watch::Sender<News>,
    /// Its output is being logged.
    pub logging: watch::Sender<bool>,
}

impl Cell {
    pub fn new(id: ContainerId, status: ContainerStatus) -> Self {
        let logging = watch::channel(status.state.is_alive()).0;
        let news = News { status: Arc::new(status), ends: 0, gone: false };
        Self { id, state: Mutex::default(), nudge: Notify::new(), news: watch::channel(news).0, logging }
    }

    /// The living shim.
    pub fn shim(&self) -> Option<Shim> {
        match &self.state.lock().life {
            Life::Held { shim, unstarted: false, .. } => Some(shim.clone()),
            _ => None,
        }
    }

    /// What is so, for the plan.
    pub fn actual(&self) -> Actual {
        use futures_util::FutureExt;
        let state = self.state.lock();
        let process = match &state.life {
            Life::None => Process::None,
            Life::Ended(seen) => Process::Ended(*seen),
            Life::Held { shim, unstarted, paused } => match shim.wait().now_or_never() {
                Some(end) => Process::Ended(seen_of(&end)),
                None if *unstarted => Process::Unstarted,
                None if *paused => Process::Paused,
                None => Process::Running,
            },
        };
        Actual {
            process,
            stopping: state.stopping,
            retry_at: state.retry_at,
            last_delay: state.last_delay,
            residue: state.residue,
            closing: false,
        }
    }

    /// Tells waiters what was written.
    pub fn publish(&self, container: &Container, ended: bool) {
        self.news.send_modify(|news| {
            news.status = Arc::new(container.status.clone());
            news.ends += u64::from(ended);
        });
    }

    /// Tells waiters that the record is gone.
    pub fn publish_gone(&self) {
        self.news.send_modify(|news| news.gone = true);
        // Whoever waited to join will wait in vain.
        self.state.lock().joiners.clear();
    }
}

impl News {
    /// Docker's "running": alive, or between two runs.
    pub fn is_up(&self) -> bool {
        self.status.state.is_alive() || self.status.state == RunState::Restarting
    }
}

fn seen_of(end: &Result<Exit, ShimError>) -> Option<Seen> {
    end.as_ref().ok().map(seen)
}

/// An exit record in the plan's terms.
pub(crate) fn seen(exit: &Exit) -> Seen {
    Seen {
        exit: ExitStatus { code: i64::from(exit.code), oom_killed: exit.oom_killed },
        at: exit.finished_at,
    }
}
