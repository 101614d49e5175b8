//! Where the seam's keys lie in the cluster: below the prefix, and nowhere else.
//!
//! All keys of the seam begin with a slash, so a store with the prefix `/a` never sees one with the prefix `/ab`.

use bytes::Bytes;
use weft_store::StoreError;

/// The translation of keys.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The cluster's key of one of the seam.
    pub(crate) fn full(&self, key: &[u8]) -> Result<Bytes, StoreError> {
        if key.first() != Some(&b'/') {
            return Err(StoreError::invalid("a key in a cluster begins with a slash"));
        }
        Ok([self.prefix.as_bytes(), key].concat().into())
    }

    /// First key and first key no more of all that begin with `prefix` in the seam.
    pub(crate) fn span(&self, prefix: &[u8]) -> Result<(Bytes, Bytes), StoreError> {
        let start = self.full(if prefix.is_empty() { b"/" } else { prefix })?;
        let end = after(&start);
        Ok((start, end))
    }

    /// The seam's key of one in the cluster; a copy, because keys outlive the answers that they came with.
    pub(crate) fn strip(&self, key: &[u8]) -> Bytes {
        Bytes::copy_from_slice(key.strip_prefix(self.prefix.as_bytes()).unwrap_or(key))
    }
}

/// The first key that does not begin with `prefix`; a zero byte, etcd's word for the end, where there is none.
fn after(prefix: &[u8]) -> Bytes {
    let Some(last) = prefix.iter().rposition(|b| *b < 0xff) else { return Bytes::from_static(b"\0") };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lie_below_the_prefix() {
        let keys = Keys::new("/p");
        assert_eq!(keys.full(b"/weft/v1/a").unwrap(), "/p/weft/v1/a");
        assert_eq!(keys.strip(b"/p/weft/v1/a"), "/weft/v1/a");
        assert!(keys.full(b"a").is_err() && keys.full(b"").is_err());
        let (start, end) = keys.span(b"").unwrap();
        assert!(start <= "/p/a" && "/p/a" < end, "{start:?} {end:?}");
        for stranger in ["/p", "/pp/a", "/o/a"] {
            assert!(stranger < start || stranger >= end, "{stranger}");
        }
    }

    #[test]
    fn the_end_of_a_prefix() {
        let cases: [(&[u8], &[u8]); 4] =
            [(b"/a", b"/b"), (b"/a\xff", b"/b"), (b"/\xff\xff", b"0"), (b"\xff", b"\0")];
        for (prefix, end) in cases {
            assert_eq!(&after(prefix)[..], end, "{prefix:?}");
        }
    }
}
