//! The `local` driver's own compact form.
//!
//! A file is a header and records, all integers little-endian:
//!
//! ```text
//! header  "WEFTLOG1"  u32 length  attributes (a JSON object, or nothing)
//! record  u32 n  u8 flags  i64 nanoseconds since 1970  text (n - 9 bytes)  u32 n
//! ```
//!
//! `n` stands at both ends, so that a file is read in either direction. Flag 1: standard error. Flag 2: no
//! line feed follows.

use std::{io, path::Path};

use weft_base::Timestamp;

use super::{lines::Line, types::Stream};

const MAGIC: &[u8; 8] = b"WEFTLOG1";
const STDERR: u8 = 1;
const PARTIAL: u8 = 2;
/// Flags and time.
const FIXED: usize = 9;
/// A record's bytes beside its body.
const FRAME: usize = 8;
/// No record of ours is longer; a larger length is damage.
const LONGEST: usize = 1 << 20;

/// What a file begins with.
pub(super) fn header(attrs: &str) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&length(attrs.len()));
    out.extend_from_slice(attrs.as_bytes());
    out
}

fn length(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes()
}

/// Appends one record.
pub(super) fn push(out: &mut Vec<u8>, line: &Line<'_>) {
    let n = length(line.text.len() + FIXED);
    let error = if line.stream == Stream::Stderr { STDERR } else { 0 };
    out.extend_from_slice(&n);
    out.push(error | if line.ends() { 0 } else { PARTIAL });
    out.extend_from_slice(&line.at.unix_nanos().to_le_bytes());
    out.extend_from_slice(line.text);
    out.extend_from_slice(&n);
}

/// A record where it lies.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub stream: Stream,
    pub partial: bool,
    pub time: Timestamp,
    pub text: &'a [u8],
    /// Bytes it takes.
    pub size: usize,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(four)).ok()
}

/// The attributes of a file's header and the header's length; `None` when `bytes` does not begin with one.
pub(super) fn read_header(bytes: &[u8]) -> Option<(&[u8], usize)> {
    if !bytes.starts_with(MAGIC) {
        return None;
    }
    let n = u32_at(bytes, 8)?;
    Some((bytes.get(12..12 + n)?, 12 + n))
}

/// The record that `bytes` begins with: `None` when it is not whole, `Err` when it is no record.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Record<'_>>, ()> {
    let Some(n) = u32_at(bytes, 0) else { return Ok(None) };
    if !(FIXED..=LONGEST).contains(&n) {
        return Err(());
    }
    let Some(end) = u32_at(bytes, 4 + n) else { return Ok(None) };
    if end != n {
        return Err(());
    }
    let (flags, body) = (bytes[4], &bytes[5..4 + n]);
    let (nanos, text) = body.split_at(8);
    let nanos = i64::from_le_bytes(nanos.try_into().map_err(|_| ())?);
    let fraction = u32::try_from(nanos.rem_euclid(1_000_000_000)).map_err(|_| ())?;
    let time = Timestamp::from_unix(nanos.div_euclid(1_000_000_000), fraction).ok_or(())?;
    let stream = if flags & STDERR == 0 { Stream::Stdout } else { Stream::Stderr };
    Ok(Some(Record { stream, partial: flags & PARTIAL != 0, time, text, size: n + FRAME }))
}

/// The size of the record that ends `bytes`.
pub(super) fn size_of_last(bytes: &[u8]) -> Option<usize> {
    let n = u32_at(bytes, bytes.len().checked_sub(4)?)?;
    let size = n.checked_add(FRAME)?;
    ((FIXED..=LONGEST).contains(&n) && u32_at(bytes, bytes.len().checked_sub(size)?)? == n).then_some(size)
}

/// How much of the file is whole records; a torn one at the end is to be cut off.
pub(super) fn mend(path: &Path) -> io::Result<(u64, &'static [u8])> {
    let bytes = std::fs::read(path)?;
    let Some((_, mut whole)) = read_header(&bytes) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is no log of Weft", path.display()),
        ));
    };
    while let Ok(Some(record)) = read(&bytes[whole..]) {
        whole += record.size;
    }
    Ok((whole as u64, b""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::lines::Part;

    fn sample(text: &[u8], stream: Stream, partial: bool) -> Vec<u8> {
        let at = Timestamp::from_unix(1_700_000_000, 42).unwrap();
        let part = partial.then_some(Part { started: at, ordinal: 1, last: false });
        let mut out = Vec::new();
        push(&mut out, &Line { stream, at, text, part });
        out
    }

    #[test]
    fn records_round_trip_both_ways() {
        for (text, stream, partial) in [
            (&b"hello"[..], Stream::Stdout, false),
            (b"", Stream::Stderr, false),
            (b"\xff\0", Stream::Stderr, true),
        ] {
            let bytes = sample(text, stream, partial);
            let record = read(&bytes).unwrap().unwrap();
            assert_eq!((record.text, record.stream, record.partial), (text, stream, partial));
            assert_eq!((record.size, size_of_last(&bytes)), (bytes.len(), Some(bytes.len())));
            assert_eq!(record.time.unix_nanos(), 1_700_000_000_000_000_042);
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut]), Ok(None), "{cut}");
            }
        }
    }

    #[test]
    fn damage_is_told_from_incompleteness() {
        let mut bytes = sample(b"hello", Stream::Stdout, false);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(read(&bytes), Err(()));
        assert_eq!(read(&[0xff; 64]), Err(()));
        assert_eq!(size_of_last(&bytes), None);
    }

    #[test]
    fn a_torn_record_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        let whole = [header("{}"), sample(b"one", Stream::Stdout, false)].concat();
        let torn = [&whole[..], &sample(b"two", Stream::Stdout, false)[..9]].concat();
        std::fs::write(&path, torn).unwrap();
        assert_eq!(mend(&path).unwrap(), (whole.len() as u64, &b""[..]));
    }
}
