//! `pull`: resolve a name to a manifest, fetch what is missing, put layers in place, register the image.
//!
//! Until the record is written everything is held by pins and lies under temporary names: a pull that fails leaves
//! partial and whole blobs for the next try (dropped by the next collection or prune), no record and no snapshot.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::{Method, RequestBuilder, StatusCode, header};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;
use weft_model::{Digest, Image, NameTag, Reference};

use super::{
    RegistryClient,
    download::{Download, Fetched},
    error::{RegistryError, Result},
    manifest::{ACCEPT, Descriptor, Document, ImageManifest, check, choose, parse},
    platform::Platform,
    session::Session,
    types::{Meter, ProgressFn, PullRequest, say},
};
use crate::{
    config::ImageConfig,
    error::ImageError,
    pins::Pin,
    register::NewImage,
    snapshot::{LayerRef, chain_ids, layer_refs},
};

/// The longest manifest that is read (the specification asks registries for 4 MiB at least).
const MANIFEST_LIMIT: usize = 4 << 20;
/// The longest configuration.
const CONFIG_LIMIT: usize = 16 << 20;

/// A pull at one site.
pub(super) struct Pull {
    pub client: RegistryClient,
    pub session: Arc<Session>,
    pub request: PullRequest,
    pub progress: ProgressFn,
    pub scopes: Vec<String>,
}

/// What a name led to.
struct Resolved {
    /// Digest of what the name points at: the index or the manifest.
    named: Digest,
    manifest: ImageManifest,
    bytes: Bytes,
}

impl Pull {
    /// Pulls what the request names; answers the images, and tells them.
    pub async fn run(&self) -> Result<Vec<Image>> {
        let reference = &self.request.reference;
        let references = if self.request.all_tags {
            let tags = self.tags().await.map_err(|e| e.for_pull(reference))?;
            let with =
                |tag| Reference { pick: NameTag { tag: Some(tag), digest: None }, ..reference.clone() };
            tags.into_iter().map(with).collect()
        } else {
            vec![reference.clone().or_latest()]
        };
        let mut images = Vec::new();
        let mut newer = false;
        for one in &references {
            let (image, new) = self.one(one).await.map_err(|e| e.for_pull(one))?;
            newer |= new;
            images.push(image);
        }
        let name = match &references[..] {
            [one] if !self.request.all_tags => one.familiar(),
            _ => reference.familiar_name(),
        };
        let status = if newer { "Downloaded newer image for" } else { "Image is up to date for" };
        say(&self.progress, "", format!("Status: {status} {name}"));
        Ok(images)
    }

