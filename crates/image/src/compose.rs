//! New images out of what is here: a container's changes (`commit`), or a root file system (`import`).

use std::io::{BufRead, BufReader};

use tokio::io::AsyncRead;
use tokio_util::io::SyncIoBridge;
use weft_model::{ContainerId, Digest, Image, Reference};

use crate::{
    config::{History, ImageConfig, RunConfig},
    decompress::{guarded, sniffed},
    error::Result,
    instructions,
    layer::StagedLayer,
    register::NewImage,
    snapshot::{Snapshots, chain_ids, layer_refs},
    store::ImageStore,
};

/// What a commit makes.
#[derive(Clone, Debug, Default)]
pub struct CommitRequest {
    /// The container, whose changes become the new layer.
    pub container: ContainerId,
    /// The image it runs; none for one made from nothing.
    pub base: Option<Digest>,
    /// Defaults of the new image, before `changes`.
    pub config: RunConfig,
    /// What the container was made with, for the record.
    pub container_config: Option<serde_json::Value>,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// Author.
    pub author: String,
    /// Message.
    pub comment: String,
    /// Command of the container, for the history.
    pub created_by: String,
    /// Name of the new image.
    pub name: Option<Reference>,
}

/// What an import makes.
#[derive(Clone, Debug, Default)]
pub struct ImportRequest {
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// Message.
    pub message: String,
    /// Name of the new image.
    pub name: Option<Reference>,
    /// Architecture and system, this machine's when absent: `(os, architecture, variant)`.
    pub platform: Option<(String, String, String)>,
}

fn change_all(config: &mut RunConfig, changes: &[String]) -> Result<()> {
    let mut lines = changes.iter().flat_map(|c| c.lines()).filter(|l| !l.trim().is_empty());
    lines.try_for_each(|line| instructions::apply(config, line))
}

impl ImageStore {
    /// Stores a plain or packed layer from a blocking reader; for builds, too.
    pub async fn stage(&self, input: impl BufRead + Send + 'static) -> Result<StagedLayer> {
        let (content, snapshots) = (self.content().clone(), self.snapshots().clone());
        self.blocking(move || {
            let (packing, input) = sniffed(input)?;
            let mut input: Box<dyn BufRead + Send> = Box::new(input);
            if !packing.is_of_layers() {
                input = guarded(input, snapshots.limits())?.1;
            }
            let mut writer = snapshots.receive(content.begin()?)?;
            writer.copy_from(&mut input, |_| {})?;
            writer.finish(None)
        })
        .await
    }

    /// Makes an image of `config` over `base`'s layers with `layer` on top.
    pub async fn compose(
        &self,
        base: Option<&Image>,
        mut config: ImageConfig,
        layer: Option<StagedLayer>,
        name: Option<Reference>,
    ) -> Result<Image> {
        let mut blobs = base.map(|b| b.spec.layers.clone()).unwrap_or_default();
        let mut diff_ids = base.map(|b| b.spec.diff_ids.clone()).unwrap_or_default();
        let snapshots = self.snapshots().clone();
        let content = self.content().clone();
        let parent = base.map(|b| b.spec.id);
        let new = self
            .blocking(move || {
                let mut held: Vec<_> = blobs.iter().map(|b| content.pin(*b)).collect();
                held.extend(snapshots.ensure(&layer_refs(&blobs, &diff_ids))?);
                if let Some(layer) = layer {
                    blobs.push(layer.blob.digest());
                    held.push(layer.blob.clone());
                    let below = chain_ids(&diff_ids).last().copied();
                    diff_ids.push(layer.diff_id);
                    held.push(snapshots.adopt(below, layer)?);
                }
                config.rootfs.diff_ids.clone_from(&diff_ids);
                let config = content.put(&config.to_bytes()?)?;
                let names = name.into_iter().map(Reference::or_latest).collect();
                Ok(NewImage { config, manifest: None, blobs, diff_ids, names, parent, held })
            })
            .await?;
        self.register(new).await
    }

    /// Makes an image from what a container changed.
    pub async fn commit(&self, request: CommitRequest) -> Result<Image> {
        let base = match &request.base {
            Some(id) => Some(self.resolve(&id.to_string()).await?),
            None => None,
        };
        let mut config = match &base {
            Some(image) => self.config(image).await?,
            None => ImageConfig::for_this_machine(self.now()),
        };
        let now = self.now().rfc3339_nano();
        config.config = request.config;
        change_all(&mut config.config, &request.changes)?;
        config.created = Some(now.clone());
        config.author.clone_from(&request.author);
        config.comment.clone_from(&request.comment);
        config.container = request.container.to_string();
        config.container_config = request.container_config;
        config.history.push(History {
            created: Some(now),
            created_by: request.created_by,
            author: request.author,
            comment: request.comment,
            empty_layer: false,
        });
        let (content, snapshots) = (self.content().clone(), self.snapshots().clone());
        let layer =
            self.blocking(move || diff_layer(&snapshots, content.begin()?, request.container)).await?;
        self.compose(base.as_deref(), config, Some(layer), request.name).await
    }

    /// Makes an image from the archive of a root file system.
    pub async fn import(
        &self,
        input: impl AsyncRead + Send + Unpin + 'static,
        request: ImportRequest,
    ) -> Result<Image> {
        let mut config = ImageConfig::for_this_machine(self.now());
        if let Some((os, architecture, variant)) = request.platform {
            (config.os, config.architecture, config.variant) = (os, architecture, variant);
        }
        change_all(&mut config.config, &request.changes)?;
        config.comment.clone_from(&request.message);
        config.history.push(History {
            created: config.created.clone(),
            comment: request.message,
            ..History::default()
        });
        let layer = self.stage(BufReader::with_capacity(512 << 10, SyncIoBridge::new(input))).await?;
        self.compose(None, config, Some(layer), request.name).await
    }
}

/// A container's changes as a staged layer.
fn diff_layer(snapshots: &Snapshots, ingest: crate::content::Ingest, id: ContainerId) -> Result<StagedLayer> {
    let writer = snapshots.receive(ingest)?;
    snapshots.diff_tar(&id, writer)?.finish(None)
}
