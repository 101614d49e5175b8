//! The facade: content, snapshots and records behind one cheap handle.

use std::{
    collections::HashSet,
    io::BufReader,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use tokio::{
    io::AsyncRead,
    sync::{Mutex, MutexGuard, mpsc},
};
use tokio_util::io::SyncIoBridge;
use weft_base::{Clock, SystemClock, Timestamp};
use weft_model::{ContainerId, Image, Reference};
use weft_store::{Stores, Table};

use crate::{
    archive::{self, LoadProgress, save::SaveItem},
    config::ImageConfig,
    content::{ContentStore, Freed},
    diff::Change,
    error::{ImageError, Result},
    idmap::IdMap,
    registry::Platform,
    snapshot::{Driver, Snapshots, chain_ids, layer_refs},
    unpack::Limits,
};

/// How the store is opened.
#[derive(Clone)]
pub struct Options {
    /// Bounds for unpacking.
    pub limits: Limits,
    /// Owners are shifted into this range.
    pub ids: Option<IdMap>,
    /// How writable trees are made; tried out when not given.
    pub driver: Option<Driver>,
    /// Where the present comes from.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self { limits: Limits::default(), ids: None, driver: None, clock: Arc::new(SystemClock) }
    }
}

/// A stream of bytes made by a thread; an error is its last item. Dropping it stops the thread.
pub type ByteStream = mpsc::Receiver<std::io::Result<Bytes>>;

/// All about images on this host; cheap to clone.
#[derive(Clone)]
pub struct ImageStore(Arc<Inner>);

struct Inner {
    content: ContentStore,
    snapshots: Snapshots,
    table: Table<Image>,
    names: Mutex<()>,
    clock: Arc<dyn Clock>,
}

impl ImageStore {
    /// Opens everything under `root`, sweeps half-made things and content that no record names.
    pub async fn open(root: &Path, stores: &Stores, options: Options) -> Result<Self> {
        let root = root.to_owned();
        let clock = Arc::clone(&options.clock);
        let opened = tokio::task::spawn_blocking(move || {
            let content = ContentStore::open(&root)?;
            let snapshots =
                Snapshots::open(&root, content.clone(), options.ids, options.limits, options.driver)?;
            Ok::<_, ImageError>((content, snapshots))
        });
        let (content, snapshots) = opened.await.map_err(|e| ImageError::Internal(e.to_string()))??;
        let inner = Inner { content, snapshots, table: Table::new(stores), names: Mutex::default(), clock };
        let store = Self(Arc::new(inner));
        store.collect().await?;
        Ok(store)
    }

    /// Blobs.
    #[must_use]
    pub fn content(&self) -> &ContentStore {
        &self.0.content
    }

    /// Layers and containers' trees, for callers that are on a blocking thread already.
    #[must_use]
    pub fn snapshots(&self) -> &Snapshots {
        &self.0.snapshots
    }

    pub(crate) fn table(&self) -> &Table<Image> {
        &self.0.table
    }

