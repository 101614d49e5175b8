//! One write as bytes: what the log table holds.
//!
//! Each record describes itself (magic, checksum, lengths, key), although the database around it knows all of
//! that too: when the database's own structure is damaged, records can still be found in the raw file, checked
//! and the newest of each key taken. That is what `weft store check` and `dump` do with a file that does not open.
//!
//! ```text
//! "WFT\x01" crc32 flags key_len value_len revision sub create version lease key… value…      (little endian)
//!  4        4     1     4       4         8        4   8      8       8
//! ```

use bytes::Bytes;

use crate::{Event, Item, LeaseId};

const MAGIC: [u8; 4] = *b"WFT\x01";
const HEADER: usize = 53;
const TOMBSTONE: u8 = 1;

/// Place in the log: revision, and number of the write within it.
pub(crate) type LogKey = (u64, u32);

/// A write: an item put, or a tombstone (`version` 0, empty value).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) item: Item,
    pub(crate) sub: u32,
    pub(crate) deleted: bool,
}

impl Record {
    pub(crate) fn tombstone(key: Bytes, revision: u64, sub: u32) -> Self {
        let item = Item {
            key,
            value: Bytes::new(),
            create_revision: 0,
            mod_revision: revision,
            version: 0,
            lease: None,
        };
        Self { item, sub, deleted: true }
    }

    pub(crate) fn log_key(&self) -> LogKey {
        (self.item.mod_revision, self.sub)
    }

    pub(crate) fn event(&self) -> Event {
        if self.deleted {
            Event::Delete { key: self.item.key.clone(), revision: self.item.mod_revision }
        } else {
            Event::Put(self.item.clone())
        }
    }

    /// Writes the record into `out`, which is emptied first.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let item = &self.item;
        out.clear();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.push(if self.deleted { TOMBSTONE } else { 0 });
        out.extend_from_slice(&len32(&item.key).to_le_bytes());
        out.extend_from_slice(&len32(&item.value).to_le_bytes());
        out.extend_from_slice(&item.mod_revision.to_le_bytes());
        out.extend_from_slice(&self.sub.to_le_bytes());
        out.extend_from_slice(&item.create_revision.to_le_bytes());
        out.extend_from_slice(&item.version.to_le_bytes());
        out.extend_from_slice(&item.lease.map_or(0, |l| l.0).to_le_bytes());
        out.extend_from_slice(&item.key);
        out.extend_from_slice(&item.value);
        let crc = crc32(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the record at the start of `bytes`; answers it with its length. `None` when there is none or
    /// its checksum is wrong.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        if bytes.len() < HEADER || bytes[..4] != MAGIC {
            return None;
        }
        let u32_at = |at: usize| bytes[at..at + 4].try_into().ok().map(u32::from_le_bytes);
        let u64_at = |at: usize| bytes[at..at + 8].try_into().ok().map(u64::from_le_bytes);
        let key_len = usize::try_from(u32_at(9)?).ok()?;
        let value_len = usize::try_from(u32_at(13)?).ok()?;
        let total = HEADER.checked_add(key_len)?.checked_add(value_len)?;
        if total > bytes.len() || crc32(&bytes[8..total]) != u32_at(4)? {
            return None;
        }
        let lease = u64_at(45)?;
        let item = Item {
            key: Bytes::copy_from_slice(&bytes[HEADER..HEADER + key_len]),
            value: Bytes::copy_from_slice(&bytes[HEADER + key_len..total]),
            mod_revision: u64_at(17)?,
            create_revision: u64_at(29)?,
            version: u64_at(37)?,
            lease: (lease != 0).then_some(LeaseId(lease)),
        };
        Some((Self { item, sub: u32_at(25)?, deleted: bytes[8] & TOMBSTONE != 0 }, total))
    }
}

/// Every intact record found anywhere in `bytes`, whatever lies between them.
pub(crate) fn carve(bytes: &[u8]) -> Vec<Record> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(step) = bytes[at..].windows(4).position(|w| w == MAGIC) {
        at += step;
        match Record::decode(&bytes[at..]) {
            Some((record, len)) => {
                found.push(record);
                at += len;
            }
            None => at += 1,
        }
    }
    found
}

fn len32(bytes: &[u8]) -> u32 {
    // Keys and values are limited to far less by `Request::validate`.
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut i = 0;
    while i < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "i is below 256")]
        let mut c = i as u32;
        let mut bit = 0;
        while bit < 8 {
            c = if c & 1 == 1 { 0xEDB8_8320 ^ (c >> 1) } else { c >> 1 };
            bit += 1;
        }
        table[i] = c;
        i += 1;
    }
    table
};

/// CRC-32 (IEEE 802.3), the polynomial of gzip and Ethernet.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |c, b| CRC_TABLE[usize::from(c.to_le_bytes()[0] ^ b)] ^ (c >> 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &str, revision: u64) -> Record {
        let item = Item {
            key: Bytes::from(key.to_owned()),
            value: Bytes::from(value.to_owned()),
            create_revision: 3,
            mod_revision: revision,
            version: 2,
            lease: Some(LeaseId(9)),
        };
        Record { item, sub: 7, deleted: false }
    }

    #[test]
    fn crc_of_the_standard_check_string() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let mut bytes = Vec::new();
        let all = [record("/a/b", "{\"v\":1}", 5), Record::tombstone(Bytes::from_static(b"k"), 8, 1)];
        for record in all {
            record.encode(&mut bytes);
            assert_eq!(Record::decode(&bytes), Some((record, bytes.len())));
            for at in 0..bytes.len() {
                assert_eq!(Record::decode(&bytes[..at]), None, "cut at {at}");
                let mut bad = bytes.clone();
                bad[at] ^= 0x10;
                assert_eq!(Record::decode(&bad), None, "flipped at {at}");
            }
        }
    }

    #[test]
    fn carving_finds_records_between_rubbish() {
        let (a, b) = (record("/a", "x", 5), record("/b", "WFT\u{1}", 6));
        let (mut raw, mut one) = (b"rubbish WFT\x01 more".to_vec(), Vec::new());
        for r in [&a, &b] {
            r.encode(&mut one);
            raw.extend_from_slice(&one);
            raw.extend_from_slice(b"WF");
        }
        assert_eq!(carve(&raw), [a, b]);
        assert!(carve(b"").is_empty());
    }
}
