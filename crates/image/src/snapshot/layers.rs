//! Making layers: receive, adopt under a chain id, unpack again.

use std::{fs, io::BufReader, path::PathBuf};

use serde::{Deserialize, Serialize};
use weft_model::Digest;

use super::{LayerRef, Snapshots};
use crate::{
    content::{Ingest, sync_dir},
    error::{ImageError, Result},
    layer::{LayerWriter, StagedLayer, TempDir, unpack_blob},
    pins::Pin,
    stack::lookup,
    unpack::{Unpacked, copy_owner_and_mode},
};

/// What `layer.json` says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub parent: Option<Digest>,
    pub diff_id: Digest,
    pub size: u64,
    /// The boot in which it was unpacked, until its data is known to be on disk.
    #[serde(default)]
    pub unsynced_in_boot: Option<String>,
}

/// Layers whose data may not be on the disk yet.
#[derive(Default)]
pub(super) struct Unsynced {
    waiting: Vec<(Digest, LayerRecord)>,
    running: bool,
}

impl Snapshots {
    pub(super) fn layer_dir(&self, chain: &Digest) -> PathBuf {
        self.0.root.join("layers").join(chain.hex())
    }

    /// Where a layer's files are.
    #[must_use]
    pub fn layer_fs(&self, chain: &Digest) -> PathBuf {
        self.layer_dir(chain).join("fs")
    }

    /// Whether the layer is unpacked.
    #[must_use]
    pub fn has_layer(&self, chain: &Digest) -> bool {
        self.layer_dir(chain).exists()
    }

    /// Bytes of the regular files in one layer.
    pub fn layer_size(&self, chain: &Digest) -> Result<u64> {
        self.layer_record(chain).map(|r| r.size)
    }

