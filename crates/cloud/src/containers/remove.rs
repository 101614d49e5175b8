//! Removing containers, one or all that rest.

use weft_model::{Container, RunState};

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
            return Err(CloudError::Conflict(format!("removal of container {name} is already in progress")));
        }
        if !options.force {
            let state = container.status.state;
            let shown = &container.spec.name;
            let hint = match state {
                RunState::Running => {
                    "container is running: stop the container before removing or force remove"
                }
                RunState::Paused => "container is paused and must be unpaused first",
                RunState::Restarting => {
                    "container is restarting: stop the container before removing or force remove"
                }
                _ => "",
            };
            if !hint.is_empty() {
                return Err(CloudError::Conflict(format!("cannot remove container \"{shown}\": {hint}")));
            }
        }
        self.remove_now(&container, options.volumes).await
    }

    /// Asks for the removal of `container`, waits for it, and releases what it leaves.
    pub(crate) async fn remove_now(&self, container: &Container, volumes: bool) -> Result<()> {
        let id = container.spec.id;
        let now = self.now();
        let asked = self
            .0
            .containers
            .update(&id, |c| {
                let first = c.meta.deleting.is_none();
                c.meta.deleting.get_or_insert(now);
                first
            })
            .await;
        if let Err(error) = asked {
            // Somebody else removed it in the meantime: that is what was wanted.
            return if self.0.containers.get(&id).await?.is_none() { Ok(()) } else { Err(error.into()) };
        }
        self.engine().wake(id);
        self.engine().removed(id).await?;
        self.release_ports(id).await?;
        if volumes {
            let names: Vec<String> = crate::volumes::mounted(container).map(str::to_owned).collect();
            self.volumes_release(&names).await?;
        }
        Ok(())
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
