//! Writing images as one archive that is docker-archive and OCI layout at once, as Docker has written since version 25:
//! blobs under `blobs/sha256/`, `manifest.json` for Docker and skopeo, `index.json` and `oci-layout` for OCI tools.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Cursor, Read, Write},
    sync::Arc,
};

use serde_json::json;
use sha2::{Digest as _, Sha256};
use weft_model::{Digest, Image, Reference};

use super::manifest::{
    Descriptor, DockerItem, Index, Manifest, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST,
};
use crate::{
    content::ContentStore,
    decompress::Compression,
    error::{ImageError, Result, from_io},
    pins::Pin,
    registry::pack,
    tar::{Entry, Kind, TarWriter},
};

/// An image and the tagged names under which it is saved.
#[derive(Clone, Debug)]
pub struct SaveItem {
    /// The image.
    pub image: Arc<Image>,
    /// Its names.
    pub names: Vec<Reference>,
}

struct Saver<'a, W: Write> {
    tar: TarWriter<W>,
    content: &'a ContentStore,
    written: BTreeSet<Digest>,
}

/// Writes the archive.
pub(crate) fn save<W: Write>(items: &[SaveItem], content: &ContentStore, out: W) -> Result<W> {
    let mut saver = Saver { tar: TarWriter::new(out), content, written: BTreeSet::new() };
    saver.dir("blobs/")?;
    saver.dir("blobs/sha256/")?;
    let mut docker = Vec::new();
    let mut index = Vec::new();
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for item in items {
        let spec = &item.image.spec;
        let layers = saver.layers(&item.image)?;
        for digest in std::iter::once(&spec.id).chain(layers.iter().map(|l| &l.digest)) {
            saver.blob(digest)?;
        }
        let manifest = saver.manifest(&item.image, &layers)?;
        index.extend(index_entries(&manifest, &item.names));
        for name in &item.names {
            let tag = name.pick.tag.clone().unwrap_or_else(|| "latest".into());
            let top = layers.last().map(|l| l.digest.hex()).unwrap_or_default();
            repositories.entry(name.familiar_name()).or_default().insert(tag, top);
        }
        docker.push(DockerItem {
            config: path_of(&spec.id),
            repo_tags: (!item.names.is_empty()).then(|| item.names.iter().map(Reference::familiar).collect()),
            layers: Some(layers.iter().map(|l| path_of(&l.digest)).collect()),
        });
    }
    let index = Index { schema_version: 2, media_type: OCI_INDEX.into(), manifests: index };
    saver.json("index.json", &index)?;
    saver.json("manifest.json", &docker)?;
    saver.json("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))?;
    if !repositories.is_empty() {
        saver.json("repositories", &repositories)?;
    }
    saver.tar.finish().map_err(|e| from_io("archive", e))
}

fn path_of(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn index_entries(manifest: &Descriptor, names: &[Reference]) -> Vec<Descriptor> {
    if names.is_empty() {
        return vec![manifest.clone()];
    }
    let named = |name: &Reference| {
        let mut entry = manifest.clone();
        entry.annotations.insert("io.containerd.image.name".into(), name.to_string());
        let tag = name.pick.tag.clone().unwrap_or_else(|| "latest".into());
        entry.annotations.insert("org.opencontainers.image.ref.name".into(), tag);
        entry
    };
    names.iter().map(named).collect()
}

impl<W: Write> Saver<'_, W> {
    fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        self.tar.append(entry, data).map_err(|e| from_io("archive", e))
    }

    fn dir(&mut self, name: &str) -> Result<()> {
        self.append(&Entry::new(name, Kind::Dir), &mut std::io::empty())
    }

    fn json(&mut self, name: &str, value: &impl serde::Serialize) -> Result<()> {
        let text = serde_json::to_vec(value).map_err(|e| ImageError::Internal(e.to_string()))?;
        self.bytes(name, &text)
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let entry = Entry { size: bytes.len() as u64, ..Entry::new(name, Kind::File) };
        self.append(&entry, &mut Cursor::new(bytes))
    }

    /// A stored blob, once.
    fn blob(&mut self, digest: &Digest) -> Result<()> {
        if !self.written.insert(*digest) {
            return Ok(());
        }
        let mut file = self.content.open_blob(digest)?;
        let entry = Entry { size: self.content.size(digest)?, ..Entry::new(path_of(digest), Kind::File) };
        self.append(&entry, &mut file)
    }

    /// The image's layers as they are saved: as they are stored, but for those that a new manifest has no word for.
    fn layers(&self, image: &Image) -> Result<Vec<Layer>> {
        let kept = kept(image, self.content).is_some();
        let one = |digest: &Digest| {
            if kept || packing(self.content, digest)?.is_of_layers() {
                return Ok(Layer { digest: *digest, _held: None });
            }
            let packed = pack::pack(self.content, digest)?;
            Ok(Layer { digest: packed.pin.digest(), _held: Some(packed.pin) })
        };
        image.spec.layers.iter().map(one).collect()
    }

    /// The manifest under which the image was pulled, or a new one.
    fn manifest(&mut self, image: &Image, layers: &[Layer]) -> Result<Descriptor> {
        let layers: Vec<Digest> = layers.iter().map(|l| l.digest).collect();
        let manifest = manifest_of(image, &layers, self.content)?;
        if manifest.stored {
            self.blob(&manifest.digest)?;
        } else if self.written.insert(manifest.digest) {
            self.bytes(&path_of(&manifest.digest), &manifest.bytes)?;
        }
        Ok(Descriptor {
            size: manifest.bytes.len() as u64,
            media_type: manifest.media_type,
            digest: manifest.digest,
            annotations: BTreeMap::new(),
            platform: None,
        })
    }
}

