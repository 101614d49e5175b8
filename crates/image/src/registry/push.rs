//! `push`: blobs that the registry lacks, then the manifest, tag by tag.
//!
//! An image that was pulled goes with the manifest it came with, so that its digest stays. One that came from an archive,
//! a build or a commit has plain layers: they are packed by gzip (same input, same bytes; the result's digest is
//! remembered beside the blob), and a manifest is made.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use reqwest::{Method, RequestBuilder, header};
use serde_json::json;
use tokio::task::JoinSet;
use weft_model::{Digest, Image, NameTag, Reference};

use super::{
    RegistryClient,
    error::{RegistryError, Result},
    manifest::{
        DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, Descriptor, Document, ImageManifest, OCI_CONFIG,
        OCI_LAYER, OCI_MANIFEST, parse,
    },
    pack,
    pull::sha256,
    session::Session,
    types::{Progress, ProgressFn, PushRequest, Pushed, say},
    upload::{Sent, Upload},
};
use crate::{decompress::Compression, error::ImageError, pins::Pin, register::NewImage};

/// At most so many repositories are asked for a mount.
const MOUNTS: usize = 3;

impl RegistryClient {
    /// Pushes a tag, or all local tags of a repository; adds `repository@digest` to the images' names.
    ///
    /// # Errors
    /// `NoSuchTag` when nothing local has the name; the registry's refusals.
    pub async fn push(&self, request: PushRequest, progress: ProgressFn) -> Result<Vec<Pushed>> {
        let todo = self.tagged(&request).await?;
        let repository = request.reference.repository();
        say(&progress, "", format!("The push refers to repository [{repository}]"));
        let shared = self.shared();
        let sites = self.sites(&request.reference.domain, false).await;
        let site = sites.first().ok_or_else(|| RegistryError::Unexpected("no endpoint".into()))?;
        let session = Session::open(&shared, site, request.credentials.as_ref()).await;
        let session = Arc::new(session.map_err(RegistryError::for_push)?);
        let scopes = vec![format!("repository:{}:pull,push", request.reference.path)];
        let mut out = Vec::new();
        for (reference, image) in todo {
            let push = Push {
                client: self.clone(),
                session: Arc::clone(&session),
                scopes: scopes.clone(),
                progress: Arc::clone(&progress),
                reference,
            };
            out.push(push.run(&image).await.map_err(RegistryError::for_push)?);
        }
        Ok(out)
    }

    /// Whether there is anything to push, for an answer before the stream begins.
    ///
    /// # Errors
    /// `NoSuchTag`.
    pub async fn push_check(&self, request: &PushRequest) -> Result<()> {
        self.tagged(request).await.map(drop)
    }

    async fn tagged(&self, request: &PushRequest) -> Result<Vec<(Reference, Arc<Image>)>> {
        let missing = || RegistryError::NoSuchTag(request.reference.familiar());
        if request.reference.pick.digest.is_some() {
            return Err(RegistryError::Invalid("cannot push a digest reference".into()));
        }
        if !request.all_tags {
            let reference = request.reference.clone().or_latest();
            let found = self.store().resolve_for(&reference.to_string(), request.platform.as_ref()).await;
            let image = found.map_err(|error| match error {
                ImageError::WrongPlatform { .. } => error.into(),
                _ => missing(),
            })?;
            return Ok(vec![(reference, image)]);
        }
        let repository = request.reference.repository();
        let mut out = Vec::new();
        for image in self.store().list().await? {
            let names = image.spec.tags.iter().filter_map(|t| t.parse::<Reference>().ok());
            out.extend(names.filter(|n| n.repository() == repository).map(|n| (n, Arc::clone(&image))));
        }
        for (name, _) in &out {
            self.store().resolve_for(&name.to_string(), request.platform.as_ref()).await?;
        }
        out.sort_by_key(|(name, _)| name.to_string());
        if out.is_empty() { Err(missing()) } else { Ok(out) }
    }
}

struct Push {
    client: RegistryClient,
    session: Arc<Session>,
    scopes: Vec<String>,
    progress: ProgressFn,
    reference: Reference,
}

