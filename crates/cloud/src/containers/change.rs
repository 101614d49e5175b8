//! Renaming, and changing limits and restart policy.

use weft_model::{Container, Resources, RestartMode, RestartPolicy, RunState};
use weft_store::{Conflict, IndexKey, StoreError, Txn};

use super::{links, references};
use crate::{Action, Caller, Cloud, CloudError, Result};

/// Limits to change; zero and empty ones stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerUpdate {
    /// Limits.
    pub resources: Resources,
    /// Restart policy.
    pub restart: Option<RestartPolicy>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// `change` over `old`: only what is set.
fn merged(old: &Resources, change: &Resources) -> Resources {
    let mut new = old.clone();
    macro_rules! take {
        ($($field:ident),*) => {$(
            if !is_default(&change.$field) {
                new.$field.clone_from(&change.$field);
            }
        )*};
    }
    take!(
        memory,
        memory_swap,
        memory_reservation,
        kernel_memory,
        kernel_memory_tcp,
        swappiness,
        nano_cpus,
        cpu_shares,
        cpu_period,
        cpu_quota,
        cpu_rt_period,
        cpu_rt_runtime,
        cpuset_cpus,
        cpuset_mems,
        pids,
        blkio_weight,
        blkio_weight_device,
        blkio_read_bps,
        blkio_write_bps,
        blkio_read_iops,
        blkio_write_iops
    );
    new
}

impl Cloud {
    /// Gives a container another name.
    pub async fn container_rename(&self, caller: &Caller, name: &str, new: &str) -> Result<()> {
        let found = self.container_find(caller, name).await?;
        caller.authorise(Action::Write, found.meta.project)?;
        let wanted = references::name(new)?;
        let (old, id) = (found.spec.name.clone(), found.spec.id);
        if old == wanted {
            let text = "Renaming a container with the same name as its current name";
            return Err(CloudError::Invalid(text.into()));
        }
        loop {
            let Some(found) = self.0.containers.get(&id).await? else {
                return Err(CloudError::not_found(crate::Kind::Container, name));
            };
            let mut container = Container::clone(&found);
            container.spec.name = wanted.clone();
            container.meta.generation += 1;
            let all = self.0.containers.list_shared().await?;
            let mut change = Txn::new(self.stores())
                .claim(&IndexKey::of::<Container>(&wanted), &id)
                .release(&IndexKey::of::<Container>(&old), &id)
                .update(&container, found.revision);
            for (parent, revision) in links::renamed(&all, &container, old.as_str()) {
                change = change.update(&parent, revision);
            }
            let done = change.commit().await;
            match done {
                Ok(_) => {
                    self.ports_rename(&container, old.as_str()).await?;
                    let more = [("oldName", format!("/{old}"))];
                    self.engine().events().container(&container, "rename", more);
                    return Ok(());
                }
                Err(StoreError::Conflict { reason: Conflict::Claimed { owner }, .. }) => {
                    return Err(CloudError::NameInUse { name: wanted.to_string(), by: owner });
                }
                Err(StoreError::Conflict { reason: Conflict::Changed { .. }, .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Changes limits, also while it runs; answers warnings.
    pub async fn container_update(
        &self,
        caller: &Caller,
        name: &str,
        change: ContainerUpdate,
    ) -> Result<Vec<String>> {
        let found = self.container_find(caller, name).await?;
        caller.authorise(Action::Write, found.meta.project)?;
        let id = found.spec.id;
        if matches!(found.status.state, RunState::Removing | RunState::Dead) {
            return Err(CloudError::Conflict(format!(
                "Cannot update container {id}: Container is marked for removal and cannot be \"update\"."
            )));
        }
        if found.spec.auto_remove && change.restart.is_some_and(|r| r.mode != RestartMode::No) {
            return Err(CloudError::Conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container".into(),
            ));
        }
        let (old, new) = (&found.spec.resources, &change.resources);
        // Also where none was set (moby `UpdateContainer`); a host without limits for swap sets none.
        let swap_limit = self.engine().host().swap_limit;
        if new.memory != 0 && new.memory > old.memory_swap && new.memory_swap == 0 && swap_limit {
            // What the limit is by itself is told first.
            let mut alone = found.spec.clone();
            (alone.resources.memory, alone.resources.memory_swap) = (new.memory, 0);
            self.validate(&alone)?;
            return Err(CloudError::Conflict(format!(
                "Cannot update container {id}: Memory limit should be smaller than already set memoryswap limit, \
                 update the memoryswap at the same time"
            )));
        }
        let mut spec = found.spec.clone();
        spec.resources = merged(&spec.resources, &change.resources);
        if let Some(restart) = change.restart {
            spec.restart = restart;
        }
        if spec.resources.nano_cpus > 0
            && change.resources.cpu_quota > 0
            && found.spec.resources.nano_cpus > 0
        {
            return Err(CloudError::Conflict(
                "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set".into(),
            ));
        }
        let mut warnings = self.validate(&spec)?;
        spec.resources = weft_engine::oci::granted(&spec.resources, self.engine().host());
        // The running processes first: limits the kernel refuses must not be written down.
        if found.status.state.is_alive() && spec.resources != found.spec.resources {
            warnings.extend(self.engine().update(&spec).await?);
        }
        let stored = self
            .0
            .containers
            .update(&id, |c| {
                c.spec.resources = spec.resources.clone();
                c.spec.restart = spec.restart;
                c.meta.generation += 1;
                true
            })
            .await?;
        self.engine().events().container(&stored, "update", []);
        Ok(warnings)
    }
}
