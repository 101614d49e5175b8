//! Images from and to registries.

use std::sync::Arc;

use weft_base::chain;
use weft_image::registry::{
    self, Credentials, Distribution, ErrorKind, Found, Platform, ProgressFn, PullRequest, PushRequest,
    RegistryError,
};
use weft_model::Reference;

use crate::{Action, Caller, Cloud, CloudError, Progress, ProgressSink, Result};

/// A pull.
#[derive(Clone, Debug)]
pub struct PullDraft {
    /// What.
    pub reference: Reference,
    /// Every tag of the repository.
    pub all_tags: bool,
    /// `os/architecture[/variant]`.
    pub platform: Option<String>,
    /// What to say to the registry.
    pub credentials: Option<Credentials>,
}

/// A push.
pub type PushDraft = PushRequest;

pub(super) fn error(error: RegistryError) -> CloudError {
    let text = chain(&error);
    match error.kind() {
        ErrorKind::NotFound => CloudError::Missing(text),
        ErrorKind::Unauthorized => CloudError::Unauthorized(text),
        ErrorKind::Forbidden => CloudError::Forbidden(text),
        ErrorKind::Invalid => CloudError::Invalid(text),
        ErrorKind::Unavailable | ErrorKind::Other => CloudError::Internal(text),
    }
}

/// The registry's steps told to `sink`. Byte counts may be dropped when the listener is behind; states may not, so
/// they go through an ordered queue of their own.
fn teller(sink: ProgressSink) -> (ProgressFn, impl Future<Output = ()> + Send) {
    let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
    let tell: ProgressFn = Arc::new(move |step| {
        // Once the listener is gone nobody wants to know.
        let _ = send.send(step);
    });
    let forward = async move {
        while let Some(step) = receive.recv().await {
            match step {
                registry::Progress::Status { id, text } => sink.tell(Progress::Status { id, text }).await,
                registry::Progress::Aux(value) => sink.tell(Progress::Aux(value)).await,
                registry::Progress::Bytes { id, action, current, total } => {
                    sink.tell(Progress::Bytes { id, action: action.into(), current, total: Some(total) })
                        .await;
                }
            }
        }
    };
    (tell, forward)
}

impl Cloud {
    /// Pulls an image, or all of a repository.
    pub async fn image_pull(&self, caller: &Caller, draft: PullDraft, sink: ProgressSink) -> Result<()> {
        caller.authorise(Action::Write, caller.project)?;
        let platform = draft.platform.as_deref().map(str::parse::<Platform>).transpose();
        let platform = platform.map_err(|e| CloudError::Invalid(chain(&e)))?;
        let (familiar, name) = (draft.reference.familiar(), draft.reference.familiar_name());
        let reference = if draft.all_tags { draft.reference } else { draft.reference.or_latest() };
        let request =
            PullRequest { reference, all_tags: draft.all_tags, platform, credentials: draft.credentials };
        let (tell, forward) = teller(sink);
        let work = async {
            let done = self.0.parts.registry.pull(request, Arc::clone(&tell)).await;
            drop(tell);
            done
        };
        let (done, ()) = tokio::join!(work, forward);
        // With 401 the client would ask for a name and a password in the middle of a script; dockerd's is 500.
        done.map_err(|e| match error(e) {
            CloudError::Unauthorized(text) => CloudError::Internal(text),
            other => other,
        })?;
        self.image_event(caller, "pull", &familiar, &name).await;
        Ok(())
    }

    /// Refuses a push of something that is not there.
    pub async fn push_check(&self, caller: &Caller, draft: &PushDraft) -> Result<()> {
        caller.authorise(Action::Write, caller.project)?;
        self.0.parts.registry.push_check(draft).await.map_err(error)
    }

    /// Pushes an image, or all tags of a repository.
    pub async fn image_push(&self, caller: &Caller, draft: PushDraft, sink: ProgressSink) -> Result<()> {
        caller.authorise(Action::Write, caller.project)?;
        let (familiar, name) = (draft.reference.familiar(), draft.reference.familiar_name());
        let (tell, forward) = teller(sink);
        let work = async {
            let done = self.0.parts.registry.push(draft, Arc::clone(&tell)).await;
            drop(tell);
            done
        };
        let (done, ()) = tokio::join!(work, forward);
        done.map_err(error)?;
        self.image_event(caller, "push", &familiar, &name).await;
        Ok(())
    }

    /// Searches a registry.
    pub async fn image_search(
        &self,
        caller: &Caller,
        term: &str,
        limit: usize,
        credentials: Option<Credentials>,
    ) -> Result<Vec<Found>> {
        caller.authorise(Action::Read, caller.project)?;
        self.0.parts.registry.search(term, limit, credentials.as_ref()).await.map_err(error)
    }

    /// Asks a registry about a reference.
    pub async fn image_distribution(
        &self,
        caller: &Caller,
        reference: &Reference,
        credentials: Option<Credentials>,
    ) -> Result<Distribution> {
        caller.authorise(Action::Read, caller.project)?;
        self.0.parts.registry.distribution(reference, credentials.as_ref()).await.map_err(error)
    }

    /// Checks credentials with a registry; answers its identity token, if it gives one.
    pub async fn registry_login(
        &self,
        caller: &Caller,
        server: &str,
        credentials: Credentials,
    ) -> Result<Option<String>> {
        caller.authorise(Action::Read, caller.project)?;
        self.0.parts.registry.check_login(server, &credentials).await.map_err(error)
    }
}
