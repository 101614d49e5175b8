//! Use cases around images.

mod make;
mod registry;
mod transfer;

use std::{path::PathBuf, sync::Arc};

use serde_json::Value;
use weft_base::chain;
use weft_image::{
    DiskUsage, Freed, ImageConfig, ImageError, ImageUse, RemoveOptions, Removed, chain_ids,
    registry::Platform,
};
use weft_model::{Digest, EventKind, HealthCheck, HealthTest, Image, Labels, MountKind, Reference};

use crate::{Action, Caller, Cloud, CloudError, ImageDefaults, Kind, Result};

pub use make::{CommitDraft, ImportDraft};
pub use registry::{PullDraft, PushDraft};
pub use transfer::Loaded;
pub(crate) use transfer::reader;
pub use weft_image::{
    PruneFilter, Removed as ImageRemoved,
    registry::{Credentials, Distribution, Found as SearchHit},
};

/// An image and what belongs to it.
#[derive(Clone, Debug)]
pub struct ImageView {
    /// The image.
    pub image: Arc<Image>,
    /// Its configuration as stored (OCI image configuration with Docker's extensions).
    pub config: Arc<Value>,
    /// Directories of its layers, uppermost first.
    pub layers: Vec<PathBuf>,
    /// Bytes of its layers, lowest first.
    pub layer_sizes: Vec<u64>,
    /// Bytes that other images have too, when that was asked for.
    pub shared_size: Option<u64>,
    /// Containers made from it, when that was asked for.
    pub containers: Option<usize>,
}

/// What a prune removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagesPruned {
    /// Names and images, in the order of their going.
    pub removed: Vec<Removed>,
    /// Bytes freed.
    pub bytes: u64,
}

/// An image found for a new container.
pub(crate) struct FoundImage {
    pub id: Digest,
    pub defaults: ImageDefaults,
}

/// Refusals of the image side.
pub(crate) fn error(error: ImageError) -> CloudError {
    let text = chain(&error);
    match error {
        ImageError::NotFound { what: "image", name } => CloudError::not_found(Kind::Image, name),
        ImageError::NotFound { .. } => CloudError::Missing(text),
        ImageError::Ambiguous { .. }
        | ImageError::Reference(_)
        | ImageError::Invalid(_)
        | ImageError::Unsupported(_)
        | ImageError::Unsafe { .. }
        | ImageError::TooLarge { .. }
        | ImageError::Corrupt { .. }
        | ImageError::DigestMismatch { .. } => CloudError::Invalid(text),
        ImageError::InUse { .. } | ImageError::MultipleNames { .. } | ImageError::HasChildren { .. } => {
            CloudError::Conflict(text)
        }
        _ => CloudError::Internal(text),
    }
}

fn health(health: &weft_image::config::Health) -> Option<HealthCheck> {
    let (kind, rest) = health.test.split_first()?;
    let test = match kind.as_str() {
        "NONE" => HealthTest::Disabled,
        "CMD" => HealthTest::Exec(rest.to_vec()),
        "CMD-SHELL" => HealthTest::Shell(rest.first().cloned().unwrap_or_default()),
        _ => return None,
    };
    Some(HealthCheck {
        test,
        interval: health.interval,
        timeout: health.timeout,
        retries: health.retries,
        start_period: health.start_period,
        start_interval: health.start_interval,
    })
}

fn defaults(config: &ImageConfig) -> ImageDefaults {
    let c = &config.config;
    ImageDefaults {
        entrypoint: c.entrypoint.clone(),
        command: c.cmd.clone(),
        env: c.env.clone(),
        working_dir: c.working_dir.clone(),
        user: c.user.clone(),
        exposed: c
            .exposed_ports
            .keys()
            .map(|p| if p.contains('/') { p.clone() } else { format!("{p}/tcp") })
            .collect(),
        volumes: c.volumes.keys().cloned().collect(),
        labels: c.labels.clone(),
        stop_signal: c.stop_signal.clone(),
        shell: c.shell.clone(),
        health: c.healthcheck.as_ref().and_then(health),
    }
}

