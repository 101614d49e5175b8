//! Where the last N entries of a log begin, found from its end.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
};

use flate2::read::MultiGzDecoder;

use super::{decode::Format, files::Segment, local};

/// A place in a list of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Which file.
    pub file: usize,
    /// Bytes of it to pass over, uncompressed.
    pub offset: u64,
}

const BLOCK: usize = 64 * 1024;

/// The place of the `wanted`-last entry in `files` (oldest first).
pub(super) fn find(files: &[Segment], format: Format, wanted: u64) -> io::Result<Place> {
    let mut left = wanted;
    for (file, segment) in files.iter().enumerate().rev() {
        if left == 0 {
            return Ok(Place { file: file + 1, offset: 0 });
        }
        let (found, offset) = if segment.compressed {
            compressed(&segment.file, format, left)?
        } else {
            match format {
                Format::Json => plain_json(&segment.file, left)?,
                Format::Local => plain_local(&segment.file, left)?,
            }
        };
        left -= found;
        if left == 0 {
            return Ok(Place { file, offset });
        }
    }
    Ok(Place { file: 0, offset: 0 })
}

/// How many of the last `wanted` lines the file has, and where the first of them begins.
fn plain_json(file: &File, wanted: u64) -> io::Result<(u64, u64)> {
    let mut end = file.metadata()?.len();
    let mut block = vec![0; BLOCK];
    // The line feed that ends the line before the wanted ones is the (wanted + 1)-last of the file.
    let mut feeds = 0;
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let part = &mut block[..usize::try_from(end - start).unwrap_or(BLOCK)];
        file.read_exact_at(part, start)?;
        for at in memchr::memrchr_iter(b'\n', part) {
            feeds += 1;
            if feeds > wanted {
                return Ok((wanted, start + at as u64 + 1));
            }
        }
        end = start;
    }
    Ok((feeds, 0))
}

fn plain_local(file: &File, wanted: u64) -> io::Result<(u64, u64)> {
    let (header, whole) = local_extent(file)?;
    let mut end = whole;
    let mut found = 0;
    let mut frame = [0; 4];
    while end > header && found < wanted {
        file.read_exact_at(&mut frame, end - 4)?;
        let size = u64::from(u32::from_le_bytes(frame)) + 8;
        if size > end - header {
            break;
        }
        end -= size;
        found += 1;
    }
    Ok((found, if found < wanted { 0 } else { end }))
}

/// Length of the header and of all whole records.
fn local_extent(file: &File) -> io::Result<(u64, u64)> {
    let len = file.metadata()?.len();
    let mut head = vec![0; 12];
    if len < 12 {
        return Ok((len, len));
    }
    file.read_exact_at(&mut head, 0)?;
    let attrs = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    let header = 12 + u64::from(attrs);
    // The usual case: the file ends with a whole record.
    let back = len.saturating_sub(1 << 21).max(header.min(len));
    let mut end = vec![0; usize::try_from(len - back).unwrap_or(0)];
    file.read_exact_at(&mut end, back)?;
    if len <= header || local::size_of_last(&end).is_some() {
        return Ok((header, len));
    }
    // A record is being written, or was torn: walk from the front.
    let mut at = header;
    let mut frame = [0; 4];
    while at + 4 <= len {
        file.read_exact_at(&mut frame, at)?;
        let size = u64::from(u32::from_le_bytes(frame)) + 8;
        if at + size > len {
            break;
        }
        at += size;
    }
    Ok((header, at))
}

/// As [`plain_json`], by reading the whole file.
fn compressed(file: &File, format: Format, wanted: u64) -> io::Result<(u64, u64)> {
    let mut reader = MultiGzDecoder::new(rewound(file)?);
    // Ends of the last `wanted` entries and of one before, as a ring.
    let keep = usize::try_from(wanted).unwrap_or(usize::MAX).saturating_add(1);
    let mut starts = std::collections::VecDeque::new();
    let (mut buffer, mut base, mut found) = (Vec::new(), 0u64, 0u64);
    let mut first = true;
    loop {
        let read = (&mut reader).take(BLOCK as u64).read_to_end(&mut buffer)?;
        let mut used = 0;
        let mut entry = |start: usize| {
            starts.push_back(base + start as u64);
            found += 1;
            if starts.len() >= keep {
                starts.pop_front();
            }
        };
        match format {
            Format::Json => {
                for end in memchr::memchr_iter(b'\n', &buffer) {
                    entry(used);
                    used = end + 1;
                }
            }
            Format::Local => {
                if first && let Some((_, size)) = local::read_header(&buffer) {
                    (used, first) = (size, false);
                }
                while !first && let Ok(Some(record)) = local::read(&buffer[used..]) {
                    entry(used);
                    used += record.size;
                }
            }
        }
        buffer.drain(..used);
        base += used as u64;
        if read == 0 {
            break;
        }
    }
    if found < wanted { Ok((found, 0)) } else { Ok((wanted, starts.front().copied().unwrap_or(0))) }
}

/// The same open file from its beginning, through a descriptor with its own position.
pub(super) fn rewound(file: &File) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
