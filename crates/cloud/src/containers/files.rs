//! Files of a container: changes, export, commit.

use weft_engine::{ByteStream, PathChange};
use weft_model::Digest;

use crate::{Action, Caller, Cloud, CommitDraft, Result};

impl Cloud {
    /// What the container changed against its image.
    pub async fn container_changes(&self, caller: &Caller, name: &str) -> Result<Vec<PathChange>> {
        let container = self.container_find(caller, name).await?;
        caller.authorise(Action::Read, container.meta.project)?;
        Ok(self.engine().changes(container.spec.id).await?)
    }

    /// The container's root file system as a tar archive.
    pub async fn container_export(&self, caller: &Caller, name: &str) -> Result<ByteStream> {
        let container = self.container_find(caller, name).await?;
        caller.authorise(Action::Read, container.meta.project)?;
        Ok(self.engine().export(container.spec.id).await?)
    }

    /// Makes an image of the container's present content.
    pub async fn container_commit(&self, caller: &Caller, name: &str, draft: CommitDraft) -> Result<Digest> {
        let container = self.container_find(caller, name).await?;
        caller.authorise(Action::Write, container.meta.project)?;
        let target = draft.target.as_ref().map(|t| t.familiar());
        let made = self.commit_container(&container, draft).await?;
        let id = made.to_string();
        self.image_event(caller, "create", &id, &id).await;
        if let Some(target) = target {
            self.image_event(caller, "tag", &id, &target).await;
        }
        Ok(made)
    }
}
