//! Images made of containers and of file systems.

use bytes::Bytes;
use futures_util::Stream;
use tokio::io::AsyncRead;
use weft_base::chain;
use weft_image::{CommitRequest, ImportRequest, config::RunConfig};
use weft_model::{Container, Digest, HealthCheck, HealthTest, Reference};

use super::{Platform, reader};
use crate::{Action, Caller, Cloud, CloudError, ImageDefaults, Result};

/// An image to be made of a container.
#[derive(Clone, Debug, Default)]
pub struct CommitDraft {
    /// Name.
    pub target: Option<Reference>,
    /// Message.
    pub comment: String,
    /// Author.
    pub author: String,
    /// Freeze the container meanwhile.
    pub pause: bool,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// Defaults that replace the container's.
    pub overrides: Option<ImageDefaults>,
}

/// An image to be made of a file system.
#[derive(Clone, Debug, Default)]
pub struct ImportDraft {
    /// Name.
    pub target: Option<Reference>,
    /// Message.
    pub message: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// `os/architecture[/variant]`.
    pub platform: Option<String>,
}

fn health(check: &HealthCheck) -> weft_image::config::Health {
    let test = match &check.test {
        HealthTest::Disabled => vec!["NONE".to_owned()],
        HealthTest::Exec(args) => std::iter::once("CMD".to_owned()).chain(args.iter().cloned()).collect(),
        HealthTest::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
    };
    weft_image::config::Health {
        test,
        interval: check.interval,
        timeout: check.timeout,
        start_period: check.start_period,
        start_interval: check.start_interval,
        retries: check.retries,
    }
}

/// What the container runs as, as an image's defaults.
fn run_config(container: &Container) -> RunConfig {
    let spec = &container.spec;
    let empty = || serde_json::Value::Object(serde_json::Map::new());
    RunConfig {
        user: spec.process.user.clone(),
        exposed_ports: spec.exposed.iter().map(|p| (p.clone(), empty())).collect(),
        env: spec.process.env.clone(),
        entrypoint: spec.process.entrypoint.clone(),
        cmd: spec.process.command.clone(),
        healthcheck: spec.health.as_ref().map(health),
        volumes: spec
            .mounts
            .iter()
            .filter(|m| m.notation == weft_model::Notation::Implied)
            .map(|m| (m.target.clone(), empty()))
            .collect(),
        working_dir: spec.process.working_dir.clone(),
        labels: container.meta.labels.clone(),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: spec.stop_timeout,
        shell: spec.process.shell.clone(),
        ..RunConfig::default()
    }
}

/// The container's own configuration, as the image's record keeps it.
fn made_with(container: &Container, config: &RunConfig) -> serde_json::Value {
    let spec = &container.spec;
    let mut value = serde_json::to_value(config).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        map.insert("Image".into(), spec.image.reference.clone().into());
        map.insert("Hostname".into(), spec.hostname.clone().into());
        map.insert("Domainname".into(), spec.domainname.clone().into());
        map.insert("Tty".into(), spec.process.tty.into());
        map.insert("OpenStdin".into(), spec.process.open_stdin.into());
        map.insert("StdinOnce".into(), spec.process.stdin_once.into());
    }
    value
}

/// `over` on top of `config`: what is set replaces, maps are joined (moby `merge`).
fn replace(config: &mut RunConfig, over: &ImageDefaults) {
    let empty = || serde_json::Value::Object(serde_json::Map::new());
    let text = |slot: &mut String, value: &String| {
        if !value.is_empty() {
            slot.clone_from(value);
        }
    };
    text(&mut config.user, &over.user);
    text(&mut config.working_dir, &over.working_dir);
    text(&mut config.stop_signal, &over.stop_signal);
    if over.entrypoint.as_ref().is_some_and(|e| !e.is_empty()) {
        config.entrypoint.clone_from(&over.entrypoint);
        config.cmd = None;
    }
    if over.command.as_ref().is_some_and(|c| !c.is_empty()) {
        config.cmd.clone_from(&over.command);
    }
    let key = |e: &str| e.split('=').next().unwrap_or_default().to_owned();
    let set: Vec<String> = over.env.iter().map(|e| key(e)).collect();
    config.env.retain(|e| !set.contains(&key(e)));
    let kept = std::mem::take(&mut config.env);
    config.env = over.env.iter().cloned().chain(kept).collect();
    config.exposed_ports.extend(over.exposed.iter().map(|p| (p.clone(), empty())));
    config.volumes.extend(over.volumes.iter().map(|v| (v.clone(), empty())));
    config.labels.extend(over.labels.clone());
    if let Some(check) = &over.health {
        config.healthcheck = Some(health(check));
    }
}

impl Cloud {
    pub(crate) async fn commit_container(&self, container: &Container, draft: CommitDraft) -> Result<Digest> {
        let mut config = run_config(container);
        let container_config = Some(made_with(container, &config));
        if let Some(over) = &draft.overrides {
            replace(&mut config, over);
        }
        let request = CommitRequest {
            container: container.spec.id,
            base: Some(container.spec.image.id),
            config,
            container_config,
            changes: draft.changes,
            author: draft.author,
            comment: draft.comment,
            created_by: container.spec.process.argv().join(" "),
            name: draft.target,
        };
        let image = self.engine().commit(draft.pause, request).await?;
        Ok(image.spec.id)
    }

    /// Makes an image of a file system's archive.
    pub async fn image_import<E>(
        &self,
        caller: &Caller,
        draft: ImportDraft,
        archive: impl Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    ) -> Result<Digest>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        caller.authorise(Action::Write, caller.project)?;
        self.import(caller, draft, reader(archive)).await
    }

    pub(super) async fn import(
        &self,
        caller: &Caller,
        draft: ImportDraft,
        archive: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<Digest> {
        let platform = draft.platform.as_deref().map(str::parse::<Platform>).transpose();
        let platform = platform.map_err(|e| CloudError::Invalid(chain(&e)))?;
        let platform = platform.map(|p| (p.os, p.architecture, p.variant));
        let message = if draft.message.is_empty() { "Imported from -".to_owned() } else { draft.message };
        let target = draft.target.as_ref().map(Reference::familiar);
        let request = ImportRequest { changes: draft.changes, message, name: draft.target, platform };
        let image = self.images().import(archive, request).await?;
        let id = image.spec.id.to_string();
        if let Some(target) = target {
            self.image_event(caller, "tag", &id, &target).await;
        }
        self.image_event(caller, "import", &id, &id).await;
        Ok(image.spec.id)
    }
}
