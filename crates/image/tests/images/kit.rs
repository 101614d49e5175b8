//! Archives made in memory, and a store in a directory of its own.

use std::{io::Cursor, path::Path, sync::Arc};

use serde_json::json;
use sha2::{Digest as _, Sha256};
use weft_image::{
    ImageStore, Options,
    tar::{Entry, Kind, TarWriter},
};
use weft_model::{ContainerId, Digest};
use weft_store::{Embedded, Stores};

pub type Files<'a> = &'a [(Entry, &'a [u8])];

pub fn file(path: &str, mode: u32) -> Entry {
    Entry { mode, mtime: (1_600_000_000, 0), ..Entry::new(path, Kind::File) }
}

pub fn dir(path: &str) -> Entry {
    Entry { mtime: (1_500_000_000, 0), ..Entry::new(path, Kind::Dir) }
}

pub fn link(path: &str, target: &str, kind: Kind) -> Entry {
    Entry { link: target.into(), ..Entry::new(path, kind) }
}

pub fn tar(files: Files<'_>) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for (entry, data) in files {
        let entry = Entry { size: data.len() as u64, ..entry.clone() };
        tar.append(&entry, &mut Cursor::new(data)).unwrap();
    }
    tar.finish().unwrap()
}

pub fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// A docker-archive; `pack` changes the layers as stored.
pub fn archive(tags: &[&str], layers: &[Vec<u8>], pack: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|l| digest(l).to_string()).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z",
        "config": {"Cmd": ["sh"], "Labels": {"a": "b"}},
        "history": layers.iter().map(|_| json!({"created_by": "x"})).collect::<Vec<_>>(),
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string();
    let name = format!("{}.json", digest(config.as_bytes()).hex());
    let paths: Vec<_> = (0..layers.len()).map(|i| format!("{i}/layer.tar")).collect();
    let manifest = json!([{"Config": name, "RepoTags": tags, "Layers": paths}]).to_string();
    let packed: Vec<_> = layers.iter().map(|l| pack(l)).collect();
    let mut files: Vec<(Entry, &[u8])> = Vec::new();
    for (path, layer) in paths.iter().zip(&packed) {
        files.push((file(path, 0o644), layer));
    }
    files.push((file(&name, 0o644), config.as_bytes()));
    files.push((file("manifest.json", 0o644), manifest.as_bytes()));
    tar(&files)
}

pub struct Bed {
    pub dir: tempfile::TempDir,
    pub store: ImageStore,
    pub containers: Vec<ContainerId>,
}

pub async fn open(dir: &Path, options: Options) -> ImageStore {
    let stores = Stores::single(Arc::new(
        Embedded::open(dir.join("store.redb"), weft_store::Options::default()).unwrap(),
    ));
    ImageStore::open(dir, &stores, options).await.unwrap()
}

impl Bed {
    pub async fn new(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), options).await;
        Self { dir, store, containers: Vec::new() }
    }

    pub async fn load(&self, archive: Vec<u8>) -> weft_image::Result<Vec<weft_model::Image>> {
        let loaded = self.store.load(Cursor::new(archive), None, |_| {}).await?;
        Ok(loaded.into_iter().map(|(image, _)| image).collect())
    }

    pub async fn container(&mut self, image: &weft_model::Image) -> (ContainerId, std::path::PathBuf) {
        let id = ContainerId::new();
        self.containers.push(id);
        self.store.prepare(id, image).await.unwrap();
        (id, self.store.mount(id).await.unwrap())
    }

    /// Names of blobs and layers on the disk.
    pub fn on_disk(&self) -> usize {
        ["content/blobs/sha256", "content/ingest", "snapshots/layers", "snapshots/tmp"]
            .iter()
            .map(|d| std::fs::read_dir(self.dir.path().join(d)).unwrap().count())
            .sum()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for id in &self.containers {
            let _gone = self.store.snapshots().unmount(id);
        }
    }
}