impl Push {
    async fn run(&self, image: &Image) -> Result<Pushed> {
        let store = self.client.store();
        let content = store.content();
        let spec = &image.spec;
        let _held: Vec<Pin> =
            spec.layers.iter().chain([&spec.id]).chain(&spec.manifest).map(|d| content.pin(*d)).collect();
        let kept = self.kept_manifest(image).await?;
        for diff_id in spec.diff_ids.iter().rev() {
            say(&self.progress, diff_id.short(), "Preparing");
        }
        let layers = self.layers(image, kept.as_ref().map(|(_, _, m)| m)).await?;
        let config_size = content.size(&spec.id)?;
        self.upload().blob(spec.id, config_size, &[], None).await?;
        let (bytes, kind) = match kept {
            Some((bytes, kind, _)) => (bytes, kind),
            None => make_manifest(
                Descriptor { media_type: String::new(), size: config_size, digest: spec.id, platform: None },
                layers,
            )?,
        };
        let tag = self.reference.pick.tag.clone().unwrap_or_else(|| "latest".into());
        let url = self.session.url(&format!("{}/manifests/{tag}", self.reference.path))?;
        let put = |r: RequestBuilder| Ok(r.header(header::CONTENT_TYPE, &kind).body(bytes.clone()));
        self.session.call(&self.scopes, Method::PUT, &url, put).await?;
        let (digest, size) = (sha256(&bytes), bytes.len() as u64);
        say(&self.progress, "", format!("{tag}: digest: {digest} size: {size}"));
        (self.progress)(Progress::Aux(json!({"Tag": tag, "Digest": digest, "Size": size})));
        self.remember(image, digest).await?;
        Ok(Pushed { tag, digest, size })
    }

    fn upload(&self) -> Upload<'_> {
        Upload {
            session: &self.session,
            scopes: &self.scopes,
            path: &self.reference.path,
            content: self.client.store().content(),
            progress: &self.progress,
        }
    }

    /// The manifest that the image came with, if all that it names is here.
    async fn kept_manifest(&self, image: &Image) -> Result<Option<(Bytes, String, ImageManifest)>> {
        let content = self.client.store().content().clone();
        let Some(digest) = image.spec.manifest.filter(|d| content.contains(d)) else { return Ok(None) };
        let name = self.reference.familiar();
        let bytes: Bytes = self.client.store().blocking(move || content.read(&digest)).await?.into();
        let (Document::Image(manifest), kind) = parse(&bytes, "", &name)? else { return Ok(None) };
        let same = manifest.config.digest == image.spec.id
            && manifest.layers.iter().map(|l| l.digest).eq(image.spec.layers.iter().copied());
        Ok(same.then_some((bytes, kind, manifest)))
    }

    /// Brings all layers to the registry; answers what a manifest says of them, lowest first.
    async fn layers(&self, image: &Image, kept: Option<&ImageManifest>) -> Result<Vec<Descriptor>> {
        let mut tasks = JoinSet::new();
        let spec = &image.spec;
        for (place, (stored, diff_id)) in spec.layers.iter().zip(&spec.diff_ids).enumerate().rev() {
            let task = Task {
                client: self.client.clone(),
                session: Arc::clone(&self.session),
                scopes: self.scopes.clone(),
                path: self.reference.path.clone(),
                progress: Arc::clone(&self.progress),
                from: self.mount_sources(stored).await?,
                stored: *stored,
                id: diff_id.short(),
                known: kept.and_then(|m| m.layers.get(place)).cloned(),
            };
            tasks.spawn(async move { (place, task.run().await) });
        }
        let mut out: Vec<Option<Descriptor>> = vec![None; spec.layers.len()];
        while let Some(done) = tasks.join_next().await {
            let (place, result) = done.map_err(|e| ImageError::Internal(e.to_string()))?;
            out[place] = Some(result?);
        }
        Ok(out.into_iter().flatten().collect())
    }

    /// Repositories of this registry in which images with this layer are known.
    async fn mount_sources(&self, blob: &Digest) -> Result<Vec<String>> {
        let mut out = BTreeSet::new();
        for image in self.client.store().list().await?.iter().filter(|i| i.spec.layers.contains(blob)) {
            let names = image.spec.digests.iter().filter_map(|d| d.parse::<Reference>().ok());
            let ours = |n: &Reference| n.domain == self.reference.domain && n.path != self.reference.path;
            out.extend(names.filter(ours).map(|n| n.path));
        }
        Ok(out.into_iter().take(MOUNTS).collect())
    }

    /// Writes `repository@digest` into the record.
    async fn remember(&self, image: &Image, digest: Digest) -> Result<()> {
        let store = self.client.store();
        let name = Reference { pick: NameTag { tag: None, digest: Some(digest) }, ..self.reference.clone() };
        // Removed meanwhile: then there is nothing to write it to.
        if store.resolve(&image.spec.id.to_string()).await.is_err() {
            return Ok(());
        }
        let new = NewImage {
            config: store.content().pin(image.spec.id),
            manifest: None,
            blobs: image.spec.layers.clone(),
            diff_ids: image.spec.diff_ids.clone(),
            names: vec![name],
            parent: image.spec.parent,
            held: Vec::new(),
        };
        store.register(new).await?;
        Ok(())
    }
}

