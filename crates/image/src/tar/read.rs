//! Reading archives: one header after another, the data in between by buffer slices.

use std::io::{self, BufRead, Read};

use super::{BLOCK, Entry, Kind, number, pax::Extensions, sparse};

/// Long names and extended headers larger than this are refused.
const MAX_EXTENSION: u64 = 1 << 20;

/// An archive in a buffered reader.
pub struct TarReader<R> {
    inner: R,
    left: u64,
    padding: u64,
    done: bool,
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl<R: BufRead> TarReader<R> {
    /// Reads from the current position of `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, left: 0, padding: 0, done: false }
    }

    /// The underlying reader.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry; what was not read of the one before is skipped. `None` at the archive's end.
    ///
    /// # Errors
    /// `InvalidData` for malformed headers, `UnexpectedEof` where the archive is cut short.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        self.skip_rest()?;
        let mut extensions = Extensions::default();
        let mut extended = false;
        loop {
            let Some(block) = self.block()? else {
                return if extended {
                    Err(bad("tar archive ends after an extended header"))
                } else {
                    Ok(None)
                };
            };
            let mut size = number::parse_u64(&block[124..136])?;
            match block[156] {
                b'x' => extensions.parse(&self.extension(size)?)?,
                b'g' => drop(self.extension(size)?),
                b'L' => extensions.path = Some(until_nul(&self.extension(size)?)),
                b'K' => extensions.link = Some(until_nul(&self.extension(size)?)),
                _ => {
                    size = extensions.size.unwrap_or(size);
                    return self.finish(&block, size, extensions).map(Some);
                }
            }
            extended = true;
        }
    }

    fn finish(&mut self, block: &[u8; BLOCK], size: u64, extensions: Extensions) -> io::Result<Entry> {
        let mut entry = header(block)?;
        entry.size = if matches!(entry.kind, Kind::File | Kind::Other(_)) { size } else { 0 };
        if block[156] == b'S' {
            entry.sparse = Some(sparse::gnu(block, &mut self.inner)?);
        }
        let padding = (BLOCK as u64 - entry.size % BLOCK as u64) % BLOCK as u64;
        if extensions.apply(&mut entry) {
            sparse::pax1(&mut entry, &mut self.inner)?;
        }
        if entry.kind != Kind::File {
            entry.sparse = None;
        }
        sparse::check(&mut entry)?;
        // Old archives mark directories by a slash alone.
        if entry.kind == Kind::File && entry.path.ends_with(b"/") {
            entry.kind = Kind::Dir;
        }
        self.left = entry.size;
        self.padding = padding;
        Ok(entry)
    }

    /// The next header block; `None` at the end: a block of zeros, or the input's end between entries.
    fn block(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        if self.done {
            return Ok(None);
        }
        if self.inner.fill_buf()?.is_empty() {
            self.done = true;
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        self.inner.read_exact(&mut block)?;
        if block.iter().all(|b| *b == 0) {
            self.done = true;
            return Ok(None);
        }
        if checksum(&block)? { Ok(Some(block)) } else { Err(bad("tar header with a wrong checksum")) }
    }

    fn extension(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            return Err(bad("tar extended header of more than 1 MiB"));
        }
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        let mut text = Vec::new();
        self.read_to_end(&mut text)?;
        self.skip_rest()?;
        Ok(text)
    }

    /// A piece of the current entry's data, straight from the buffer; empty when there is no more.
    pub fn data(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let buffer = self.inner.fill_buf()?;
        if buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "tar archive ends within an entry"));
        }
        Ok(&buffer[..buffer.len().min(left)])
    }

    /// Marks `n` bytes of [`TarReader::data`] as used.
    pub fn consume(&mut self, n: usize) {
        self.inner.consume(n);
        self.left = self.left.saturating_sub(n as u64);
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        self.left += std::mem::take(&mut self.padding);
        loop {
            let n = self.data()?.len();
            if n == 0 {
                return Ok(());
            }
            self.consume(n);
        }
    }
}

/// Reads the current entry's data.
impl<R: BufRead> Read for TarReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let data = self.data()?;
        let n = data.len().min(out.len());
        out[..n].copy_from_slice(&data[..n]);
        self.consume(n);
        Ok(n)
    }
}

fn until_nul(field: &[u8]) -> Vec<u8> {
    field.split(|b| *b == 0).next().unwrap_or_default().to_vec()
}

fn id(field: &[u8]) -> io::Result<u32> {
    u32::try_from(number::parse(field)?).map_err(|_| bad("tar header with an owner out of range"))
}

fn header(block: &[u8; BLOCK]) -> io::Result<Entry> {
    let kind = match block[156] {
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::Char,
        b'4' => Kind::Block,
        b'5' => Kind::Dir,
        b'6' => Kind::Fifo,
        other => Kind::Other(other),
    };
    let mut entry = Entry::new(until_nul(&block[..100]), kind);
    let posix = &block[257..263] == b"ustar\0";
    if posix && block[345] != 0 {
        let mut path = until_nul(&block[345..500]);
        path.push(b'/');
        path.extend(&entry.path);
        entry.path = path;
    }
    entry.link = until_nul(&block[157..257]);
    entry.mode = u32::try_from(number::parse_u64(&block[100..108])? & 0o7777).unwrap_or_default();
    entry.uid = id(&block[108..116])?;
    entry.gid = id(&block[116..124])?;
    entry.mtime = (number::parse(&block[136..148])?, 0);
    if matches!(kind, Kind::Char | Kind::Block) && (posix || &block[257..263] == b"ustar ") {
        let part = |range: std::ops::Range<usize>| {
            u32::try_from(number::parse(&block[range])?)
                .map_err(|_| bad("tar header with a device out of range"))
        };
        entry.device = (part(329..337)?, part(337..345)?);
    }
    Ok(entry)
}

/// Whether these first bytes of a stream could be an archive: a header with a right checksum, or the zeros of an
/// empty one.
pub fn looks_like_tar(head: &[u8]) -> bool {
    let Some(block) = head.first_chunk::<BLOCK>() else { return false };
    block.iter().all(|b| *b == 0) || checksum(block).unwrap_or(false)
}

fn checksum(block: &[u8; BLOCK]) -> io::Result<bool> {
    let stored = number::parse(&block[148..156])?;
    let (mut plain, mut signed) = (0i64, 0i64);
    for (i, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&i) { b' ' } else { *byte };
        plain += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    Ok(stored == plain || stored == signed)
}