/// An image's manifest.
pub(crate) struct Made {
    pub digest: Digest,
    pub bytes: Vec<u8>,
    pub media_type: String,
    /// It is a blob of the store.
    pub stored: bool,
}

fn kept(image: &Image, content: &ContentStore) -> Option<Digest> {
    image.spec.manifest.filter(|d| content.contains(d))
}

/// The manifest under which the image was pulled, or a new one that names `layers`.
pub(crate) fn manifest_of(image: &Image, layers: &[Digest], content: &ContentStore) -> Result<Made> {
    if let Some(digest) = kept(image, content) {
        let bytes = content.read(&digest)?;
        let kind = serde_json::from_slice::<Manifest>(&bytes).map(|m| m.media_type).unwrap_or_default();
        let media_type = if kind.is_empty() { OCI_MANIFEST.to_owned() } else { kind };
        return Ok(Made { digest, bytes, media_type, stored: true });
    }
    let bytes = new_manifest(&image.spec.id, layers, content)?;
    let digest = Digest::from_sha256(Sha256::digest(&bytes).into());
    Ok(Made { digest, bytes, media_type: OCI_MANIFEST.to_owned(), stored: false })
}

/// The manifest without packing anything for it; `None` where a layer would have to be.
pub(crate) fn manifest_as_stored(image: &Image, content: &ContentStore) -> Result<Option<Made>> {
    if kept(image, content).is_none() {
        for layer in &image.spec.layers {
            if !packing(content, layer)?.is_of_layers() {
                return Ok(None);
            }
        }
    }
    manifest_of(image, &image.spec.layers, content).map(Some)
}

/// A layer that is saved; one that was packed for this archive is held until it is written.
struct Layer {
    digest: Digest,
    _held: Option<Pin>,
}

/// How a stored layer is packed.
fn packing(content: &ContentStore, digest: &Digest) -> Result<Compression> {
    let mut head = Vec::new();
    let mut file = content.open_blob(digest)?.take(6);
    file.read_to_end(&mut head).map_err(ImageError::io("reading", content.path(digest)))?;
    Ok(Compression::sniff(&head))
}

/// An OCI manifest of what is stored; the same image always gives the same bytes.
fn new_manifest(config: &Digest, layers: &[Digest], content: &ContentStore) -> Result<Vec<u8>> {
    let descriptor = |digest: &Digest, media_type: String| -> Result<Descriptor> {
        let size = content.size(digest)?;
        Ok(Descriptor { media_type, digest: *digest, size, annotations: BTreeMap::new(), platform: None })
    };
    let layer = |layer: &Digest| {
        let suffix = match packing(content, layer)? {
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
            _ => "",
        };
        descriptor(layer, format!("{OCI_LAYER}{suffix}"))
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.into(),
        config: descriptor(config, OCI_CONFIG.into())?,
        layers: layers.iter().map(layer).collect::<Result<_>>()?,
    };
    serde_json::to_vec(&manifest).map_err(|e| ImageError::Internal(e.to_string()))
}