/// One layer's way to the registry.
struct Task {
    client: RegistryClient,
    session: Arc<Session>,
    scopes: Vec<String>,
    path: String,
    progress: ProgressFn,
    from: Vec<String>,
    stored: Digest,
    id: String,
    known: Option<Descriptor>,
}

impl Task {
    async fn run(self) -> Result<Descriptor> {
        let slots = self.client.uploads();
        let _slot = match slots.try_acquire() {
            Ok(slot) => slot,
            Err(_) => {
                say(&self.progress, &self.id, "Waiting");
                slots.acquire().await.map_err(|e| ImageError::Internal(e.to_string()))?
            }
        };
        let store = self.client.store();
        let at = match &self.known {
            Some(at) => at.clone(),
            None => {
                let (content, stored) = (store.content().clone(), self.stored);
                store.blocking(move || describe(&content, &stored)).await?
            }
        };
        let content = store.content();
        let held = content.pin(at.digest);
        if !content.contains(&at.digest) {
            if self.session.has_blob(&self.scopes, &self.path, &at.digest).await? {
                say(&self.progress, &self.id, "Layer already exists");
                return Ok(at);
            }
            let (content, stored, expected) = (content.clone(), self.stored, at.digest);
            let packed = store.blocking(move || pack::pack(&content, &stored)).await?;
            if packed.pin.digest() != expected {
                // Another version of the packer made what was remembered.
                return self.send(packed.descriptor(), &packed.pin).await;
            }
            return self.send(at, &packed.pin).await;
        }
        self.send(at, &held).await
    }

    async fn send(&self, at: Descriptor, _held: &Pin) -> Result<Descriptor> {
        let upload = Upload {
            session: &self.session,
            scopes: &self.scopes,
            path: &self.path,
            content: self.client.store().content(),
            progress: &self.progress,
        };
        let sent = upload.blob(at.digest, at.size, &self.from, Some(&self.id)).await?;
        let text = match sent {
            Sent::Exists => "Layer already exists".to_owned(),
            Sent::Mounted(from) => format!("Mounted from {}", from.strip_prefix("library/").unwrap_or(&from)),
            Sent::Uploaded => {
                let (id, action, current, total) = (self.id.clone(), "Pushing", at.size, at.size);
                (self.progress)(Progress::Bytes { id, action, current, total });
                "Pushed".to_owned()
            }
        };
        say(&self.progress, &self.id, text);
        Ok(at)
    }
}

/// How a stored blob is pushed: as it is when it is packed, else packed by us.
fn describe(content: &crate::ContentStore, stored: &Digest) -> crate::Result<Descriptor> {
    use std::io::Read as _;
    let mut head = Vec::new();
    let mut file = content.open_blob(stored)?.take(6);
    file.read_to_end(&mut head).map_err(ImageError::io("reading", content.path(stored)))?;
    let media_type = match Compression::sniff(&head) {
        Compression::Gzip => DOCKER_LAYER.to_owned(),
        Compression::Zstd => format!("{OCI_LAYER}+zstd"),
        Compression::None | Compression::Xz | Compression::Bzip2 => match pack::remembered(content, stored) {
            Some(at) => return Ok(at),
            None => return pack::pack(content, stored).map(|p| p.descriptor()),
        },
    };
    Ok(Descriptor { media_type, size: content.size(stored)?, digest: *stored, platform: None })
}

/// Docker's schema 2, which every registry takes; OCI's where a layer is of a kind that only OCI knows.
fn make_manifest(mut config: Descriptor, mut layers: Vec<Descriptor>) -> Result<(Bytes, String)> {
    let oci = layers.iter().any(|l| l.media_type != DOCKER_LAYER);
    let media_type = if oci { OCI_MANIFEST } else { DOCKER_MANIFEST };
    config.media_type = if oci { OCI_CONFIG } else { DOCKER_CONFIG }.to_owned();
    for layer in layers.iter_mut().filter(|l| oci && l.media_type == DOCKER_LAYER) {
        layer.media_type = format!("{OCI_LAYER}+gzip");
    }
    let manifest = ImageManifest { schema_version: 2, media_type: media_type.to_owned(), config, layers };
    let bytes = serde_json::to_vec_pretty(&manifest).map_err(|e| ImageError::Internal(e.to_string()))?;
    Ok((bytes.into(), media_type.to_owned()))
}
