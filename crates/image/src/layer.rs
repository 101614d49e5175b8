//! Receiving a layer: one thread stores and hashes the blob as it comes, a second unpacks it at the same time.
//!
//! ```text
//!   bytes ──> LayerWriter: blob file + sha256 ──channel of chunks──> thread: gunzip ─> sha256 ─> tar ─> files
//! ```
//! The result is staged: a blob with its name, and a directory with a temporary one, which becomes a layer when it is
//! known what lies below it ([`crate::Snapshots::adopt`]). Dropped, the directory goes away.

use std::{
    io::{self, BufRead, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use bytes::{Buf, Bytes, BytesMut};
use weft_model::Digest;

use crate::{
    content::Ingest,
    decompress::{Compression, Guard, decompress},
    error::{ImageError, Result, from_io},
    idmap::IdMap,
    pins::Pin,
    tar::TarReader,
    unpack::{Limits, Unpacked, unpack},
};

/// A chunk's size, and how many may wait between the threads.
const CHUNK: usize = 512 << 10;
const QUEUE: usize = 8;

/// A directory that is removed unless it is kept.
#[derive(Debug)]
pub(crate) struct TempDir(Option<PathBuf>);

impl TempDir {
    pub fn make(path: PathBuf) -> Result<Self> {
        std::fs::create_dir(&path).map_err(ImageError::io("making", &path))?;
        Ok(Self(Some(path)))
    }

    pub fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }

    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && let Err(error) = crate::tree::remove(path)
        {
            tracing::warn!(path = %path.display(), %error, "temporary directory is left");
        }
    }
}

/// A layer that is stored and unpacked, but not yet part of an image.
#[derive(Debug)]
pub struct StagedLayer {
    /// The blob, held against collection.
    pub blob: Pin,
    /// Digest of the plain archive.
    pub diff_id: Digest,
    /// How the blob is packed.
    pub compression: Compression,
    pub(crate) dir: TempDir,
    pub(crate) unpacked: Unpacked,
}

struct Done {
    diff: Option<[u8; 32]>,
    compression: Compression,
    unpacked: Unpacked,
}

/// Takes a layer's bytes; see the module.
pub struct LayerWriter {
    ingest: Ingest,
    packed: Arc<AtomicU64>,
    // Before `dir`: the thread must have ended when the directory is removed.
    worker: Worker,
    dir: TempDir,
    pending: BytesMut,
    expected: Option<Digest>,
    /// Why unpacking gave up, while the rest still comes.
    failed: Option<ImageError>,
}

struct Worker {
    chunks: Option<SyncSender<Option<Bytes>>>,
    thread: Option<JoinHandle<Result<Done>>>,
}

impl Worker {
    fn join(&mut self) -> Result<Done> {
        self.chunks = None;
        let thread =
            self.thread.take().ok_or_else(|| ImageError::Internal("layer was finished before".into()))?;
        thread.join().map_err(|_| ImageError::Internal("unpacking panicked".into()))?
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let _broken_off = self.join();
        }
    }
}

impl LayerWriter {
    pub(crate) fn start(ingest: Ingest, dir: TempDir, ids: Option<IdMap>, limits: Limits) -> Result<Self> {
        let (chunks, receiver) = sync_channel(QUEUE);
        let packed = Arc::new(AtomicU64::new(0));
        let root = dir.path().join("fs");
        std::fs::create_dir(&root).map_err(ImageError::io("making", &root))?;
        let input = Chunks { receiver, current: Bytes::new(), done: false };
        let counter = Arc::clone(&packed);
        let thread = std::thread::Builder::new()
            .name("layer-unpack".into())
            .spawn(move || run(input, &root, ids, limits, counter))
            .map_err(|e| ImageError::Internal(format!("starting a thread: {e}")))?;
        let pending = BytesMut::with_capacity(CHUNK);
        let worker = Worker { chunks: Some(chunks), thread: Some(thread) };
        Ok(Self { ingest, packed, worker, dir, pending, expected: None, failed: None })
    }

    /// Promises the blob's digest: content that cannot be unpacked is then received to its end, to say whether it is
    /// another content than was promised, or the promised one is damaged.
    pub(crate) fn expecting(mut self, blob: Option<Digest>) -> Self {
        self.expected = blob;
        self
    }

    /// Adds bytes without copying them.
    pub fn push(&mut self, bytes: Bytes) -> Result<()> {
        self.flush_pending()?;
        self.send(bytes)
    }

    fn send(&mut self, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.packed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let gone = self.failed.is_none()
            && self.worker.chunks.as_ref().is_none_or(|c| c.send(Some(bytes.clone())).is_err());
        if gone {
            // The unpacker gave up: its reason is the error.
            let error = self.worker.join().err();
            let error = error.unwrap_or_else(|| ImageError::corrupt("layer", "data follows its end"));
            self.put_off(error)?;
        }
        self.ingest.write_all(&bytes).map_err(|e| from_io("layer", e))
    }

