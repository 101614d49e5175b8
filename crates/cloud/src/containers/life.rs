//! Start, stop, restart, pause, kill: requests written once, carried out by the engine, waited for here.

use std::time::Duration;

use futures_util::StreamExt;
use weft_base::Tasks;
use weft_engine::{WaitCondition, signal};
use weft_model::{
    Container, ContainerId, ContainerStatus, NetworkMode, Port, RunRequest, RunState, StopRequest, Want,
};
use weft_store::{Conflict, StoreError, Stored, Txn};

use crate::{Action, Caller, Cloud, CloudError, Kind, Result};

const SIGKILL: i32 = 9;
/// How long a kill waits for the end (moby `daemon/kill.go`).
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// Containers that a new daemon starts at the same time.
const STARTS: usize = 16;
/// How long one of them waits for another whose namespaces it joins.
const JOINED_PATIENCE: Duration = Duration::from_mins(1);

impl Cloud {
    /// Starts a container and returns once its process runs.
    pub async fn container_start(&self, caller: &Caller, name: &str) -> Result<()> {
        let status = self
            .request(caller, name, |container| {
                match container.status.state {
                    RunState::Running => return Err(CloudError::NotModified),
                    RunState::Paused => {
                        return Err(CloudError::Conflict(
                            "cannot start a paused container, try unpause instead".into(),
                        ));
                    }
                    RunState::Removing | RunState::Dead => {
                        return Err(CloudError::Conflict(
                            "container is marked for removal and cannot be started".into(),
                        ));
                    }
                    _ => {}
                }
                Ok(RunRequest { want: Want::Running, ..RunRequest::default() })
            })
            .await?;
        started(&status)
    }

    /// Has the containers started that their policies want a new daemon to start; they come up behind. Before the first
    /// request is served.
    ///
    /// # Errors
    /// When records cannot be read.
    pub async fn start_by_policy(&self, tasks: &Tasks) -> Result<()> {
        let due = self.engine().due_at_boot().await?;
        let cloud = self.clone();
        let caller = Caller::local_administrator("restart policy");
        tasks.spawn(async move {
            let (cloud, caller) = (&cloud, &caller);
            let start = |id: ContainerId| async move {
                // It may join one that ran until the machine died, which comes back with delays of its own.
                cloud.engine().joined_up(id, JOINED_PATIENCE).await;
                match cloud.container_start(caller, &id.to_string()).await {
                    Ok(()) | Err(CloudError::NotModified) => {}
                    Err(error) => tracing::warn!(%error, container = %id, "its policy could not start it"),
                }
            };
            for round in due {
                futures_util::stream::iter(round).for_each_concurrent(STARTS, start).await;
            }
        });
        Ok(())
    }

    /// Stops a container and returns once its process is gone.
    pub async fn container_stop(&self, caller: &Caller, name: &str, stop: StopRequest) -> Result<()> {
        check_signal(stop.signal.as_deref())?;
        self.request(caller, name, |container| match container.status.state {
            RunState::Running | RunState::Paused | RunState::Restarting => {
                Ok(RunRequest { want: Want::Stopped, stop: stop.clone(), ..RunRequest::default() })
            }
            _ => Err(CloudError::NotModified),
        })
        .await
        .map(|_| ())
    }

    /// Stops a container if it runs, and starts it.
    pub async fn container_restart(&self, caller: &Caller, name: &str, stop: StopRequest) -> Result<()> {
        check_signal(stop.signal.as_deref())?;
        let asked = self
            .request(caller, name, |_| {
                Ok(RunRequest {
                    want: Want::Running,
                    restart: true,
                    stop: stop.clone(),
                    ..RunRequest::default()
                })
            })
            .await;
        asked.and_then(|status| started(&status)).map_err(|error| match error {
            CloudError::StartFailed { message, code } => CloudError::StartFailed {
                message: format!("Cannot restart container {name}: {message}"),
                code,
            },
            CloudError::Internal(text) => {
                CloudError::Internal(format!("Cannot restart container {name}: {text}"))
            }
            error => error,
        })
    }

    /// Freezes a container's processes.
    pub async fn container_pause(&self, caller: &Caller, name: &str) -> Result<()> {
        self.request(caller, name, |container| match container.status.state {
            RunState::Running => {
                Ok(RunRequest { want: Want::Running, paused: true, ..RunRequest::default() })
            }
            RunState::Paused => {
                Err(CloudError::Conflict(format!("Container {} is already paused", container.spec.id)))
            }
            RunState::Restarting => Err(CloudError::Conflict(format!(
                "Container {} is restarting, wait until the container is running",
                container.spec.id
            ))),
            _ => Err(not_running(container)),
        })
        .await
        .map(|_| ())
    }

    /// Thaws a container's processes.
    pub async fn container_unpause(&self, caller: &Caller, name: &str) -> Result<()> {
        self.request(caller, name, |container| match container.status.state {
            RunState::Paused => Ok(RunRequest { want: Want::Running, ..RunRequest::default() }),
            RunState::Running | RunState::Restarting => {
                Err(CloudError::Conflict(format!("Container {} is not paused", container.spec.id)))
            }
            _ => Err(not_running(container)),
        })
        .await
        .map(|_| ())
    }

