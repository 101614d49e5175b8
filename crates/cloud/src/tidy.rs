//! What follows from the end of a container: its ports go, and with `--rm` the container itself;
//! with a container that was removed, the volumes that were to go with it.
//!
//! A loop over the whole, on change and on a timer, so that nothing is forgotten when the daemon dies in
//! between.

use std::{collections::BTreeSet, time::Duration};

use weft_base::Tasks;
use weft_model::{Container, ContainerId, Port, PortOwner, RunState};
use weft_store::{Stored, Txn, reconcile::Loop};

use crate::{Cloud, CloudError, Result};

/// It has ended, and no request or policy is about to start it.
fn rests(container: &Container) -> bool {
    matches!(container.status.state, RunState::Created | RunState::Exited | RunState::Dead)
        && container.status.answered >= container.spec.run.seq
}

/// Starts the loop.
pub(crate) fn start(cloud: &Cloud, tasks: &Tasks) {
    let cloud = cloud.clone();
    tasks.supervise("tidy", move || {
        let cloud = cloud.clone();
        let work = Loop::new("tidy").every(Duration::from_secs(30)).watching(&cloud.0.containers);
        async move {
            work.run(move || {
                let cloud = cloud.clone();
                async move { cloud.tidy().await }
            })
            .await;
        }
    });
}

impl Cloud {
    async fn tidy(&self) -> Result<()> {
        let containers = self.0.containers.list_shared().await?;
        let awake: BTreeSet<ContainerId> =
            containers.iter().filter(|c| !rests(c)).map(|c| c.spec.id).collect();
        let owners: BTreeSet<ContainerId> = self
            .0
            .ports
            .list_shared()
            .await?
            .iter()
            .map(|p| match p.spec.owner {
                PortOwner::Container(id) => id,
            })
            .filter(|id| !awake.contains(id))
            .collect();
        for id in owners {
            self.tidy_container(id).await?;
        }
        for container in containers.iter() {
            let failed = container.status.state == RunState::Created && container.status.start_failure != 0;
            if rests(container) && (container.status.state == RunState::Exited || failed) {
                self.auto_remove(container).await?;
            }
        }
        self.volumes_tidy().await
    }

    /// Removes a container that rests, if it was made for one run only.
    async fn auto_remove(&self, container: &Stored<Container>) -> Result<()> {
        if container.spec.auto_remove
            && container.meta.deleting.is_none()
            && self.ask_removal(container, true).await?
        {
            let (cloud, container) = (self.clone(), container.clone());
            // One that is slow to go must not hold up the others.
            tokio::spawn(async move {
                if let Err(error) = cloud.finish_removal(&container).await {
                    tracing::warn!(%error, container = %container.spec.id, "automatic removal failed");
                }
            });
        }
        Ok(())
    }

    /// Removes what was made for one run only and was not started before the last daemon ended: whoever wanted to is
    /// gone, or its start was refused and nobody could write so (moby `daemon.restore`). Before the first request is
    /// served.
    pub(crate) async fn tidy_unstarted(&self) -> Result<()> {
        for container in self.0.containers.list_shared().await?.iter() {
            if rests(container) && container.status.state == RunState::Created {
                self.auto_remove(container).await?;
            }
        }
        Ok(())
    }

    /// Releases the ports of a container that rests or is gone.
    pub(crate) async fn tidy_container(&self, id: ContainerId) -> Result<()> {
        let container = self.0.containers.get(&id).await?;
        match container {
            Some(container) if !rests(&container) => Ok(()),
            Some(container) => self.drop_ports(id, Some(container.revision)).await,
            None => self.drop_ports(id, None).await,
        }
    }

    /// Releases the ports of a container that is gone.
    pub(crate) async fn release_ports(&self, id: ContainerId) -> Result<()> {
        self.drop_ports(id, None).await
    }

    /// Deletes a container's ports, provided it has not been asked for anything since `revision`.
    async fn drop_ports(&self, id: ContainerId, revision: Option<u64>) -> Result<()> {
        let ports = self.0.ports.list_shared().await?;
        let mut txn = Txn::new(self.stores());
        let mut any = false;
        for port in ports.iter().filter(|p| p.spec.owner == PortOwner::Container(id)) {
            txn = txn.delete::<Port>(&port.spec.id);
            any = true;
        }
        if !any {
            return Ok(());
        }
        if let Some(revision) = revision {
            txn = txn.expect_at::<Container>(&id, revision);
        }
        match txn.commit().await.map_err(CloudError::from) {
            // It was started again in the meantime, and the ports are its own.
            Ok(_) | Err(CloudError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
