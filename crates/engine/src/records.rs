//! The engine's reads and writes of container records: the only place that writes a status.

use std::sync::Arc;

use weft_model::{Container, ContainerId, ContainerStatus};
use weft_store::{IndexKey, Txn};

use crate::{EngineError, Result, cell::Cell, engine::Inner};

impl Inner {
    /// The record.
    pub(crate) async fn container(&self, id: ContainerId) -> Result<Arc<Container>> {
        let found = self.containers.get(&id.to_string()).await?;
        found.map(|stored| stored.value).ok_or(EngineError::NotFound(id))
    }

    /// All records.
    pub(crate) async fn all_containers(&self) -> Result<Vec<Arc<Container>>> {
        Ok(self.containers.list().await?.into_iter().map(|stored| stored.value).collect())
    }

    /// Changes the status, tells the waiters, returns the record as written. `ended` counts as an end for waiters.
    pub(crate) async fn write_status(
        &self,
        cell: &Cell,
        ended: bool,
        mut change: impl FnMut(&mut ContainerStatus) + Send,
    ) -> Result<Arc<Container>> {
        let id = cell.id;
        let written = self
            .containers
            .update(&id.to_string(), |container| {
                let before = container.status.clone();
                change(&mut container.status);
                container.status != before
            })
            .await;
        let container = match written {
            Ok(stored) => stored.value,
            Err(e) if matches!(e.conflict(), Some(weft_store::Conflict::Missing)) => {
                return Err(EngineError::NotFound(id));
            }
            Err(e) => return Err(e.into()),
        };
        cell.publish(&container, ended);
        Ok(container)
    }

    /// Deletes the record and gives its name back.
    pub(crate) async fn delete_record(&self, id: ContainerId) -> Result<()> {
        for _ in 0..16 {
            let container = match self.container(id).await {
                Err(EngineError::NotFound(_)) => return Ok(()),
                other => other?,
            };
            let done = Txn::new(&self.stores)
                .delete::<Container>(&id.to_string())
                .release(&IndexKey::of::<Container>(&container.spec.name), &id)
                .commit()
                .await;
            match done {
                Ok(_) => return Ok(()),
                // Renamed meanwhile: look again. A name that is not ours any more is not ours to give back.
                Err(e) if e.conflict().is_some() => {
                    let held = IndexKey::of::<Container>(&container.spec.name).lookup(&self.stores).await?;
                    let same = self.container(id).await.is_ok_and(|c| c.spec.name == container.spec.name);
                    if same && held.as_deref() != Some(id.to_string().as_str()) {
                        self.containers.delete(&id.to_string()).await?;
                        return Ok(());
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
        Err(EngineError::Conflict(format!("the record of container {id} keeps changing")))
    }
}