/// `linux/arm64/v8` against what an image says.
fn fits(wanted: &str, config: &ImageConfig) -> bool {
    let mut parts = wanted.split('/');
    let first = parts.next().unwrap_or_default();
    let second = parts.next();
    match second {
        None => first == config.os || first == config.architecture,
        Some(architecture) => {
            first == config.os
                && architecture == config.architecture
                && parts.next().is_none_or(|v| config.variant.is_empty() || v == config.variant)
        }
    }
}

impl Cloud {
    /// The image for a new container, with its defaults.
    pub(crate) async fn image_for(&self, reference: &str, platform: Option<&str>) -> Result<FoundImage> {
        if let Some(wanted) = platform {
            wanted.parse::<Platform>().map_err(|e| CloudError::Invalid(chain(&e)))?;
        }
        let image = self.images().resolve(reference).await?;
        let config = self.images().config(&image).await?;
        if let Some(wanted) = platform
            && !fits(wanted, &config)
        {
            return Err(CloudError::Missing(format!(
                "image with reference {reference} was found but does not provide the specified platform ({wanted}): it \
                 is {}/{}",
                config.os, config.architecture
            )));
        }
        Ok(FoundImage { id: image.spec.id, defaults: defaults(&config) })
    }

    async fn config_value(&self, image: &Image) -> Result<Arc<Value>> {
        if let Some(known) = self.0.configs.lock().get(&image.spec.id) {
            return Ok(Arc::clone(known));
        }
        let bytes = self.images().config_bytes(image).await?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| CloudError::internal(&e))?;
        let value = Arc::new(value);
        let mut configs = self.0.configs.lock();
        if configs.len() >= 256 {
            configs.clear();
        }
        configs.insert(image.spec.id, Arc::clone(&value));
        Ok(value)
    }

    async fn image_show(&self, image: Arc<Image>, usage: Option<&DiskUsage>) -> Result<ImageView> {
        let config = self.config_value(&image).await?;
        let chains = chain_ids(&image.spec.diff_ids);
        let snapshots = self.images().snapshots();
        let containers = match usage {
            None => None,
            Some(_) => {
                let all = self.0.containers.list_shared().await?;
                Some(all.iter().filter(|c| c.spec.image.id == image.spec.id).count())
            }
        };
        Ok(ImageView {
            layers: chains.iter().rev().map(|c| snapshots.layer_fs(c)).collect(),
            layer_sizes: chains.iter().map(|c| snapshots.layer_size(c).unwrap_or(0)).collect(),
            shared_size: usage.map(|u| u.shared.get(&image.spec.id).copied().unwrap_or(0)),
            containers,
            config,
            image,
        })
    }

    /// All images; with what they share when `usage`.
    pub async fn image_list(&self, caller: &Caller, usage: bool) -> Result<Vec<ImageView>> {
        caller.authorise(Action::Read, caller.project)?;
        let usage = if usage { Some(self.images().disk_usage().await?) } else { None };
        let mut views = Vec::new();
        for image in self.images().list().await? {
            views.push(self.image_show(image, usage.as_ref()).await?);
        }
        Ok(views)
    }

    /// How many images there are.
    pub async fn image_count(&self, caller: &Caller) -> Result<usize> {
        caller.authorise(Action::Read, caller.project)?;
        Ok(self.images().list().await?.len())
    }

    /// One image.
    pub async fn image_view(&self, caller: &Caller, name: &str) -> Result<ImageView> {
        caller.authorise(Action::Read, caller.project)?;
        let image = self.images().resolve(name).await?;
        self.image_show(image, None).await
    }

    /// The image that `name` means, and those made on top of it.
    pub async fn image_descendants(&self, caller: &Caller, name: &str) -> Result<Vec<Digest>> {
        caller.authorise(Action::Read, caller.project)?;
        let image = self.images().resolve(name).await?;
        let all = self.images().list().await?;
        let below = |i: &Arc<Image>| {
            i.spec.diff_ids.starts_with(&image.spec.diff_ids) && !image.spec.diff_ids.is_empty()
        };
        let mut ids: Vec<Digest> = all.iter().filter(|i| below(i)).map(|i| i.spec.id).collect();
        ids.push(image.spec.id);
        Ok(ids)
    }

    /// Gives an image a name.
    pub async fn image_tag(&self, caller: &Caller, name: &str, target: &Reference) -> Result<()> {
        caller.authorise(Action::Write, caller.project)?;
        let image = self.images().resolve(name).await?;
        self.images().tag(&image.spec.id, target.clone()).await?;
        self.image_event(caller, "tag", &image.spec.id.to_string(), &target.familiar()).await;
        Ok(())
    }

    /// Says what happened to an image, with its labels for as long as there is one, as Docker does.
    pub(crate) async fn image_event(&self, caller: &Caller, action: &str, id: &str, name: &str) {
        let labels = match self.images().resolve(id).await {
            Ok(image) => self.image_labels(&image).await,
            Err(_) => Labels::new(),
        };
        self.tell_image(caller, action, id, name, labels);
    }

    async fn image_labels(&self, image: &Image) -> Labels {
        self.images().config(image).await.map(|config| config.config.labels).unwrap_or_default()
    }

    fn tell_image(&self, caller: &Caller, action: &str, id: &str, name: &str, labels: Labels) {
        let mut attributes = labels;
        attributes.insert("name".to_owned(), name.to_owned());
        self.engine().events().emit(EventKind::Image, action, id, caller.project, attributes);
    }

    async fn image_uses(&self) -> Result<Vec<ImageUse>> {
        let containers = self.0.containers.list_shared().await?;
        Ok(containers
            .iter()
            .flat_map(|c| {
                let mounted = c.spec.mounts.iter().filter_map(|m| match &m.kind {
                    MountKind::Image { id, .. } => *id,
                    _ => None,
                });
                std::iter::once(c.spec.image.id).chain(mounted).map(|image| ImageUse {
                    image,
                    container: c.spec.id.short(),
                    running: c.status.state.is_alive(),
                })
            })
            .collect())
    }

    /// Removes a name of an image, and the image with its last one.
    pub async fn image_remove(
        &self,
        caller: &Caller,
        name: &str,
        force: bool,
        prune: bool,
    ) -> Result<Vec<Removed>> {
        caller.authorise(Action::Write, caller.project)?;
        let image = self.images().resolve(name).await?;
        let uses = self.image_uses().await?;
        let labels = self.image_labels(&image).await;
        let removed = self.images().remove(name, RemoveOptions { force, no_prune: !prune }, &uses).await?;
        let id = image.spec.id.to_string();
        for item in &removed {
            match item {
                Removed::Untagged(_) => self.tell_image(caller, "untag", &id, &id, labels.clone()),
                Removed::Deleted(digest) if *digest == image.spec.id => {
                    self.tell_image(caller, "delete", &id, &id, Labels::new());
                }
                Removed::Deleted(_) => {}
            }
        }
        Ok(removed)
    }

    /// Removes the images that no container uses and that pass `filter`.
    pub async fn image_prune(&self, caller: &Caller, filter: PruneFilter) -> Result<ImagesPruned> {
        caller.authorise(Action::Write, caller.project)?;
        let uses = self.image_uses().await?;
        let (removed, freed): (_, Freed) = self.images().prune(&filter, &uses).await?;
        let attributes = [("reclaimed".to_owned(), freed.bytes.to_string())].into();
        self.engine().events().emit(EventKind::Image, "prune", "", caller.project, attributes);
        Ok(ImagesPruned { removed, bytes: freed.bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms() {
        let config = ImageConfig {
            os: "linux".into(),
            architecture: "arm64".into(),
            variant: "v8".into(),
            ..Default::default()
        };
        for (wanted, expected) in [
            ("linux/arm64", true),
            ("linux/arm64/v8", true),
            ("linux/arm64/v7", false),
            ("linux/amd64", false),
            ("linux", true),
            ("arm64", true),
        ] {
            assert_eq!(fits(wanted, &config), expected, "{wanted}");
        }
    }
}