    async fn tags(&self) -> Result<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct Tags {
            tags: Option<Vec<String>>,
        }
        let mut url = self.session.url(&format!("{}/tags/list", self.request.reference.path))?;
        let mut out = Vec::new();
        loop {
            let response = self.session.call(&self.scopes, Method::GET, &url, Ok).await?;
            let next = response.headers().get(header::LINK).and_then(|v| v.to_str().ok()).and_then(next_link);
            let next = next.and_then(|link| url.join(&link).ok());
            let body = super::session::read_body(response, 16 << 20, &Method::GET, &url).await?;
            let page: Tags = serde_json::from_slice(&body)
                .map_err(|e| RegistryError::Unexpected(format!("list of tags cannot be read: {e}")))?;
            out.extend(page.tags.unwrap_or_default());
            match next {
                Some(next) if next != url && out.len() < 100_000 => url = next,
                _ => return Ok(out),
            }
        }
    }

    /// Pulls one name; says whether the name is new or has moved.
    async fn one(&self, reference: &Reference) -> Result<(Image, bool)> {
        let resolved = self.resolve(reference).await?;
        let shown = match &reference.pick {
            NameTag { digest: Some(digest), .. } => digest.to_string(),
            NameTag { tag, .. } => tag.clone().unwrap_or_default(),
        };
        say(&self.progress, shown, format!("Pulling from {}", reference.path));
        let before = self.client.store().resolve(&reference.to_string()).await.ok().map(|i| i.spec.id);
        let image = self.image(reference, &resolved).await?;
        say(&self.progress, "", format!("Digest: {}", resolved.named));
        let newer = before != Some(image.spec.id);
        Ok((image, newer))
    }

    async fn resolve(&self, reference: &Reference) -> Result<Resolved> {
        let wanted = reference.pick.digest;
        let pick = match (&wanted, &reference.pick.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| "latest".into()),
        };
        let name = reference.familiar();
        let (mut bytes, mut kind) =
            self.session.manifest(&self.scopes, &reference.path, &pick, wanted).await?;
        let named = wanted.unwrap_or_else(|| sha256(&bytes));
        let platform = self.request.platform.clone().unwrap_or_else(Platform::host);
        // Lists may name lists; nobody nests them deeply.
        for _ in 0..4 {
            match parse(&bytes, &kind, &name)?.0 {
                Document::Image(manifest) => {
                    check(&manifest, &name)?;
                    return Ok(Resolved { named, manifest, bytes });
                }
                Document::Index(entries) => {
                    let digest = choose(&entries, &platform)?.digest;
                    let pick = digest.to_string();
                    (bytes, kind) =
                        self.session.manifest(&self.scopes, &reference.path, &pick, Some(digest)).await?;
                }
            }
        }
        Err(RegistryError::Unexpected(format!("manifest lists of {name} are nested too deeply")))
    }

    async fn image(&self, reference: &Reference, resolved: &Resolved) -> Result<Image> {
        let store = self.client.store();
        let content = store.content().clone();
        let manifest = &resolved.manifest;
        let mut held: Vec<Pin> = manifest.layers.iter().map(|l| content.pin(l.digest)).collect();
        held.push(content.pin(manifest.config.digest));
        let config = self.config(reference, &manifest.config).await?;
        let parsed = ImageConfig::parse(&config)?;
        self.check_platform(reference, &parsed)?;
        let diff_ids = parsed.rootfs.diff_ids.clone();
        if diff_ids.len() != manifest.layers.len() {
            let (a, b) = (manifest.layers.len(), diff_ids.len());
            let why = format!("its manifest names {a} layers, its configuration {b}");
            return Err(ImageError::corrupt(format!("image {}", reference.familiar()), why).into());
        }
        let blobs: Vec<Digest> = manifest.layers.iter().map(|l| l.digest).collect();
        let chains = chain_ids(&diff_ids);
        held.extend(chains.iter().map(|c| store.snapshots().pin_layer(*c)));
        let id = manifest.config.digest;
        let known = store.resolve(&id.to_string()).await.ok();
        let complete = blobs.iter().all(|b| content.contains(b));
        let (mut manifest_pin, mut layers) = (None, blobs.clone());
        match known {
            // The same image from elsewhere: its layers are here, only packed in another way.
            Some(known) if !complete => {
                held.extend(known.spec.layers.iter().map(|l| content.pin(*l)));
                layers.clone_from(&known.spec.layers);
            }
            known => {
                if known.is_none()
                    && let Err(error) =
                        self.layers(&manifest.layers, &layer_refs(&blobs, &diff_ids), &mut held).await
                {
                    return Err(self.clean_after(error, held).await);
                }
                let (bytes, content) = (resolved.bytes.clone(), content.clone());
                manifest_pin = Some(store.blocking(move || content.put(&bytes)).await?);
            }
        }
        let bytes = config.clone();
        let config = store.blocking(move || content.put(&bytes)).await?;
        let by_digest =
            Reference { pick: NameTag { tag: None, digest: Some(resolved.named) }, ..reference.clone() };
        let by_tag = reference.pick.digest.is_none().then(|| reference.clone());
        let names = by_tag.into_iter().chain([by_digest]).collect();
        let new =
            NewImage { config, manifest: manifest_pin, blobs: layers, diff_ids, names, parent: None, held };
        Ok(store.register(new).await?)
    }

    /// Nothing of content that turned out wrong stays; what is only incomplete stays for the next try.
    async fn clean_after(&self, error: RegistryError, held: Vec<Pin>) -> RegistryError {
        drop(held);
        if matches!(error, RegistryError::Image(_) | RegistryError::Verification { .. }) {
            self.client.store().collect_quietly().await;
        }
        error
    }

    async fn config(&self, reference: &Reference, at: &Descriptor) -> Result<Bytes> {
        let (content, digest) = (self.client.store().content().clone(), at.digest);
        if content.contains(&digest)
            && let Ok(bytes) = self.client.store().blocking(move || content.read(&digest)).await
        {
            return Ok(bytes.into());
        }
        self.session.blob(&self.scopes, &reference.path, digest, CONFIG_LIMIT).await
    }

    fn check_platform(&self, reference: &Reference, config: &ImageConfig) -> Result<()> {
        if !config.os.is_empty() && config.os != "linux" {
            return Err(RegistryError::Unsupported(format!(
                "image operating system \"{}\" cannot be used on this platform: operating system is not supported",
                config.os
            )));
        }
        let Some(wanted) = &self.request.platform else { return Ok(()) };
        let actual = Platform {
            os: config.os.clone(),
            architecture: config.architecture.clone(),
            variant: config.variant.clone(),
        };
        if config.architecture.is_empty() || wanted.accepts(&actual) {
            return Ok(());
        }
        let reference = reference.familiar();
        let (wanted, actual) = (Box::new(wanted.clone()), Box::new(actual.normalized()));
        Err(RegistryError::WrongPlatform { reference, wanted, actual })
    }

    /// Fetches the layers side by side; puts them in place from the lowest on when all are here.
    async fn layers(&self, at: &[Descriptor], refs: &[LayerRef], held: &mut Vec<Pin>) -> Result<()> {
        let snapshots = self.client.store().snapshots().clone();
        let mut tasks = JoinSet::new();
        let mut fetched: Vec<Option<Fetched>> = Vec::new();
        let mut present = Vec::new();
        for (place, (descriptor, layer)) in at.iter().zip(refs).enumerate() {
            fetched.push(None);
            let here = self.client.store().content().contains(&descriptor.digest);
            let exists = here && snapshots.has_layer(&layer.chain);
            present.push(exists);
            let text = if exists { "Already exists" } else { "Pulling fs layer" };
            say(&self.progress, descriptor.digest.short(), text);
            if !here {
                let task = self.task(descriptor.clone(), layer.diff_id);
                tasks.spawn(async move { (place, task.run().await) });
            }
        }
        while let Some(done) = tasks.join_next().await {
            let (place, result) = done.map_err(|e| ImageError::Internal(e.to_string()))?;
            fetched[place] = result?;
        }
        for (place, layer) in refs.iter().enumerate().filter(|(place, _)| !present[*place]) {
            let id = layer.blob.short();
            let mut meter = Meter::new(&self.progress, &id, "Extracting", at[place].size);
            let below = place.checked_sub(1).map(|p| refs[p].chain);
            let (snapshots, upto) = (snapshots.clone(), refs[..=place].to_vec());
            let staged = fetched[place].take();
            meter.at(0);
            let work = move || match staged {
                Some(Fetched::Staged(staged)) => {
                    let blob = staged.blob.clone();
                    snapshots.adopt(below, *staged).map(|pin| vec![pin, blob])
                }
                Some(Fetched::Stored(blob)) => snapshots.ensure(&upto).map(|mut pins| {
                    pins.push(blob);
                    pins
                }),
                None => snapshots.ensure(&upto),
            };
            held.extend(self.client.store().blocking(work).await?);
            meter.at(at[place].size);
            say(&self.progress, id, "Pull complete");
        }
        Ok(())
    }

    fn task(&self, at: Descriptor, diff_id: Digest) -> LayerTask {
        LayerTask {
            client: self.client.clone(),
            session: Arc::clone(&self.session),
            scopes: self.scopes.clone(),
            path: self.request.reference.path.clone(),
            progress: Arc::clone(&self.progress),
            at,
            diff_id,
        }
    }
}

