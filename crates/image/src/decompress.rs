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
}

impl Compression {
    /// Tells by the first bytes (six are enough).
    ///
    /// # Errors
    /// `Unsupported` for bzip2 and xz.
    pub fn sniff(head: &[u8]) -> Result<Self> {
        match head {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(ImageError::Unsupported("xz compression".into())),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => {
                Err(ImageError::Unsupported("bzip2 compression".into()))
            }
            _ => Ok(Self::None),
        }
    }
}

/// A plain stream out of a packed one.
pub(crate) fn decompress<'a>(
    mut input: impl BufRead + Send + 'a,
) -> Result<(Compression, Box<dyn BufRead + Send + 'a>)> {
    let kind = Compression::sniff(input.fill_buf().map_err(|e| from_io("archive", e))?)?;
    const BUFFER: usize = 256 << 10;
    Ok((
        kind,
        match kind {
            Compression::None => Box::new(input),
            Compression::Gzip => {
                Box::new(BufReader::with_capacity(BUFFER, flate2::bufread::MultiGzDecoder::new(input)))
            }
            Compression::Zstd => {
                let decoder =
                    zstd::stream::read::Decoder::with_buffer(input).map_err(|e| from_io("archive", e))?;
                Box::new(BufReader::with_capacity(BUFFER, decoder))
            }
        },
    ))
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
