//! Writing archives: ustar headers, with a pax header only where ustar cannot say it, so that the same tree always
//! gives the same bytes.

use std::io::{self, Read, Write};

use super::{BLOCK, Entry, Kind, number};

/// An archive being written.
pub struct TarWriter<W> {
    inner: W,
}

impl<W: Write> TarWriter<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner }
    }

    /// Adds an entry whose data is exactly `entry.size` bytes of `data`. Sparse maps are not written: give the
    /// file's full length and bytes.
    ///
    /// # Errors
    /// `UnexpectedEof` when `data` is shorter.
    pub fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> io::Result<()> {
        let records = pax_records(entry);
        if !records.is_empty() {
            let mut header = Entry::new(*b"PaxHeaders.0/entry", Kind::Other(b'x'));
            header.size = records.len() as u64;
            self.inner.write_all(&block(&header))?;
            self.inner.write_all(&records)?;
            self.pad(header.size)?;
        }
        self.inner.write_all(&block(entry))?;
        let mut left = entry.size;
        let mut buffer = vec![0; 256 << 10];
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let n = data.read(&mut buffer[..want])?;
            if n == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "file shrank while it was archived",
                ));
            }
            self.inner.write_all(&buffer[..n])?;
            left -= n as u64;
        }
        self.pad(entry.size)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let rest = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if rest == 0 { Ok(()) } else { self.inner.write_all(&[0; BLOCK][rest..]) }
    }

    /// Ends the archive with its two blocks of zeros.
    pub fn finish(mut self) -> io::Result<W> {
        self.inner.write_all(&[0; 2 * BLOCK])?;
        self.inner.flush()?;
        Ok(self.inner)
    }
}

fn pax_records(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::new();
    if split(&entry.path).is_none() {
        record(&mut out, "path", &entry.path);
    }
    if entry.link.len() > 100 || !entry.link.is_ascii() {
        record(&mut out, "linkpath", &entry.link);
    }
    if entry.mtime.1 != 0 || entry.mtime.0 < 0 {
        let (secs, nanos) = entry.mtime;
        let text = if secs < 0 && nanos > 0 {
            format!("-{}.{:09}", -(secs + 1), 1_000_000_000 - nanos)
        } else {
            format!("{secs}.{nanos:09}")
        };
        record(&mut out, "mtime", text.trim_end_matches('0').trim_end_matches('.').as_bytes());
    }
    if entry.size >> 33 != 0 {
        record(&mut out, "size", entry.size.to_string().as_bytes());
    }
    for (key, id) in [("uid", entry.uid), ("gid", entry.gid)] {
        if id >> 21 != 0 {
            record(&mut out, key, id.to_string().as_bytes());
        }
    }
    for (name, value) in &entry.xattrs {
        record(&mut out, &format!("SCHILY.xattr.{}", String::from_utf8_lossy(name)), value);
    }
    out
}

/// `LENGTH KEY=VALUE\n`; the length counts its own digits.
fn record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = 3 + key.len() + value.len();
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() > rest.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend(format!("{length} {key}=").bytes());
    out.extend(value);
    out.push(b'\n');
}

/// Splits a path into ustar's prefix (155 bytes) and name (100 bytes); `None` when it does not fit.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if !path.is_ascii() {
        return None;
    }
    if path.len() <= 100 {
        return Some((&[], path));
    }
    let from = path.len().checked_sub(101)?;
    let slash = (from..path.len().min(156)).find(|i| path[*i] == b'/')?;
    (slash + 1 < path.len() && slash > 0).then(|| (&path[..slash], &path[slash + 1..]))
}

fn block(entry: &Entry) -> [u8; BLOCK] {
    let mut b = [0; BLOCK];
    let cut = |field: &mut [u8], text: &[u8]| {
        let n = text.len().min(field.len());
        field[..n].copy_from_slice(&text[..n]);
    };
    let (prefix, name) = split(&entry.path).unwrap_or((&[], &entry.path));
    cut(&mut b[..100], name);
    cut(&mut b[345..500], prefix);
    cut(&mut b[157..257], &entry.link);
    number::format(&mut b[100..108], u64::from(entry.mode));
    number::format(&mut b[108..116], u64::from(entry.uid));
    number::format(&mut b[116..124], u64::from(entry.gid));
    number::format(&mut b[124..136], entry.size);
    number::format(&mut b[136..148], u64::try_from(entry.mtime.0).unwrap_or(0));
    b[156] = match entry.kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::Char => b'3',
        Kind::Block => b'4',
        Kind::Dir => b'5',
        Kind::Fifo => b'6',
        Kind::Other(byte) => byte,
    };
    b[257..265].copy_from_slice(b"ustar\x0000");
    if matches!(entry.kind, Kind::Char | Kind::Block) {
        number::format(&mut b[329..337], u64::from(entry.device.0));
        number::format(&mut b[337..345], u64::from(entry.device.1));
    }
    b[148..156].fill(b' ');
    let sum: u64 = b.iter().map(|x| u64::from(*x)).sum();
    number::format(&mut b[148..155], sum);
    b[155] = b' ';
    b
}