/// One layer's download, a task of its own.
struct LayerTask {
    client: RegistryClient,
    session: Arc<Session>,
    scopes: Vec<String>,
    path: String,
    progress: ProgressFn,
    at: Descriptor,
    diff_id: Digest,
}

impl LayerTask {
    /// `None` when the blob is here already: somebody else fetched it meanwhile.
    async fn run(self) -> Result<Option<Fetched>> {
        let lock = self.client.blob_lock(self.at.digest);
        let id = self.at.digest.short();
        let _mine = match lock.try_lock() {
            Ok(mine) => mine,
            Err(_) => {
                say(&self.progress, &id, "Waiting");
                lock.lock().await
            }
        };
        let slots = self.client.downloads();
        let _slot = match slots.try_acquire() {
            Ok(slot) => slot,
            Err(_) => {
                say(&self.progress, &id, "Waiting");
                slots.acquire().await.map_err(|e| ImageError::Internal(e.to_string()))?
            }
        };
        let store = self.client.store();
        if store.content().contains(&self.at.digest) {
            say(&self.progress, &id, "Download complete");
            return Ok(None);
        }
        let download = Download {
            session: &self.session,
            scopes: &self.scopes,
            path: &self.path,
            content: store.content(),
            snapshots: store.snapshots(),
            progress: &self.progress,
        };
        download.layer(&self.at, self.diff_id).await.map(Some)
    }
}

impl Session {
    /// Reads a manifest by tag or digest; with `wanted` it must have that digest.
    pub async fn manifest(
        &self,
        scopes: &[String],
        path: &str,
        pick: &str,
        wanted: Option<Digest>,
    ) -> Result<(Bytes, String)> {
        let url = self.url(&format!("{path}/manifests/{pick}"))?;
        let (bytes, kind) = self.document(scopes, &url, ACCEPT, MANIFEST_LIMIT).await?;
        match wanted {
            Some(digest) if sha256(&bytes) != digest => {
                Err(RegistryError::Verification { what: "manifest", digest })
            }
            _ => Ok((bytes, kind)),
        }
    }

    /// Reads a small blob.
    pub async fn blob(&self, scopes: &[String], path: &str, digest: Digest, limit: usize) -> Result<Bytes> {
        let url = self.url(&format!("{path}/blobs/{digest}"))?;
        let (bytes, _) = self.document(scopes, &url, "*/*", limit).await?;
        if sha256(&bytes) == digest {
            Ok(bytes)
        } else {
            Err(RegistryError::Verification { what: "image config", digest })
        }
    }

    /// Whether the repository has the blob.
    pub async fn has_blob(&self, scopes: &[String], path: &str, digest: &Digest) -> Result<bool> {
        let url = self.url(&format!("{path}/blobs/{digest}"))?;
        let response = self.send(scopes, Method::HEAD, &url, |r: RequestBuilder| Ok(r)).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            _ => Err(super::session::refused(response, &Method::HEAD, &url).await),
        }
    }
}

pub(super) fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// The target of `rel="next"` (RFC 8288).
fn next_link(text: &str) -> Option<String> {
    let one = text.split(',').find(|l| l.contains("rel=\"next\"") || l.contains("rel=next"))?;
    Some(one.split('<').nth(1)?.split('>').next()?.to_owned())
}