    pub(super) fn layer_record(&self, chain: &Digest) -> Result<LayerRecord> {
        let path = self.layer_dir(chain).join("layer.json");
        let text = fs::read(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => ImageError::NotFound { what: "layer", name: chain.to_string() },
            _ => ImageError::Io { doing: "reading", path: path.clone(), source: e },
        })?;
        serde_json::from_slice(&text)
            .map_err(|e| ImageError::corrupt(path.display().to_string(), e.to_string()))
    }

    /// Holds a layer against collection.
    pub fn pin_layer(&self, chain: Digest) -> Pin {
        self.0.pins.pin(chain)
    }

    /// Begins to receive a layer: its blob goes to `ingest`, its files to a temporary directory.
    pub fn receive(&self, ingest: Ingest) -> Result<LayerWriter> {
        if ingest.written() > 0 {
            return Err(ImageError::Invalid("a resumed blob is stored first and then unpacked".into()));
        }
        LayerWriter::start(ingest, self.temp()?, self.0.ids, self.0.limits)
    }

    /// Gives a received layer its place above `parent`; an equal one that is there already wins.
    pub fn adopt(&self, parent: Option<Digest>, staged: StagedLayer) -> Result<Pin> {
        self.place(parent, staged.diff_id, staged.dir, &staged.unpacked)
    }

    /// Makes sure that the layers are unpacked, lowest first, from their blobs where they are not.
    pub fn ensure(&self, layers: &[LayerRef]) -> Result<Vec<Pin>> {
        let mut pins = Vec::with_capacity(layers.len());
        let mut parent = None;
        for layer in layers {
            pins.push(self.pin_layer(layer.chain));
            if !self.has_layer(&layer.chain) {
                self.unpack_again(parent, layer)?;
            }
            parent = Some(layer.chain);
        }
        Ok(pins)
    }

    fn unpack_again(&self, parent: Option<Digest>, layer: &LayerRef) -> Result<()> {
        let blob = self.0.content.open_blob(&layer.blob)?;
        let packed = self.0.content.size(&layer.blob)?;
        let dir = self.temp()?;
        let root = dir.path().join("fs");
        fs::create_dir(&root).map_err(ImageError::io("making", &root))?;
        let input = BufReader::with_capacity(256 << 10, blob);
        let (found, unpacked) = unpack_blob(input, packed, &root, self.0.ids, self.0.limits)?;
        if found != layer.diff_id {
            let expected = layer.diff_id;
            return Err(ImageError::DigestMismatch { what: "unpacked layer".into(), expected, found });
        }
        self.place(parent, found, dir, &unpacked).map(drop)
    }

    fn place(
        &self,
        parent: Option<Digest>,
        diff_id: Digest,
        dir: TempDir,
        unpacked: &Unpacked,
    ) -> Result<Pin> {
        let chain = match parent {
            None => diff_id,
            Some(parent) => super::chain_ids(&[parent, diff_id])[1],
        };
        let pin = self.pin_layer(chain);
        let target = self.layer_dir(&chain);
        if target.exists() {
            return Ok(pin);
        }
        self.describe_implied(parent, &dir, unpacked)?;
        let boot = Some(self.0.boot.clone());
        let record = LayerRecord { parent, diff_id, size: unpacked.size, unsynced_in_boot: boot };
        write_json(&dir.path().join("layer.json"), &record)?;
        match fs::rename(dir.path(), &target) {
            Ok(()) => dir.keep(),
            // Somebody was faster with the same content.
            Err(_) if target.exists() => return Ok(pin),
            Err(e) => return Err(ImageError::io("renaming", dir.path())(e)),
        }
        self.sync_later(chain, record);
        Ok(pin)
    }

    /// Directories that the archive did not describe look like those below them.
    fn describe_implied(&self, parent: Option<Digest>, dir: &TempDir, unpacked: &Unpacked) -> Result<()> {
        let Some(parent) = parent.filter(|_| !unpacked.implied.is_empty()) else { return Ok(()) };
        let roots = self.lowers_of(parent)?;
        for path in &unpacked.implied {
            if let Some(node) = lookup(&roots, path).filter(|n| !n.dirs.is_empty()) {
                let ours = dir.path().join("fs").join(path);
                copy_owner_and_mode(&node.real, &ours).map_err(ImageError::os("describing", &ours))?;
            }
        }
        Ok(())
    }

    /// The directories of a layer and all below it, topmost first.
    pub(super) fn lowers_of(&self, chain: Digest) -> Result<Vec<PathBuf>> {
        let mut out = Vec::new();
        let mut next = Some(chain);
        while let Some(chain) = next {
            out.push(self.layer_fs(&chain));
            next = self.layer_record(&chain)?.parent;
        }
        Ok(out)
    }

    /// Queues a layer for the thread that makes layers durable; one sync of the file system serves all that wait.
    fn sync_later(&self, chain: Digest, record: LayerRecord) {
        let mut queue = self.0.unsynced.lock();
        queue.waiting.push((chain, record));
        if queue.running {
            return;
        }
        let snapshots = self.clone();
        let spawned =
            std::thread::Builder::new().name("layer-sync".into()).spawn(move || snapshots.sync_all());
        queue.running = spawned.is_ok();
        if let Err(error) = spawned {
            tracing::warn!(%error, "layer is not synced");
        }
    }

    fn sync_all(&self) {
        loop {
            std::thread::sleep(crate::content::SYNC_DELAY);
            let batch = {
                let mut queue = self.0.unsynced.lock();
                queue.running = !queue.waiting.is_empty();
                std::mem::take(&mut queue.waiting)
            };
            if batch.is_empty() {
                return;
            }
            let root = &self.0.root;
            let synced = fs::File::open(root)
                .map_err(ImageError::io("opening", root))
                .and_then(|file| rustix::fs::syncfs(&file).map_err(ImageError::os("syncing", root)));
            if let Err(error) = synced {
                tracing::warn!(error = weft_base::chain(&error), "layers are not synced");
                continue;
            }
            for (chain, record) in batch {
                // It may have been collected meanwhile.
                if let Err(error) = self.mark_synced(&chain, record) {
                    tracing::debug!(error = weft_base::chain(&error), "layer is not marked as synced");
                }
            }
        }
    }

    fn mark_synced(&self, chain: &Digest, mut record: LayerRecord) -> Result<()> {
        let dir = self.layer_dir(chain);
        record.unsynced_in_boot = None;
        let new = dir.join("layer.json.new");
        write_json(&new, &record)?;
        fs::File::open(&new).and_then(|f| f.sync_all()).map_err(ImageError::io("syncing", &new))?;
        fs::rename(&new, dir.join("layer.json")).map_err(ImageError::io("renaming", &new))?;
        sync_dir(&dir)
    }

    /// Drops layers that were unpacked shortly before a power failure: their files may be empty.
    pub(super) fn drop_unsynced(&self) -> Result<()> {
        let dir = self.0.root.join("layers");
        for entry in fs::read_dir(&dir).map_err(ImageError::io("reading", &dir))?.flatten() {
            let chain = format!("sha256:{}", entry.file_name().to_string_lossy()).parse::<Digest>();
            let Ok(chain) = chain else { continue };
            match self.layer_record(&chain) {
                Ok(record) => match &record.unsynced_in_boot {
                    None => continue,
                    Some(boot) if *boot == self.0.boot => {
                        self.sync_later(chain, record);
                        continue;
                    }
                    Some(_) => {}
                },
                Err(error) => tracing::warn!(error = weft_base::chain(&error), "layer cannot be read"),
            }
            tracing::warn!(%chain, "layer may be torn by a power failure; it is unpacked again when needed");
            crate::tree::remove(&entry.path()).map_err(ImageError::os("removing", entry.path()))?;
        }
        Ok(())
    }
}

pub(super) fn write_json(path: &std::path::Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(value).map_err(|e| ImageError::Internal(e.to_string()))?;
    fs::write(path, text).map_err(ImageError::io("writing", path))
}
