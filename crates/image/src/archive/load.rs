//! Reading an image archive in one pass: layers are stored and unpacked while they arrive, whatever order the members have;
//! the manifest, which often comes last, then says what belongs together.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Cursor, Read},
    path::{Path, PathBuf},
};

use weft_model::{Digest, Reference};

use super::{
    LoadProgress,
    manifest::{Descriptor, DockerItem, Index, Manifest},
};
use crate::{
    config::ImageConfig,
    content::ContentStore,
    decompress::{Compression, guarded},
    error::{ImageError, Result, from_io},
    layer::StagedLayer,
    pins::Pin,
    register::NewImage,
    registry::Platform,
    snapshot::{Snapshots, chain_ids, layer_refs},
    tar::{Entry, Kind, TarReader, looks_like_tar},
    unpack::clean,
};

/// Larger members that are no layer are refused.
const MAX_SMALL: u64 = 16 << 20;

enum Member {
    Small { bytes: Vec<u8>, pin: Pin },
    Layer { blob: Pin, diff_id: Digest },
    Link(PathBuf),
}

struct Loader<'a> {
    content: &'a ContentStore,
    snapshots: &'a Snapshots,
    members: HashMap<PathBuf, Member>,
    staged: HashMap<Digest, StagedLayer>,
    manifests: HashMap<Digest, Digest>,
    platform: Option<Platform>,
}

/// What an archive brought.
pub(crate) struct Loaded {
    pub images: Vec<NewImage>,
    /// It holds layers that none of these images has: for other platforms.
    pub more: bool,
}

/// Loads the images of the archive, all or those for `platform`; nothing is named yet.
pub(crate) fn load(
    input: impl BufRead + Send,
    content: &ContentStore,
    snapshots: &Snapshots,
    platform: Option<Platform>,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Loaded> {
    let (members, staged, manifests) = (HashMap::new(), HashMap::new(), HashMap::new());
    let mut loader = Loader { content, snapshots, members, staged, manifests, platform };
    let (_, plain) = guarded(input, snapshots.limits())?;
    let mut tar = TarReader::new(plain);
    while let Some(entry) = tar.next_entry().map_err(|e| from_io("archive", e))? {
        loader.member(&entry, &mut tar, progress)?;
    }
    loader.read_manifests();
    let images = loader.images()?;
    if let Some(platform) = loader.platform.as_ref().filter(|_| images.is_empty()) {
        // containerd's words.
        let why = format!("no images providing the requested platform(s) found: [{platform}]");
        return Err(ImageError::Invalid(why));
    }
    let used = |blob: &Digest| images.iter().any(|i| i.blobs.contains(blob));
    let more =
        loader.members.values().any(|m| matches!(m, Member::Layer { blob, .. } if !used(&blob.digest())));
    Ok(Loaded { images, more })
}

fn json<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| ImageError::corrupt(what, e.to_string()))
}

