//! Copies into and out of a container.

use bytes::Bytes;
use futures_util::Stream;
use weft_engine::{ArchiveStat, ByteStream, EngineError, PutOptions};

use crate::{Action, Caller, Cloud, CloudError, Result};

/// People are told the name they wrote.
fn told(name: &str) -> impl FnOnce(EngineError) -> CloudError + '_ {
    move |error| match error {
        EngineError::NoFile { path, .. } => {
            CloudError::Missing(format!("Could not find the file {path} in container {name}"))
        }
        other => other.into(),
    }
}

impl Cloud {
    /// What is at `path` in the container.
    pub async fn archive_stat(&self, caller: &Caller, name: &str, path: &str) -> Result<ArchiveStat> {
        let container = self.container_find(caller, name).await?;
        caller.authorise(Action::Read, container.meta.project)?;
        self.engine().archive_stat(container.spec.id, path).await.map_err(told(name))
    }

    /// What is at `path` in the container, and it as a tar archive.
    pub async fn archive_get(
        &self,
        caller: &Caller,
        name: &str,
        path: &str,
    ) -> Result<(ArchiveStat, ByteStream)> {
        let container = self.container_find(caller, name).await?;
        caller.authorise(Action::Read, container.meta.project)?;
        let found = self.engine().archive_get(container.spec.id, path).await.map_err(told(name))?;
        self.engine().events().container(&container, "archive-path", []);
        Ok(found)
    }

    /// Unpacks a tar archive into the directory `path` of the container.
    pub async fn archive_put<E>(
        &self,
        caller: &Caller,
        name: &str,
        path: &str,
        options: PutOptions,
        archive: impl Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    ) -> Result<()>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let container = self.container_find(caller, name).await?;
        caller.authorise(Action::Write, container.meta.project)?;
        let reader = crate::images::reader(archive);
        self.engine().archive_put(container.spec.id, path, options, reader).await.map_err(told(name))?;
        self.engine().events().container(&container, "extract-to-dir", []);
        Ok(())
    }
}