    /// Sends a signal to a container's process 1.
    pub async fn container_kill(&self, caller: &Caller, name: &str, signal: &str) -> Result<()> {
        let number = check_signal(Some(signal))?.unwrap_or(SIGKILL);
        let container = self.container_find(caller, name).await?;
        caller.authorise(Action::Write, container.meta.project)?;
        if !container.status.state.is_alive() {
            let error = not_running(&container);
            return Err(CloudError::Conflict(format!("cannot kill container: {name}: {error}")));
        }
        let id = container.spec.id;
        let end = self.engine().wait(id, WaitCondition::NotRunning).await?;
        self.engine().kill(id, number).await?;
        if number == SIGKILL {
            // Nothing withstands this signal but a process stuck in the kernel, for which nobody should wait for ever.
            let _ = tokio::time::timeout(KILL_PATIENCE, end.done()).await;
        }
        Ok(())
    }

    /// Resizes a container's terminal.
    pub async fn container_resize(&self, caller: &Caller, name: &str, rows: u16, columns: u16) -> Result<()> {
        let container = self.container_find(caller, name).await?;
        caller.authorise(Action::Write, container.meta.project)?;
        if !container.status.state.is_alive() {
            return Err(not_running(&container));
        }
        Ok(self.engine().resize(container.spec.id, rows, columns).await?)
    }

    /// Writes what `wish` answers as the container's request, with the ports it needs, and waits for it.
    async fn request(
        &self,
        caller: &Caller,
        name: &str,
        wish: impl Fn(&Container) -> Result<RunRequest>,
    ) -> Result<ContainerStatus> {
        loop {
            let found = self.container_find(caller, name).await?;
            caller.authorise(Action::Write, found.meta.project)?;
            if found.meta.deleting.is_some() {
                return Err(CloudError::Conflict(format!(
                    "removal of container {name} is already in progress"
                )));
            }
            let run = RunRequest { seq: found.spec.run.seq + 1, ..wish(&found)? };
            let starts = run.want == Want::Running && !run.paused && found.status.state != RunState::Paused;
            match self.write_request(&found, run, starts).await {
                Ok(seq) => {
                    let id = found.spec.id;
                    self.engine().wake(id);
                    let status = self.engine().answered(id, seq).await;
                    let status = status.map_err(|error| match error {
                        weft_engine::EngineError::NotFound(_) => CloudError::not_found(Kind::Container, name),
                        error => error.into(),
                    })?;
                    if starts && !status.state.is_alive() {
                        self.tidy_container(id).await?;
                    }
                    return Ok(status);
                }
                // The engine wrote its status in between: look again.
                Err(CloudError::Conflict(_)) if self.changed_since(&found).await? => {}
                Err(error) => {
                    if starts {
                        // Its state says so, as after any start that failed; and one for one run only goes.
                        self.engine().start_refused(found.spec.id, &error.to_string()).await?;
                    }
                    return Err(error);
                }
            }
        }
    }

    async fn changed_since(&self, found: &Stored<Container>) -> Result<bool> {
        let now = self.0.containers.get(&found.spec.id).await?;
        Ok(now.is_none_or(|n| n.revision != found.revision))
    }

    async fn write_request(&self, found: &Stored<Container>, run: RunRequest, starts: bool) -> Result<u64> {
        let mut container = Container::clone(found);
        let seq = run.seq;
        container.spec.run = run;
        container.meta.generation += 1;
        if starts {
            self.rebind(&mut container.spec).await?;
        }
        if !(starts && container.spec.network == NetworkMode::Attached) {
            self.commit_request(&container, found.revision, &[], &[]).await?;
            return Ok(seq);
        }
        let mut turn = self.0.hints.turn().await;
        let (made, gone) = self.ports_for(&container, &mut turn).await?;
        let chosen: Vec<_> = made.iter().map(|p| p.spec.clone()).collect();
        // The next one may choose while this is written; what was chosen here stays taken.
        let hold = turn.hold(&chosen);
        if let Err(failed) = self.commit_request(&container, found.revision, &made, &gone).await {
            hold.give_back();
            return Err(failed);
        }
        drop(hold);
        Ok(seq)
    }

    async fn commit_request(
        &self,
        container: &Container,
        revision: u64,
        made: &[Port],
        gone: &[weft_model::PortId],
    ) -> Result<()> {
        let mut txn = Txn::new(self.stores()).update(container, revision);
        for port in made {
            txn = txn.create(port);
        }
        for port in gone {
            txn = txn.delete::<Port>(port);
        }
        match txn.commit().await {
            Ok(_) => Ok(()),
            Err(StoreError::Conflict { key, reason: reason @ Conflict::Changed { .. } }) => {
                Err(CloudError::Conflict(format!("{key}: {reason}")))
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn not_running(container: &Container) -> CloudError {
    CloudError::Conflict(format!("Container {} is not running", container.spec.id))
}

/// A start that did not come to life, told as `docker run` tells it.
fn started(status: &ContainerStatus) -> Result<()> {
    if status.start_failure == 0 && status.error.is_empty() {
        return Ok(());
    }
    Err(CloudError::StartFailed { message: status.error.clone(), code: status.start_failure })
}

/// The signal's number.
fn check_signal(signal: Option<&str>) -> Result<Option<i32>> {
    signal.map(|text| signal::parse(text).map_err(|e| CloudError::Invalid(e.to_string()))).transpose()
}