    pub(crate) async fn names_lock(&self) -> MutexGuard<'_, ()> {
        self.0.names.lock().await
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Runs work that blocks off the runtime's threads.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        tokio::task::spawn_blocking(work).await.map_err(|e| ImageError::Internal(e.to_string()))?
    }

    /// The image's configuration.
    pub async fn config(&self, image: &Image) -> Result<ImageConfig> {
        ImageConfig::parse(&self.config_bytes(image).await?)
    }

    /// The image's configuration as stored.
    pub async fn config_bytes(&self, image: &Image) -> Result<Vec<u8>> {
        let (content, id) = (self.0.content.clone(), image.spec.id);
        self.blocking(move || content.read(&id)).await
    }

    /// Removes blobs and layers that no image, container or running operation needs.
    pub async fn collect(&self) -> Result<Freed> {
        let (blob_watch, layer_watch) = (self.0.content.watch(), self.0.snapshots.watch());
        let (mut layers, mut blobs) = self.0.snapshots.used_by_containers();
        for image in self.list().await? {
            let spec = &image.spec;
            blobs.insert(spec.id);
            blobs.extend(spec.manifest);
            blobs.extend(&spec.layers);
            layers.extend(chain_ids(&spec.diff_ids));
        }
        let store = self.clone();
        self.blocking(move || store.sweep(&blob_watch, &layer_watch, &blobs, &layers)).await
    }

    fn sweep(
        &self,
        blob_watch: &crate::pins::Watch,
        layer_watch: &crate::pins::Watch,
        blobs: &HashSet<weft_model::Digest>,
        layers: &HashSet<weft_model::Digest>,
    ) -> Result<Freed> {
        let mut freed = self.0.snapshots.collect(layer_watch, layers)?;
        freed += self.0.content.collect(blob_watch, blobs)?;
        Ok(freed)
    }

    /// Loads an archive of images (docker-archive or OCI layout, packed or not), all or those for `platform`; answers
    /// each image with the names that it got. Of an archive that fails nothing stays.
    pub async fn load(
        &self,
        input: impl AsyncRead + Send + Unpin + 'static,
        platform: Option<Platform>,
        mut progress: impl FnMut(LoadProgress) + Send + 'static,
    ) -> Result<Vec<(Image, Vec<Reference>)>> {
        let (content, snapshots) = (self.0.content.clone(), self.0.snapshots.clone());
        let input = BufReader::with_capacity(512 << 10, SyncIoBridge::new(input));
        let work = move || archive::load::load(input, &content, &snapshots, platform, &mut progress);
        let loaded = match self.blocking(work).await {
            Ok(loaded) => loaded,
            Err(error) => {
                self.collect_quietly().await;
                return Err(error);
            }
        };
        let mut out = Vec::new();
        for new in loaded.images {
            let names = new.names.clone();
            out.push((self.register(new).await?, names));
        }
        if loaded.more {
            self.collect_quietly().await;
        }
        Ok(out)
    }

    /// Collects after something that has its own answer.
    pub(crate) async fn collect_quietly(&self) {
        if let Err(error) = self.collect().await {
            tracing::warn!(error = weft_base::chain(&error), "content is left until the next collection");
        }
    }

    /// Saves images as one archive. A name saves that tag, an id the image with all its tags. With `platform` they must
    /// be made for it.
    pub async fn save(&self, names: &[String], platform: Option<&Platform>) -> Result<ByteStream> {
        let mut items: Vec<SaveItem> = Vec::new();
        for text in names {
            let image = self.resolve_for(text, platform).await.map_err(|error| match error {
                ImageError::WrongPlatform { wanted, .. } => ImageError::NoExport(wanted),
                error => error,
            })?;
            let named = text.parse::<Reference>().ok().map(Reference::or_latest);
            let named = named.filter(|r| image.spec.tags.contains(&r.to_string()));
            let ours = match items.iter_mut().find(|i| i.image.spec.id == image.spec.id) {
                Some(item) => &mut item.names,
                None => {
                    items.push(SaveItem { image, names: Vec::new() });
                    let Some(item) = items.last_mut() else { continue };
                    &mut item.names
                }
            };
            if let Some(named) = named.filter(|n| !ours.contains(n)) {
                ours.push(named);
            }
        }
        let content = self.0.content.clone();
        // Held before anything is read, so that a removal cannot tear the archive.
        let held: Vec<_> = items
            .iter()
            .flat_map(|i| i.image.spec.layers.iter().chain([&i.image.spec.id]).chain(&i.image.spec.manifest))
            .map(|d| content.pin(*d))
            .collect();
        Ok(stream(move |out| {
            let done = archive::save::save(&items, &content, out).map(drop);
            drop(held);
            done
        }))
    }

    /// Makes a container's writable tree over an image.
    pub async fn prepare(&self, container: ContainerId, image: &Image) -> Result<()> {
        let layers = layer_refs(&image.spec.layers, &image.spec.diff_ids);
        let snapshots = self.0.snapshots.clone();
        self.blocking(move || snapshots.prepare(&container, &layers)).await
    }

    /// Mounts it; answers where.
    pub async fn mount(&self, container: ContainerId) -> Result<PathBuf> {
        let snapshots = self.0.snapshots.clone();
        self.blocking(move || snapshots.mount(&container)).await
    }

    /// Unmounts it.
    pub async fn unmount(&self, container: ContainerId) -> Result<()> {
        let snapshots = self.0.snapshots.clone();
        self.blocking(move || snapshots.unmount(&container)).await
    }

    /// Unmounts and deletes it.
    pub async fn remove_snapshot(&self, container: ContainerId) -> Result<()> {
        let snapshots = self.0.snapshots.clone();
        self.blocking(move || snapshots.remove(&container)).await
    }

    /// What the container changed.
    pub async fn diff(&self, container: ContainerId) -> Result<Vec<Change>> {
        let snapshots = self.0.snapshots.clone();
        self.blocking(move || snapshots.diff(&container)).await
    }

    /// Bytes that the container wrote.
    pub async fn size_rw(&self, container: ContainerId) -> Result<u64> {
        let snapshots = self.0.snapshots.clone();
        self.blocking(move || snapshots.size_rw(&container)).await
    }

    /// The container's whole tree as an archive (`docker export`).
    #[must_use]
    pub fn export(&self, container: ContainerId) -> ByteStream {
        let snapshots = self.0.snapshots.clone();
        stream(move |out| snapshots.export_tar(&container, out).map(drop))
    }
}

/// Writes into a channel, in large pieces.
struct Sender {
    channel: mpsc::Sender<std::io::Result<Bytes>>,
    buffer: Vec<u8>,
}

const PIECE: usize = 256 << 10;

impl std::io::Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        if full.is_empty() {
            return Ok(());
        }
        let gone = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        self.channel.blocking_send(Ok(full.into())).map_err(gone)
    }
}

/// Runs `work` on a blocking thread and hands out what it writes.
pub(crate) fn stream(
    work: impl FnOnce(&mut dyn std::io::Write) -> Result<()> + Send + 'static,
) -> ByteStream {
    let (channel, receiver) = mpsc::channel(8);
    tokio::task::spawn_blocking(move || {
        let mut sender = Sender { channel, buffer: Vec::with_capacity(PIECE) };
        let done = work(&mut sender).and_then(|()| {
            std::io::Write::flush(&mut sender).map_err(|e| crate::error::from_io("archive", e))
        });
        if let Err(error) = done {
            // A receiver that went away wants no error either.
            let _gone = sender.channel.blocking_send(Err(crate::error::into_io(error)));
        }
    });
    receiver
}