impl Loader<'_> {
    fn member<R: BufRead + Send>(
        &mut self,
        entry: &Entry,
        tar: &mut TarReader<R>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<()> {
        let path = clean(&entry.path)?;
        match entry.kind {
            Kind::File => {}
            Kind::Symlink | Kind::HardLink => {
                let mut target = if entry.kind == Kind::HardLink { Vec::new() } else { parent_bytes(&path) };
                target.extend(&entry.link);
                self.members.insert(path, Member::Link(clean(&target)?));
                return Ok(());
            }
            _ => return Ok(()),
        }
        let expected = digest_in(&path);
        let mut head = Vec::new();
        tar.by_ref().take(512).read_to_end(&mut head).map_err(|e| from_io("archive", e))?;
        let name = path.display().to_string();
        let packing = Compression::sniff(&head);
        if packing != Compression::None || looks_like_tar(&head) {
            let mut writer = self.snapshots.receive(self.content.begin()?)?.expecting(expected);
            let mut body: Box<dyn Read + Send> = Box::new(Cursor::new(head).chain(tar));
            if expected.is_none() && !packing.is_of_layers() {
                body = Box::new(guarded(BufReader::new(body), self.snapshots.limits())?.1);
            }
            writer.copy_from(&mut body, |current| {
                progress(LoadProgress { member: name.clone(), current, total: entry.size });
            })?;
            let layer = writer.finish(None)?;
            self.members.insert(path, Member::Layer { blob: layer.blob.clone(), diff_id: layer.diff_id });
            self.staged.entry(layer.diff_id).or_insert(layer);
            return Ok(());
        }
        if entry.size > MAX_SMALL {
            let what = format!("archive member {name}, which is no layer,");
            return Err(ImageError::TooLarge { what, size: entry.size, limit: MAX_SMALL });
        }
        tar.read_to_end(&mut head).map_err(|e| from_io("archive", e))?;
        let pin = self.content.put(&head)?;
        if let Some(expected) = expected.filter(|e| *e != pin.digest()) {
            return Err(ImageError::DigestMismatch { what: name, expected, found: pin.digest() });
        }
        self.members.insert(path, Member::Small { bytes: head, pin });
        Ok(())
    }

    fn follow<'m>(&'m self, path: &Path) -> Option<&'m Member> {
        let mut path = path;
        for _ in 0..16 {
            match self.members.get(path)? {
                Member::Link(target) => path = target,
                other => return Some(other),
            }
        }
        None
    }

    fn small(&self, path: &str) -> Result<(&[u8], &Pin)> {
        match self.follow(&clean(path.as_bytes())?) {
            Some(Member::Small { bytes, pin }) => Ok((bytes, pin)),
            _ => Err(ImageError::corrupt("archive", format!("{path} is missing"))),
        }
    }

    fn layer(&self, path: &str) -> Result<(Pin, Digest)> {
        match self.follow(&clean(path.as_bytes())?) {
            Some(Member::Layer { blob, diff_id }) => Ok((blob.clone(), *diff_id)),
            _ => Err(ImageError::corrupt("archive", format!("layer {path} is missing"))),
        }
    }

    fn read_manifests(&mut self) {
        for member in self.members.values() {
            if let Member::Small { bytes, pin } = member
                && let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes)
            {
                self.manifests.insert(manifest.config.digest, pin.digest());
            }
        }
    }

    fn images(&mut self) -> Result<Vec<NewImage>> {
        // `manifest.json` has no word for platforms: with one, the OCI index says more.
        let index = self.platform.is_some() && self.small("index.json").is_ok();
        if let Some((bytes, _)) = self.small("manifest.json").ok().filter(|_| !index) {
            let items: Vec<DockerItem> = json("manifest.json", bytes)?;
            let images = items.into_iter().map(|item| self.docker_item(&item));
            return images.filter_map(Result::transpose).collect();
        }
        if let Ok((bytes, _)) = self.small("index.json") {
            let index: Index = json("index.json", bytes)?;
            let mut out = Vec::new();
            for descriptor in &index.manifests {
                self.oci_item(descriptor, &names_of(descriptor), 0, &mut out)?;
            }
            return Ok(out);
        }
        if let Ok((bytes, _)) = self.small("repositories") {
            let names: HashMap<String, HashMap<String, String>> = json("repositories", bytes)?;
            return self.legacy(&names);
        }
        Err(ImageError::corrupt("archive", "it holds neither manifest.json nor index.json nor repositories"))
    }

    /// Whether an image of this configuration is wanted.
    fn wants(&self, config: &[u8]) -> Result<bool> {
        let Some(platform) = &self.platform else { return Ok(true) };
        let ImageConfig { os, architecture, variant, .. } = ImageConfig::parse(config)?;
        Ok(platform.fits(&Platform { os, architecture, variant }))
    }

    fn docker_item(&mut self, item: &DockerItem) -> Result<Option<NewImage>> {
        let (bytes, config) = self.small(&item.config)?;
        let (bytes, config) = (bytes.to_vec(), config.clone());
        if !self.wants(&bytes)? {
            return Ok(None);
        }
        let paths = item.layers.clone().unwrap_or_default();
        let layers = paths.iter().map(|p| self.layer(p)).collect::<Result<Vec<_>>>()?;
        let names = item.repo_tags.clone().unwrap_or_default();
        self.image(config, &bytes, layers, &names).map(Some)
    }

    fn oci_item(
        &mut self,
        at: &Descriptor,
        names: &[String],
        depth: u8,
        out: &mut Vec<NewImage>,
    ) -> Result<()> {
        let path = format!("blobs/sha256/{}", at.digest.hex());
        let (bytes, _) = self.small(&path)?;
        if let Ok(index) = serde_json::from_slice::<Index>(bytes) {
            let offers: Vec<_> = index.manifests.iter().map(|d| d.platform.clone()).collect();
            let wanted = self.platform.clone().unwrap_or_else(Platform::host);
            let unsaid = || offers.iter().position(Option::is_none);
            let picked = wanted.pick(&offers).or_else(unsaid).map(|at| index.manifests[at].clone());
            let picked = match picked {
                Some(picked) => picked,
                None if self.platform.is_some() => return Ok(()),
                None => return Err(ImageError::corrupt("archive", "no image in it is for this machine")),
            };
            if depth > 4 {
                return Err(ImageError::corrupt("archive", "its indexes are nested too deeply"));
            }
            return self.oci_item(&picked, names, depth + 1, out);
        }
        let manifest: Manifest = json(&path, bytes)?;
        let blob = |d: &Descriptor| format!("blobs/sha256/{}", d.digest.hex());
        let (bytes, config) = self.small(&blob(&manifest.config))?;
        let (bytes, config) = (bytes.to_vec(), config.clone());
        if !self.wants(&bytes)? {
            return Ok(());
        }
        let layers = manifest.layers.iter().map(|d| self.layer(&blob(d))).collect::<Result<Vec<_>>>()?;
        out.push(self.image(config, &bytes, layers, names)?);
        Ok(())
    }

    /// Checks that layers and configuration agree, and puts the layers in their places.
    fn image(
        &mut self,
        config: Pin,
        bytes: &[u8],
        layers: Vec<(Pin, Digest)>,
        names: &[String],
    ) -> Result<NewImage> {
        let parsed = ImageConfig::parse(bytes)?;
        let found: Vec<Digest> = layers.iter().map(|(_, diff_id)| *diff_id).collect();
        if found.len() != parsed.rootfs.diff_ids.len() {
            let (a, b) = (found.len(), parsed.rootfs.diff_ids.len());
            return Err(ImageError::corrupt(
                "archive",
                format!("{a} layers are there, the configuration lists {b}"),
            ));
        }
        for (expected, found) in parsed.rootfs.diff_ids.iter().zip(&found) {
            if expected != found {
                let (expected, found) = (*expected, *found);
                return Err(ImageError::DigestMismatch { what: "layer".into(), expected, found });
            }
        }
        let mut parent = None;
        let mut held = Vec::new();
        for (chain, diff_id) in chain_ids(&found).into_iter().zip(&found) {
            held.push(self.snapshots.pin_layer(chain));
            if !self.snapshots.has_layer(&chain)
                && let Some(staged) = self.staged.remove(diff_id)
            {
                held.push(self.snapshots.adopt(parent, staged)?);
            }
            parent = Some(chain);
        }
        let blobs: Vec<Digest> = layers.iter().map(|(pin, _)| pin.digest()).collect();
        held.extend(self.snapshots.ensure(&layer_refs(&blobs, &found))?);
        held.extend(layers.into_iter().map(|(pin, _)| pin));
        let manifest = self.manifests.get(&config.digest()).map(|m| self.content.pin(*m));
        let names =
            names.iter().map(|n| Ok(n.parse::<Reference>()?.or_latest())).collect::<Result<Vec<_>>>()?;
        Ok(NewImage { config, manifest, blobs, diff_ids: found, names, parent: None, held })
    }

    /// Archives of Docker before 1.10: one folder for each layer, `json` with the parent's id.
    fn legacy(&mut self, names: &HashMap<String, HashMap<String, String>>) -> Result<Vec<NewImage>> {
        let mut out = Vec::new();
        for (repository, tags) in names {
            for (tag, id) in tags {
                let mut layers = Vec::new();
                let mut history = Vec::new();
                let mut next = Some(id.clone());
                let mut top: Option<ImageConfig> = None;
                while let Some(id) = next.take() {
                    if layers.len() > 1000 {
                        return Err(ImageError::corrupt("archive", "its layers lead in a circle"));
                    }
                    let (bytes, _) = self.small(&format!("{id}/json"))?;
                    let value: serde_json::Value = json("json", bytes)?;
                    let config = ImageConfig::parse(bytes)?;
                    layers.push(self.layer(&format!("{id}/layer.tar"))?);
                    history.push(crate::config::History {
                        created: config.created.clone(),
                        ..Default::default()
                    });
                    next = value
                        .get("parent")
                        .and_then(|p| p.as_str())
                        .filter(|p| !p.is_empty())
                        .map(str::to_owned);
                    top.get_or_insert(config);
                }
                layers.reverse();
                history.reverse();
                let mut config = top.unwrap_or_default();
                config.rootfs.diff_ids = layers.iter().map(|(_, d)| *d).collect();
                config.history = history;
                let bytes = config.to_bytes()?;
                let pin = self.content.put(&bytes)?;
                out.push(self.image(pin, &bytes, layers, &[format!("{repository}:{tag}")])?);
            }
        }
        Ok(out)
    }
}

fn parent_bytes(path: &Path) -> Vec<u8> {
    let mut out = path.parent().unwrap_or(Path::new("")).as_os_str().as_encoded_bytes().to_vec();
    out.push(b'/');
    out
}

/// The digest that a path in an OCI layout promises.
fn digest_in(path: &Path) -> Option<Digest> {
    let hex = path.strip_prefix("blobs/sha256").ok()?.to_str()?;
    format!("sha256:{hex}").parse().ok()
}

fn names_of(descriptor: &Descriptor) -> Vec<String> {
    let get = |key: &str| descriptor.annotations.get(key).cloned();
    let full = get("io.containerd.image.name");
    let name = full.or_else(|| get("org.opencontainers.image.ref.name").filter(|n| n.contains([':', '/'])));
    name.into_iter().collect()
}
