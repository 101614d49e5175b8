//! The container's file system as a whole: size, changes, export.

use std::{collections::HashSet, fs, os::unix::fs::MetadataExt, path::Path};

use bytes::Bytes;
use tokio::sync::mpsc;
use weft_model::ContainerId;

use crate::{
    Engine, EngineError, Result,
    error::blocking,
    shim::ShimError,
    types::{ChangeKind, DiskSize, PathChange},
};

/// Bytes come in pieces of this size.
const PIECE: usize = 256 << 10;

/// A stream of bytes made by a worker; an error is its last item.
pub type ByteStream = mpsc::Receiver<Result<Bytes>>;

impl Engine {
    /// Bytes of its writable layer, and with the image.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn size(&self, id: ContainerId) -> Result<DiskSize> {
        let snapshots = self.0.images.snapshots().clone();
        blocking(move || {
            let (rw, below) = (snapshots.size_rw(&id)?, snapshots.size_layers(&id)?);
            Ok(DiskSize { rw, root_fs: rw + below })
        })
        .await
    }

    /// What it changed since its image, sorted by path.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn changes(&self, id: ContainerId) -> Result<Vec<PathChange>> {
        self.0.container(id).await?;
        let snapshots = self.0.images.snapshots().clone();
        let found = blocking(move || Ok(snapshots.diff(&id)?)).await?;
        let kind = |kind| match kind {
            weft_image::ChangeKind::Modified => ChangeKind::Modified,
            weft_image::ChangeKind::Added => ChangeKind::Added,
            weft_image::ChangeKind::Deleted => ChangeKind::Deleted,
        };
        Ok(found
            .into_iter()
            .map(|c| PathChange { path: c.path.to_string_lossy().into_owned(), kind: kind(c.kind) })
            .collect())
    }

    /// Makes an image of what the container changed, frozen meanwhile with `pause`.
    ///
    /// # Errors
    /// `NotFound`; what the image store says.
    pub async fn commit(&self, pause: bool, request: weft_image::CommitRequest) -> Result<weft_model::Image> {
        let container = self.0.container(request.container).await?;
        let running = self.0.known_cell(request.container).and_then(|cell| cell.shim());
        let shim = running.filter(|_| pause && container.status.state == weft_model::RunState::Running);
        let frozen = match &shim {
            Some(shim) => shim.pause().await.is_ok(),
            None => false,
        };
        if frozen {
            self.0.events.container(&container, "pause", []);
        }
        let reference = request.name.as_ref().map(weft_model::Reference::familiar).unwrap_or_default();
        let comment = request.comment.clone();
        let made = self.0.images.commit(request).await;
        if let (Some(shim), true) = (shim, frozen) {
            match shim.resume().await {
                Ok(()) => self.0.events.container(&container, "unpause", []),
                // It ended by itself meanwhile.
                Err(ShimError::State(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let made = made?;
        let facts = [("comment", comment), ("imageID", made.spec.id.to_string()), ("imageRef", reference)];
        self.0.events.container(&container, "commit", facts);
        Ok(made)
    }

    /// Its whole tree as a tar archive, without volumes.
    ///
    /// # Errors
    /// `NotFound`; later ones come in the stream.
    pub async fn export(&self, id: ContainerId) -> Result<ByteStream> {
        let container = self.0.container(id).await?;
        let snapshots = self.0.images.snapshots().clone();
        self.0.events.container(&container, "export", []);
        Ok(stream(move |out| Ok(snapshots.export_tar(&id, out).map(drop)?)))
    }
}

/// Runs a worker that writes; what it writes comes out of the stream.
pub(crate) fn stream(work: impl FnOnce(&mut Pieces) -> Result<()> + Send + 'static) -> ByteStream {
    let (send, receive) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let mut out = Pieces { send: send.clone(), piece: Vec::with_capacity(PIECE) };
        let done = work(&mut out)
            .and_then(|()| std::io::Write::flush(&mut out).map_err(EngineError::io("sending an archive")));
        if let Err(error) = done {
            // The reader may have gone: then nobody wants to know.
            let _ = send.blocking_send(Err(error));
        }
    });
    receive
}

/// Collects bytes into pieces and sends them; blocks while the reader is slow.
pub(crate) struct Pieces {
    send: mpsc::Sender<Result<Bytes>>,
    piece: Vec<u8>,
}

impl std::io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            std::io::Write::flush(self)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.send.blocking_send(Ok(piece.into())).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

/// Bytes on disk below a directory, hard links counted once.
pub(crate) fn tree_size(dir: &Path) -> u64 {
    let (mut sum, mut seen, mut todo) = (0, HashSet::new(), vec![dir.to_owned()]);
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                todo.push(entry.path());
            } else if meta.nlink() < 2 || seen.insert((meta.dev(), meta.ino())) {
                sum += meta.len();
            }
        }
    }
    sum
}
