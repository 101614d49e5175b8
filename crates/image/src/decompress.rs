//! Compressed streams, told by their first bytes, with a guard against bombs.

use std::{
    io::{self, BufRead, BufReader, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use sha2::{Digest as _, Sha256};

use crate::{
    error::{ImageError, Result, from_io, into_io},
    unpack::Limits,
};

/// How a stream is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Plain.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// The .xz file format, version 1.2.
    Xz,
    /// bzip2.
    Bzip2,
}

/// As many bytes tell how a stream is packed.
const MAGIC: usize = 6;
/// Memory that an xz stream may ask for: its strongest preset wants 65 MiB, its format allows 4 GiB.
const XZ_MEMORY_KIB: u32 = 128 << 10;
const BUFFER: usize = 256 << 10;

impl Compression {
    /// Tells by the first bytes (six are enough).
    #[must_use]
    pub fn sniff(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            // The block's magic, or that of the end of an empty stream.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, ..] => Self::Bzip2,
            _ => Self::None,
        }
    }

    /// Whether manifests have a media type for layers packed so. What they have none for is stored plain, unless a
    /// manifest names it all the same.
    #[must_use]
    pub fn is_of_layers(self) -> bool {
        !matches!(self, Self::Xz | Self::Bzip2)
    }
}

/// How `input` is packed, and the same stream from its beginning. A peer may send its first bytes one by one.
pub(crate) fn sniffed(mut input: impl BufRead) -> Result<(Compression, impl BufRead)> {
    let mut head = Vec::with_capacity(MAGIC);
    input.by_ref().take(MAGIC as u64).read_to_end(&mut head).map_err(|e| from_io("archive", e))?;
    Ok((Compression::sniff(&head), io::Cursor::new(head).chain(input)))
}

/// A plain stream out of a packed one.
pub(crate) fn decompress<'a>(
    input: impl BufRead + Send + 'a,
) -> Result<(Compression, Box<dyn BufRead + Send + 'a>)> {
    let (kind, input) = sniffed(input)?;
    let plain: Box<dyn BufRead + Send + 'a> = match kind {
        Compression::None => Box::new(input),
        Compression::Gzip => buffered(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(input);
            buffered(decoder.map_err(|e| from_io("archive", e))?)
        }
        Compression::Xz => buffered(lzma_rust2::XzReader::new_mem_limit(input, true, XZ_MEMORY_KIB)),
        Compression::Bzip2 => buffered(bzip2::bufread::MultiBzDecoder::new(input)),
    };
    Ok((kind, plain))
}

fn buffered<'a>(plain: impl Read + Send + 'a) -> Box<dyn BufRead + Send + 'a> {
    Box::new(BufReader::with_capacity(BUFFER, plain))
}

/// A plain stream out of a packed one, with the guard. What is plain already is let through.
pub(crate) fn guarded<'a>(
    input: impl BufRead + Send + 'a,
    limits: Limits,
) -> Result<(Compression, Box<dyn BufRead + Send + 'a>)> {
    let packed = Arc::new(AtomicU64::new(0));
    let (kind, plain) = decompress(Counted { inner: input, count: Arc::clone(&packed) })?;
    let plain =
        if kind == Compression::None { plain } else { Box::new(Guard::new(plain, false, packed, limits)) };
    Ok((kind, plain))
}

/// Counts what is consumed.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        self.inner.consume(n);
    }
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Hashes what is consumed, and stops a stream that grows out of all proportion.
pub(crate) struct Guard<R> {
    inner: R,
    hash: Option<Sha256>,
    out: u64,
    packed: Arc<AtomicU64>,
    limits: Limits,
}

impl<R: BufRead> Guard<R> {
    /// `packed` counts the bytes that went into the decompressor. Without `hash` nothing is hashed.
    pub fn new(inner: R, hash: bool, packed: Arc<AtomicU64>, limits: Limits) -> Self {
        Self { inner, hash: hash.then(Sha256::new), out: 0, packed, limits }
    }

    /// The hash of everything consumed, if it was asked for, and how much that was.
    pub fn finish(self) -> (Option<[u8; 32]>, u64) {
        (self.hash.map(|h| h.finalize().into()), self.out)
    }

    fn check(&self) -> io::Result<()> {
        let limit = self.packed.load(Ordering::Relaxed).saturating_mul(self.limits.ratio).max(256 << 20);
        let limit = limit.min(self.limits.layer_bytes.saturating_add(self.limits.layer_bytes / 8));
        if self.out > limit {
            let what = "decompressed layer".to_owned();
            return Err(into_io(ImageError::TooLarge { what, size: self.out, limit }));
        }
        Ok(())
    }
}

impl<R: BufRead> BufRead for Guard<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.check()?;
        self.inner.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        if let Some(hash) = &mut self.hash {
            // What is consumed was filled before: this reads nothing.
            if let Ok(buffer) = self.inner.fill_buf() {
                hash.update(&buffer[..n.min(buffer.len())]);
            }
        }
        self.out += n as u64;
        self.inner.consume(n);
    }
}

impl<R: BufRead> Read for Guard<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let data = self.fill_buf()?;
        let n = data.len().min(out.len());
        out[..n].copy_from_slice(&data[..n]);
        self.consume(n);
        Ok(n)
    }
}
