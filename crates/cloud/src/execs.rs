//! Use cases around further processes in running containers.

use weft_engine::ExecStart;
use weft_model::{ExecId, ExecSpec, RunState};

use crate::{Action, Attachment, Caller, Cloud, CloudError, ExecView, Kind, Result};

/// A process as it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecDraft {
    /// Argument vector, not empty.
    pub args: Vec<String>,
    /// Added environment.
    pub env: Vec<String>,
    /// Working directory; the container's when empty.
    pub working_dir: String,
    /// User; the container's when empty.
    pub user: String,
    /// With a terminal.
    pub tty: bool,
    /// Which of stdin, stdout, stderr will be attached.
    pub attach: (bool, bool, bool),
    /// All capabilities.
    pub privileged: bool,
    /// Keys that detach.
    pub detach_keys: String,
    /// First size of the terminal: rows, columns.
    pub console_size: Option<(u16, u16)>,
}

impl Cloud {
    /// Makes an exec in a running container.
    pub async fn exec_create(&self, caller: &Caller, name: &str, draft: ExecDraft) -> Result<ExecId> {
        let container = self.container_find(caller, name).await?;
        caller.authorise(Action::Write, container.meta.project)?;
        if draft.privileged {
            caller.authorise(Action::Host, container.meta.project)?;
        }
        let id = container.spec.id;
        match container.status.state {
            RunState::Running => {}
            RunState::Paused => {
                return Err(CloudError::Conflict(format!(
                    "Container {name} is paused, unpause the container before exec"
                )));
            }
            RunState::Restarting => {
                return Err(CloudError::Conflict(format!(
                    "Container {id} is restarting, wait until the container is running"
                )));
            }
            _ => return Err(CloudError::Conflict(format!("container {id} is not running"))),
        }
        let spec = ExecSpec {
            id: ExecId::new(),
            container: id,
            args: draft.args,
            env: draft.env,
            working_dir: draft.working_dir,
            user: draft.user,
            tty: draft.tty,
            attach: draft.attach,
            privileged: draft.privileged,
            detach_keys: draft.detach_keys,
            console_size: draft.console_size,
        };
        let id = spec.id;
        self.engine().exec_create(spec).await?;
        Ok(id)
    }

    async fn exec_find(&self, caller: &Caller, text: &str, action: Action) -> Result<ExecView> {
        let missing = || CloudError::not_found(Kind::Exec, text);
        let id = self.engine().exec_find(text)?;
        let view = self.engine().exec_inspect(id)?;
        let container = self.0.containers.get(&view.spec.container).await?.ok_or_else(missing)?;
        if !caller.sees(container.meta.project) {
            return Err(missing());
        }
        caller.authorise(action, container.meta.project)?;
        Ok(view)
    }

    /// State of an exec.
    pub async fn exec_view(&self, caller: &Caller, id: &str) -> Result<ExecView> {
        self.exec_find(caller, id, Action::Read).await
    }

    /// Starts an exec and attaches to it.
    pub async fn exec_start(
        &self,
        caller: &Caller,
        id: &str,
        size: Option<(u16, u16)>,
    ) -> Result<Attachment> {
        let view = self.exec_find(caller, id, Action::Write).await?;
        let start = ExecStart { detach: false, console_size: size };
        let attachment = self.engine().exec_start(view.spec.id, &start).await?;
        attachment.ok_or_else(|| CloudError::Internal("an attached exec gave no stream".into()))
    }

    /// Starts an exec and leaves it alone.
    pub async fn exec_start_detached(&self, caller: &Caller, id: &str) -> Result<()> {
        let view = self.exec_find(caller, id, Action::Write).await?;
        self.engine().exec_start(view.spec.id, &ExecStart { detach: true, console_size: None }).await?;
        Ok(())
    }

    /// Resizes an exec's terminal.
    pub async fn exec_resize(&self, caller: &Caller, id: &str, rows: u16, columns: u16) -> Result<()> {
        let view = self.exec_find(caller, id, Action::Write).await?;
        Ok(self.engine().exec_resize(view.spec.id, rows, columns).await?)
    }
}
