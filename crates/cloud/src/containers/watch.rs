//! Watching a container: wait, attach, logs, top, stats.

use std::sync::Arc;

use weft_engine::{
    AttachOptions, Attachment, LogQuery, Pair, StatsStream, TopTable, WaitCondition, WaitResult,
    logs::LogReader,
};

use weft_model::Container;

use crate::{Action, Caller, Cloud, CloudError, Result};

/// What a container uses.
#[derive(Clone, Debug)]
pub struct Usage {
    /// The container.
    pub container: Arc<Container>,
    /// Now and before.
    pub pair: Pair,
}

/// A container's log.
pub struct Logs {
    /// The container has a terminal: there is one stream, without frames.
    pub tty: bool,
    /// Entries.
    pub reader: LogReader,
}

impl Cloud {
    /// Opens a wait; what it answers completes when the condition comes true. The wait counts from this call
    /// on, not from the first poll.
    pub async fn container_wait(
        &self,
        caller: &Caller,
        name: &str,
        condition: WaitCondition,
    ) -> Result<impl Future<Output = WaitResult> + Send + use<>> {
        let container = self.container_find(caller, name).await?;
        caller.authorise(Action::Read, container.meta.project)?;
        let waiter = self.engine().wait(container.spec.id, condition).await?;
        Ok(waiter.done())
    }

    /// Attaches to a container's process, running or about to be started.
    pub async fn container_attach(
        &self,
        caller: &Caller,
        name: &str,
        options: AttachOptions,
    ) -> Result<Attachment> {
        let container = self.container_find(caller, name).await?;
        caller.authorise(Action::Write, container.meta.project)?;
        if container.status.state == weft_model::RunState::Restarting {
            let text = format!("container {name} is restarting, wait until the container is running");
            return Err(CloudError::Conflict(text));
        }
        Ok(self.engine().attach(container.spec.id, &options).await?)
    }

    /// Opens a container's log.
    pub async fn container_logs(&self, caller: &Caller, name: &str, query: LogQuery) -> Result<Logs> {
        let container = self.container_find(caller, name).await?;
        caller.authorise(Action::Read, container.meta.project)?;
        let reader = self.engine().logs(container.spec.id, query).await?;
        Ok(Logs { tty: container.spec.process.tty, reader })
    }

    /// The container's processes as `ps` shows them.
    pub async fn container_top(&self, caller: &Caller, name: &str, arguments: &str) -> Result<TopTable> {
        let container = self.container_find(caller, name).await?;
        caller.authorise(Action::Read, container.meta.project)?;
        Ok(self.engine().top(container.spec.id, arguments).await?)
    }

    /// What a container uses now, at once.
    pub async fn container_stats_once(&self, caller: &Caller, name: &str) -> Result<Usage> {
        let container = self.container_find(caller, name).await?;
        caller.authorise(Action::Read, container.meta.project)?;
        let pair = self.engine().stats_once(container.spec.id).await?;
        Ok(Usage { container: container.value, pair })
    }

    /// What a container uses, each second.
    pub async fn container_stats(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<(Arc<Container>, StatsStream)> {
        let container = self.container_find(caller, name).await?;
        caller.authorise(Action::Read, container.meta.project)?;
        let stream = self.engine().stats(container.spec.id).await?;
        Ok((container.value, stream))
    }
}
