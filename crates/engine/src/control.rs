//! Requests that go straight to a running container: signals, terminal size, new limits; and waiting for its end.

use std::sync::Arc;

use weft_model::{ContainerId, ContainerSpec, ContainerStatus};

use crate::{
    Engine, EngineError, Result,
    cell::{Cell, News},
    logs::reader,
    oci,
    shim::{ConsoleSize, ShimError},
    signal,
    start::{NOT_STARTED, exit_of_failed},
    types::{WaitCondition, WaitResult},
};

/// A wait that has begun: ends from now on count, however late [`Waiter::done`] is asked.
pub struct Waiter {
    news: tokio::sync::watch::Receiver<News>,
    condition: WaitCondition,
    ends: u64,
    over: bool,
    /// Keeps the sender alive.
    _cell: Arc<Cell>,
}

impl Waiter {
    /// Waits until the condition is true.
    pub async fn done(mut self) -> WaitResult {
        let (condition, ends, over) = (self.condition, self.ends, self.over);
        let true_now = |news: &News| match condition {
            WaitCondition::Removed => news.gone,
            WaitCondition::NextExit => news.gone || news.ends > ends,
            WaitCondition::NotRunning => over || news.gone || news.ends > ends,
        };
        match self.news.wait_for(true_now).await {
            // A removal takes the error of a failed start with it (moby `SetRemoved`).
            Ok(news) => {
                let error = if news.gone { String::new() } else { news.status.error.clone() };
                WaitResult { code: news.status.exit.code, error }
            }
            Err(_) => WaitResult { code: 0, error: "the engine has ended".into() },
        }
    }
}

impl Engine {
    /// Begins to wait; may be done before the start, any number of times.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn wait(&self, id: ContainerId, condition: WaitCondition) -> Result<Waiter> {
        let cell = self.0.cell(id).await?;
        let news = cell.news.subscribe();
        let (ends, over) = {
            let now = news.borrow();
            (now.ends, !now.is_up())
        };
        Ok(Waiter { news, condition, ends, over, _cell: cell })
    }

    /// Writes down a start that was refused before it was asked for (a port that is taken, an address that is), as one
    /// that failed. A container that runs meanwhile stays as it is.
    ///
    /// # Errors
    /// `NotFound`; a store that cannot be written.
    pub async fn start_refused(&self, id: ContainerId, message: &str) -> Result<()> {
        let cell = self.0.cell(id).await?;
        self.0.due_at_boot.lock().remove(&id);
        self.0.events.count(weft_model::EventKind::Container, "start_failed");
        let write = |status: &mut ContainerStatus| {
            if !status.state.is_alive() {
                message.clone_into(&mut status.error);
                status.start_failure = NOT_STARTED;
                status.exit = exit_of_failed(status.exit, NOT_STARTED);
            }
        };
        self.0.write_status(&cell, false, write).await.map(drop)
    }

    /// Sends a signal to the first process. `SIGKILL` and the container's stop signal also tell restart policies that
    /// people want it down.
    ///
    /// # Errors
    /// `NotRunning`.
    pub async fn kill(&self, id: ContainerId, number: i32) -> Result<()> {
        let (cell, shim) = self.0.running(id).await?;
        let container = self.0.container(id).await?;
        let stop = signal::parse(&container.spec.stop_signal).unwrap_or(libc::SIGTERM);
        let for_good = number == libc::SIGKILL || number == stop;
        if for_good && container.spec.restart.mode != weft_model::RestartMode::No {
            self.0.write_status(&cell, false, |status| status.stopped_by_user = true).await?;
        }
        match shim.kill(number, false).await {
            Ok(()) => {}
            Err(ShimError::State(_)) => return Err(EngineError::NotRunning(id)),
            Err(e) => return Err(e.into()),
        }
        self.0.events.container(&container, "kill", [("signal", number.to_string())]);
        if number == libc::SIGKILL {
            self.wake(id);
        }
        Ok(())
    }

    /// Sets the terminal's size; a container without one has nothing to set, which is no error to Docker.
    ///
    /// # Errors
    /// `NotRunning`.
    pub async fn resize(&self, id: ContainerId, rows: u16, columns: u16) -> Result<()> {
        let (_, shim) = self.0.running(id).await?;
        let container = self.0.container(id).await?;
        if container.spec.process.tty {
            shim.resize(ConsoleSize { height: rows, width: columns }).await.map_err(|e| match e {
                ShimError::State(text) => EngineError::Conflict(text),
                e => e.into(),
            })?;
        }
        let facts = [("height", rows.to_string()), ("width", columns.to_string())];
        self.0.events.container(&container, "resize", facts);
        Ok(())
    }

    /// Gives a running container the limits of its present spec; nothing to do for others. Answers what was not granted.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn update(&self, spec: &ContainerSpec) -> Result<Vec<String>> {
        let Ok((_, shim)) = self.0.running(spec.id).await else { return Ok(Vec::new()) };
        let blocks = oci::devices::blocks(&spec.resources)?;
        let limits = oci::limits(&spec.resources, &blocks, &self.0.host)?;
        let value =
            serde_json::to_value(&limits.resources).map_err(|e| EngineError::Internal(e.to_string()))?;
        shim.update(value).await?;
        Ok(limits.warnings)
    }

    /// Writes `/etc/hosts` and `/etc/resolv.conf` of a container anew after its networks changed.
    ///
    /// # Errors
    /// What could not be written.
    pub async fn refresh_names(&self, id: ContainerId) -> Result<()> {
        let container = self.0.container(id).await?;
        if self.0.known_cell(id).is_none_or(|cell| cell.shim().is_none()) {
            return Ok(());
        }
        self.0.refresh_names(&container).await
    }

    /// The container's log.
    ///
    /// # Errors
    /// `Unsupported` where the driver keeps nothing here.
    pub async fn logs(&self, id: ContainerId, query: reader::LogQuery) -> Result<reader::LogReader> {
        let cell = self.0.cell(id).await?;
        let container = self.0.container(id).await?;
        let (dir, name) = (self.0.durable(id), id.to_string());
        let ended = ended(&self.0.tasks, &cell, query.follow);
        reader::open(&container.spec.log, &dir, &name, query, ended).await.map_err(|e| match e {
            reader::ReadError::NotReadable => EngineError::Unsupported(e.to_string()),
            e => EngineError::Internal(weft_base::chain(&e)),
        })
    }
}

/// Turns true when the container logs no more.
fn ended(tasks: &weft_base::Tasks, cell: &Cell, follow: bool) -> tokio::sync::watch::Receiver<bool> {
    let mut logging = cell.logging.subscribe();
    let over = !*logging.borrow_and_update();
    let (tell, ended) = tokio::sync::watch::channel(over || !follow);
    if !over && follow {
        tasks.spawn(async move {
            tokio::select! {
                _ = logging.wait_for(|on| !on) => { tell.send_replace(true); }
                () = tell.closed() => {}
            }
        });
    }
    ended
}
