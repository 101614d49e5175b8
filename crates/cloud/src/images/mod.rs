//! Use cases around images.

mod make;
mod registry;
mod remote;
mod transfer;

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use serde_json::Value;
use weft_base::chain;
use weft_image::{Freed, ImageConfig, ImageError, ImageUse, RemoveOptions, Removed, chain_ids};
use weft_model::{
    ContainerId, Digest, EventKind, HealthCheck, HealthTest, Image, Labels, MountKind, Reference,
};

use crate::{Action, Caller, Cloud, CloudError, ImageDefaults, Kind, Result};

pub use make::{CommitDraft, ImportDraft};
pub use registry::{PullDraft, PushDraft};
pub use transfer::Loaded;
pub(crate) use transfer::reader;
pub use weft_image::{
    PruneFilter, RemoveOptions as ImageRemoval, Removed as ImageRemoved, Target,
    registry::{Credentials, Distribution, Found as SearchHit, Platform},
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
    pub containers: Option<Vec<ContainerId>>,
    /// Its manifest, when that was asked for and can be said.
    pub target: Option<Arc<Target>>,
}

/// Manifests by image and the manifest that it came with.
pub(crate) type Targets = HashMap<(Digest, Option<Digest>), Arc<Target>>;

/// What is gathered about images beyond their records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageDetail {
    /// What they share with others.
    pub shared: bool,
    /// Who uses them.
    pub containers: bool,
    /// Their manifests.
    pub targets: bool,
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
        ImageError::NotFound { .. } | ImageError::WrongPlatform { .. } | ImageError::NoExport(_) => {
            CloudError::Missing(text)
        }
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

impl Cloud {
    /// The image for a new container, with its defaults.
    pub(crate) async fn image_for(&self, reference: &str, platform: Option<&str>) -> Result<FoundImage> {
        let platform = platform.map(str::parse::<Platform>).transpose();
        let platform = platform.map_err(|e| CloudError::Invalid(chain(&e)))?;
        let image = self.images().resolve_for(reference, platform.as_ref()).await?;
        let config = self.images().config(&image).await?;
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

    async fn image_show(&self, image: Arc<Image>) -> Result<ImageView> {
        let config = self.config_value(&image).await?;
        let chains = chain_ids(&image.spec.diff_ids);
        let snapshots = self.images().snapshots();
        Ok(ImageView {
            layers: chains.iter().rev().map(|c| snapshots.layer_fs(c)).collect(),
            layer_sizes: chains.iter().map(|c| snapshots.layer_size(c).unwrap_or(0)).collect(),
            shared_size: None,
            containers: None,
            target: None,
            config,
            image,
        })
    }

    /// The image's manifest; remembered, since it changes with the record alone.
    pub(crate) async fn target(&self, image: &Image) -> Result<Option<Arc<Target>>> {
        let key = (image.spec.id, image.spec.manifest);
        if let Some(known) = self.0.targets.lock().get(&key) {
            return Ok(Some(Arc::clone(known)));
        }
        let Some(target) = self.images().target(image).await? else { return Ok(None) };
        let target = Arc::new(target);
        let mut targets = self.0.targets.lock();
        if targets.len() >= 4096 {
            targets.clear();
        }
        targets.insert(key, Arc::clone(&target));
        Ok(Some(target))
    }

    /// The containers of an image.
    async fn users(&self, image: &Digest) -> Result<Vec<ContainerId>> {
        let all = self.0.containers.list_shared().await?;
        Ok(all.iter().filter(|c| c.spec.image.id == *image).map(|c| c.spec.id).collect())
    }

    /// All images.
    pub async fn image_list(&self, caller: &Caller, detail: ImageDetail) -> Result<Vec<ImageView>> {
        caller.authorise(Action::Read, caller.project)?;
        let usage = if detail.shared { Some(self.images().disk_usage().await?) } else { None };
        let mut views = Vec::new();
        for image in self.images().list().await? {
            let mut view = self.image_show(Arc::clone(&image)).await?;
            view.shared_size = usage.as_ref().map(|u| u.shared.get(&image.spec.id).copied().unwrap_or(0));
            if detail.containers {
                view.containers = Some(self.users(&image.spec.id).await?);
            }
            if detail.targets {
                view.target = self.target(&image).await?;
            }
            views.push(view);
        }
        Ok(views)
    }

    /// How many images there are.
    pub async fn image_count(&self, caller: &Caller) -> Result<usize> {
        caller.authorise(Action::Read, caller.project)?;
        Ok(self.images().list().await?.len())
    }

    /// One image, with everything but what it shares; with `platform` it must be made for it.
    pub async fn image_view(
        &self,
        caller: &Caller,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<ImageView> {
        caller.authorise(Action::Read, caller.project)?;
        let image = self.images().resolve_for(name, platform).await?;
        let mut view = self.image_show(Arc::clone(&image)).await?;
        view.containers = Some(self.users(&image.spec.id).await?);
        view.target = self.target(&image).await?;
        Ok(view)
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

    /// Removes a name of an image, and the image with its last one; with `platform` it must be made for it.
    pub async fn image_remove(
        &self,
        caller: &Caller,
        name: &str,
        options: RemoveOptions,
        platform: Option<&Platform>,
    ) -> Result<Vec<Removed>> {
        caller.authorise(Action::Write, caller.project)?;
        let image = self.images().resolve_for(name, platform).await?;
        let uses = self.image_uses().await?;
        let labels = self.image_labels(&image).await;
        let removed = self.images().remove(name, options, &uses).await?;
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
