//! One task for each container that is busy: plans, applies, and waits for whatever changes the plan.
//!
//! A task is made when somebody wakes a container and ends when nothing runs, nothing is asked and nothing is due.
//! A step that fails is logged and tried again with growing pauses; requests are answered with their failure by the step itself, so
//! nobody waits for a retry.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use weft_base::{Backoff, Timestamp, chain};
use weft_model::Container;

use crate::{
    EngineError,
    cell::{Cell, Life},
    engine::Inner,
    plan::{Actual, next_look, plan},
};

/// Makes sure that somebody looks after the container soon.
pub(crate) fn wake(inner: &Arc<Inner>, cell: &Arc<Cell>) {
    let start = {
        let mut state = cell.state.lock();
        state.dirty = true;
        !std::mem::replace(&mut state.busy, true)
    };
    if start {
        let (inner_, cell_) = (Arc::clone(inner), Arc::clone(cell));
        inner.tasks.spawn(async move {
            let busy = Busy { inner: Arc::clone(&inner_), cell: Arc::clone(&cell_), orderly: false };
            run(inner_, cell_, busy).await;
        });
    } else {
        cell.nudge.notify_one();
    }
}

/// Takes the busy mark away however the task ends, so that a panic does not leave the container without an actor.
struct Busy {
    inner: Arc<Inner>,
    cell: Arc<Cell>,
    orderly: bool,
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.orderly {
            return;
        }
        self.cell.state.lock().busy = false;
        if std::thread::panicking() {
            let (inner, cell) = (Arc::clone(&self.inner), Arc::clone(&self.cell));
            tracing::error!(container = %cell.id, "its actor died; starting another");
            self.inner.tasks.spawn(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                wake(&inner, &cell);
            });
        }
    }
}

async fn run(inner: Arc<Inner>, cell: Arc<Cell>, mut busy: Busy) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
    loop {
        cell.state.lock().dirty = false;
        let mut failed = false;
        let pause = match turn(&inner, &cell).await {
            Ok(Turn::Again) => {
                backoff.reset();
                continue;
            }
            Ok(Turn::Rest(look)) => {
                backoff.reset();
                look.map(|at| at.since(inner.clock.now()))
            }
            Ok(Turn::Gone) => {
                cell.publish_gone();
                inner.forget(&cell);
                let mut state = cell.state.lock();
                state.busy = false;
                busy.orderly = true;
                return;
            }
            Err(error) => {
                tracing::warn!(container = %cell.id, error = chain(&error), "a step failed; trying again");
                failed = true;
                Some(backoff.next_delay())
            }
        };
        if rest(&cell, pause, failed).await {
            busy.orderly = true;
            return;
        }
    }
}

enum Turn {
    /// Something was done: plan again.
    Again,
    /// All is as it should be until then.
    Rest(Option<Timestamp>),
    /// The record is gone.
    Gone,
}

async fn turn(inner: &Arc<Inner>, cell: &Arc<Cell>) -> Result<Turn, EngineError> {
    let container: Arc<Container> = match inner.container(cell.id).await {
        Err(EngineError::NotFound(_)) => {
            inner.abandon(cell).await;
            return Ok(Turn::Gone);
        }
        found => found?,
    };
    if inner.tell_ooms(cell, &container)
        && container.status.state.is_alive()
        && !container.status.exit.oom_killed
    {
        // Shown while it goes on running, as by dockerd; its next start clears it.
        inner.write_status(cell, false, |status| status.exit.oom_killed = true).await?;
        return Ok(Turn::Again);
    }
    let actual = Actual { closing: inner.closing.load(Ordering::Acquire), ..cell.actual() };
    let steps = plan(&container, &actual, inner.clock.now());
    if steps.is_empty() {
        return Ok(Turn::Rest(next_look(&container, &actual)));
    }
    for step in steps {
        tracing::debug!(container = %cell.id, ?step);
        inner.apply(cell, &container, step).await?;
    }
    Ok(Turn::Again)
}

/// Waits for a reason to look again; `true` when there can be none and the actor may end. After a failure only the
/// pause and a nudge count: the news that could not be dealt with would be ready at once, for ever.
async fn rest(cell: &Arc<Cell>, pause: Option<Duration>, failed: bool) -> bool {
    let (shim, ooms) = {
        let mut state = cell.state.lock();
        if state.dirty {
            return false;
        }
        let shim = match &state.life {
            Life::Held { shim, .. } => Some(shim.clone()),
            _ => None,
        };
        if shim.is_none() && pause.is_none() {
            state.busy = false;
            return true;
        }
        (shim, state.ooms_told)
    };
    let sleep = async {
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => std::future::pending().await,
        }
    };
    let end = async {
        match &shim {
            Some(shim) if !failed => drop(shim.wait().await),
            _ => std::future::pending().await,
        }
    };
    let oom = async {
        match &shim {
            Some(shim) if !failed => shim.oom_after(ooms).await,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        () = cell.nudge.notified() => {}
        () = end => {}
        () = sleep => {}
        () = oom => {}
    }
    false
}