    /// Damage is told once the digest is known; everything else at once.
    fn put_off(&mut self, error: ImageError) -> Result<()> {
        if self.expected.is_none() || !matches!(error, ImageError::Corrupt { .. } | ImageError::Read { .. }) {
            return Err(error);
        }
        self.failed = Some(error);
        Ok(())
    }

    /// Feeds everything that `reader` has, in large pieces.
    pub fn copy_from(&mut self, reader: &mut dyn Read, mut progress: impl FnMut(u64)) -> Result<u64> {
        let mut total = 0;
        loop {
            let mut chunk = BytesMut::zeroed(CHUNK);
            let mut filled = 0;
            while filled < CHUNK {
                match reader.read(&mut chunk[filled..]) {
                    Ok(0) => break,
                    Ok(n) => filled += n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(from_io("layer", e)),
                }
            }
            if filled == 0 {
                return Ok(total);
            }
            chunk.truncate(filled);
            total += filled as u64;
            self.push(chunk.freeze())?;
            progress(total);
        }
    }

    fn flush_pending(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.pending, BytesMut::with_capacity(CHUNK));
        self.send(full.freeze())
    }

    /// Waits for the unpacker; checks the blob's digest and the diff id where they are known.
    pub fn finish(mut self, diff_id: Option<Digest>) -> Result<StagedLayer> {
        self.flush_pending()?;
        let end = self.worker.chunks.as_ref().map(|c| c.send(None));
        let done = match self.failed.take().map_or_else(|| self.worker.join(), Err) {
            Ok(done) if matches!(end, Some(Ok(()))) => done,
            Ok(_) => return Err(ImageError::Internal("layer was cut off".into())),
            Err(error) => {
                self.put_off(error)?;
                let _as_promised = self.ingest.commit(self.expected)?;
                let damaged = || ImageError::Internal("layer was cut off".into());
                return Err(self.failed.take().unwrap_or_else(damaged));
            }
        };
        let blob = self.ingest.commit(self.expected)?;
        let found = done.diff.map_or(blob.digest(), Digest::from_sha256);
        if let Some(expected) = diff_id.filter(|e| *e != found) {
            return Err(ImageError::DigestMismatch { what: "unpacked layer".into(), expected, found });
        }
        Ok(StagedLayer {
            blob,
            diff_id: found,
            compression: done.compression,
            dir: self.dir,
            unpacked: done.unpacked,
        })
    }
}

/// For small writes, gathered into chunks.
impl Write for LayerWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= CHUNK {
            self.flush_pending().map_err(crate::error::into_io)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Unpacks a layer whose blob is stored already into `dir/fs`, without storing it again.
pub(crate) fn unpack_blob(
    input: impl BufRead + Send,
    packed: u64,
    root: &Path,
    ids: Option<IdMap>,
    limits: Limits,
) -> Result<(Digest, Unpacked)> {
    let (_, plain) = decompress(input)?;
    let mut guard = Guard::new(plain, true, Arc::new(AtomicU64::new(packed)), limits);
    let unpacked = drain(&mut guard, root, ids, limits)?;
    let (diff, _) = guard.finish();
    Ok((Digest::from_sha256(diff.unwrap_or_default()), unpacked))
}

fn run(
    input: Chunks,
    root: &Path,
    ids: Option<IdMap>,
    limits: Limits,
    packed: Arc<AtomicU64>,
) -> Result<Done> {
    let (compression, plain) = decompress(input)?;
    let mut guard = Guard::new(plain, compression != Compression::None, packed, limits);
    let unpacked = drain(&mut guard, root, ids, limits)?;
    Ok(Done { diff: guard.finish().0, compression, unpacked })
}

/// Unpacks, and reads on to the end of the stream, which the digest covers too.
fn drain(guard: &mut impl BufRead, root: &Path, ids: Option<IdMap>, limits: Limits) -> Result<Unpacked> {
    if guard.fill_buf().map_err(|e| from_io("layer", e))?.is_empty() {
        return Ok(Unpacked::default());
    }
    let mut tar = TarReader::new(guard);
    let unpacked = unpack(&mut tar, root, ids, limits)?;
    let guard = tar.into_inner();
    loop {
        let n = guard.fill_buf().map_err(|e| from_io("layer", e))?.len();
        if n == 0 {
            return Ok(unpacked);
        }
        guard.consume(n);
    }
}

/// The channel as a reader; a sender that goes away without saying so is an error, not an end.
struct Chunks {
    receiver: Receiver<Option<Bytes>>,
    current: Bytes,
    done: bool,
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.current.is_empty() && !self.done {
            match self.receiver.recv() {
                Ok(Some(bytes)) => self.current = bytes,
                Ok(None) => self.done = true,
                Err(_) => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "the transfer was broken off",
                    ));
                }
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, n: usize) {
        self.current.advance(n);
    }
}

impl Read for Chunks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let data = self.fill_buf()?;
        let n = data.len().min(out.len());
        out[..n].copy_from_slice(&data[..n]);
        self.consume(n);
        Ok(n)
    }
}
