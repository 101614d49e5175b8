//! Pax extended headers: records `LENGTH KEY=VALUE\n`, where the value may hold any byte.

use std::io;

use super::{Entry, Sparse};

/// What the extended headers before an entry said.
#[derive(Clone, Debug, Default)]
pub(super) struct Extensions {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse_name: Option<Vec<u8>>,
    sparse_length: Option<u64>,
    sparse_extents: Vec<(u64, u64)>,
    sparse_offset: Option<u64>,
    sparse_seen: bool,
    sparse_major: u64,
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("tar extended header with a malformed {what}"))
}

fn number<T: std::str::FromStr>(key: &str, value: &[u8]) -> io::Result<T> {
    std::str::from_utf8(value).ok().and_then(|t| t.parse().ok()).ok_or_else(|| bad(key))
}

/// Seconds with an optional fraction, rounded down to nanoseconds.
fn time(value: &[u8]) -> io::Result<(i64, u32)> {
    let text = std::str::from_utf8(value).map_err(|_| bad("mtime"))?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let secs: i64 = whole.parse().map_err(|_| bad("mtime"))?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad("mtime"));
    }
    let mut digits = fraction.to_owned();
    digits.truncate(9);
    let nanos: u32 = format!("{digits:0<9}").parse().map_err(|_| bad("mtime"))?;
    if whole.starts_with('-') && nanos > 0 {
        return Ok((secs - 1, 1_000_000_000 - nanos));
    }
    Ok((secs, nanos))
}

impl Extensions {
    /// Adds the records of one extended header.
    pub fn parse(&mut self, mut text: &[u8]) -> io::Result<()> {
        while !text.is_empty() && text[0] != 0 {
            let space = text.iter().position(|b| *b == b' ').ok_or_else(|| bad("record"))?;
            let length: usize = number("record length", &text[..space])?;
            if length <= space + 1 || length > text.len() || text[length - 1] != b'\n' {
                return Err(bad("record length"));
            }
            let record = &text[space + 1..length - 1];
            text = &text[length..];
            let equal = record.iter().position(|b| *b == b'=').ok_or_else(|| bad("record"))?;
            let (key, value) = (&record[..equal], &record[equal + 1..]);
            if let Ok(key) = std::str::from_utf8(key) {
                self.record(key, value)?;
            }
        }
        Ok(())
    }

    fn record(&mut self, key: &str, value: &[u8]) -> io::Result<()> {
        match key {
            "path" => self.path = Some(value.to_vec()),
            "linkpath" => self.link = Some(value.to_vec()),
            "size" => self.size = Some(number(key, value)?),
            "uid" => self.uid = Some(number(key, value)?),
            "gid" => self.gid = Some(number(key, value)?),
            "mtime" => self.mtime = Some(time(value)?),
            _ => {
                if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                    self.xattrs.push((name.as_bytes().to_vec(), value.to_vec()));
                } else if let Some(name) = key.strip_prefix("GNU.sparse.") {
                    self.sparse_seen = true;
                    self.sparse_record(name, value)?;
                }
            }
        }
        Ok(())
    }

    fn sparse_record(&mut self, name: &str, value: &[u8]) -> io::Result<()> {
        match name {
            "major" => self.sparse_major = number(name, value)?,
            "name" => self.sparse_name = Some(value.to_vec()),
            "size" | "realsize" => self.sparse_length = Some(number(name, value)?),
            "offset" => self.sparse_offset = Some(number(name, value)?),
            "numbytes" => {
                let offset = self.sparse_offset.take().ok_or_else(|| bad("sparse map"))?;
                self.sparse_extents.push((offset, number(name, value)?));
            }
            "map" => {
                let numbers =
                    value.split(|b| *b == b',').map(|v| number(name, v)).collect::<io::Result<Vec<_>>>()?;
                self.sparse_extents =
                    numbers.chunks(2).map(|c| (c[0], c.get(1).copied().unwrap_or(0))).collect();
            }
            _ => {}
        }
        Ok(())
    }

    /// Overrides the header's fields. `true` when the sparse map stands before the data (format 1.0).
    pub fn apply(self, entry: &mut Entry) -> bool {
        if let Some(path) = self.sparse_name.or(self.path) {
            entry.path = path;
        }
        if let Some(link) = self.link {
            entry.link = link;
        }
        entry.uid = self.uid.unwrap_or(entry.uid);
        entry.gid = self.gid.unwrap_or(entry.gid);
        entry.mtime = self.mtime.unwrap_or(entry.mtime);
        entry.xattrs = self.xattrs;
        if self.sparse_seen {
            let length = self.sparse_length.unwrap_or(entry.size);
            entry.sparse = Some(Sparse { extents: self.sparse_extents, length });
        }
        self.sparse_seen && self.sparse_major >= 1
    }
}
