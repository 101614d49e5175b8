//! Removing containers, one or all that rest.

use weft_model::{Container, RunState, Volume};
use weft_store::{StoreError, Txn};

use crate::{Action, Caller, Cloud, CloudError, Pruned, Result};

/// How a container is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Kill it first.
    pub force: bool,
    /// Its anonymous volumes go with it.
    pub volumes: bool,
    /// Only a legacy link is meant.
    pub link: bool,
}

impl Cloud {
    /// Removes a container and returns once nothing of it is left.
    pub async fn container_remove(&self, caller: &Caller, name: &str, options: RemoveOptions) -> Result<()> {
        if options.link {
            return self.link_remove(caller, name).await;
        }
        let container = self.container_find(caller, name).await?;
        caller.authorise(Action::Write, container.meta.project)?;
        if container.meta.deleting.is_some() && container.status.state != RunState::Dead {
            // Whoever asked for it may not have come to say so.
            self.engine().wake(container.spec.id);
            return Err(CloudError::Conflict(format!("removal of container {name} is already in progress")));
        }
        if !options.force {
            let state = match container.status.state {
                RunState::Running => Some("running"),
                RunState::Paused => Some("paused"),
                RunState::Restarting => Some("restarting"),
                _ => None,
            };
            if let Some(state) = state {
                let (id, name) = (container.spec.id.to_string(), container.spec.name.to_string());
                return Err(CloudError::InUse { id, name, state });
            }
        }
        self.remove_now(&container, options.volumes).await
    }

    /// Asks for the removal of `container`, waits for it, and releases what it leaves.
    pub(crate) async fn remove_now(&self, container: &Container, volumes: bool) -> Result<()> {
        self.ask_removal(container, volumes).await?;
        self.finish_removal(container).await
    }

    /// Marks `container`, and with `volumes` the anonymous ones that only it uses, in one transaction, so that a daemon
    /// that dies in between does not forget them. `true` when nobody had asked before.
    pub(crate) async fn ask_removal(&self, container: &Container, volumes: bool) -> Result<bool> {
        let id = container.spec.id;
        loop {
            let Some(found) = self.0.containers.get(&id).await? else { return Ok(false) };
            if found.meta.deleting.is_some() {
                return Ok(false);
            }
            let doomed = if volumes { self.volumes_doomed(&found).await? } else { Vec::new() };
            let mut marked = Container::clone(&found);
            marked.meta.deleting = Some(self.now());
            let mut txn = Txn::new(self.stores()).update(&marked, found.revision);
            for volume in &doomed {
                let mut marked = Volume::clone(volume);
                marked.meta.deleting = Some(self.now());
                txn = txn.update(&marked, volume.revision);
            }
            match txn.commit().await {
                Ok(_) => return Ok(true),
                // The engine wrote its status in between: look again.
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for a removal that was asked for, and releases what it leaves.
    pub(crate) async fn finish_removal(&self, container: &Container) -> Result<()> {
        let id = container.spec.id;
        self.engine().wake(id);
        self.engine().removed(id).await?;
        self.release_ports(id).await?;
        self.volumes_tidy().await
    }

    /// Removes the containers that rest and pass `chosen`.
    pub async fn container_prune(
        &self,
        caller: &Caller,
        chosen: impl Fn(&Container) -> bool + Send + Sync,
    ) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for container in self.0.containers.list_shared().await?.iter() {
            let rests =
                matches!(container.status.state, RunState::Created | RunState::Exited | RunState::Dead);
            if !rests || !caller.sees(container.meta.project) || !chosen(container) {
                continue;
            }
            caller.authorise(Action::Write, container.meta.project)?;
            let size = self.engine().size(container.spec.id).await.map_or(0, |s| s.rw);
            self.remove_now(container, false).await?;
            pruned.names.push(container.spec.id.to_string());
            pruned.bytes += size;
        }
        let attributes = [("reclaimed".to_owned(), pruned.bytes.to_string())].into();
        let kind = weft_model::EventKind::Container;
        self.engine().events().emit(kind, "prune", "", caller.project, attributes);
        Ok(pruned)
    }
}
