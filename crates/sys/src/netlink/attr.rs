//! Netlink attributes: `struct nlattr` is a 16-bit length (header included), a 16-bit type and a payload padded to four
//! bytes (`linux/netlink.h`). The reader takes foreign bytes: it never panics and stops at the first thing malformed.

/// Set on attributes that hold attributes.
pub const NESTED: u16 = 0x8000;
const KIND_MASK: u16 = 0x3fff;
const HEADER: usize = 4;

/// Writes attributes one after another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attrs {
    bytes: Vec<u8>,
}

impl Attrs {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An attribute with raw bytes. A payload that 16 bits of length cannot say is cut: callers bound their lists.
    #[must_use]
    pub fn bytes(mut self, kind: u16, payload: &[u8]) -> Self {
        let payload = &payload[..payload.len().min(usize::from(u16::MAX) - HEADER)];
        let length = u16::try_from(payload.len() + HEADER).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// A text, ended by a zero byte.
    #[must_use]
    pub fn text(self, kind: u16, text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// One byte.
    #[must_use]
    pub fn u8(self, kind: u16, value: u8) -> Self {
        self.bytes(kind, &[value])
    }

    /// 16 bits in network order.
    #[must_use]
    pub fn be16(self, kind: u16, value: u16) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// 32 bits in network order: what nfnetlink speaks.
    #[must_use]
    pub fn be32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// 32 bits in host order.
    #[must_use]
    pub fn ne32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Attributes inside an attribute.
    #[must_use]
    pub fn nest(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind | NESTED, &inner.bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads attributes: pairs of type (flag bits taken off) and payload.
pub fn read(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]) & KIND_MASK;
        let payload = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

/// The payload of the first attribute of a type.
#[must_use]
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    read(bytes).find(|(k, _)| *k == kind).map(|(_, payload)| payload)
}

/// A text without its final zero; `None` when it is no UTF-8.
#[must_use]
pub fn as_text(payload: &[u8]) -> Option<&str> {
    std::str::from_utf8(payload.strip_suffix(&[0]).unwrap_or(payload)).ok()
}

/// 32 bits in network order.
#[must_use]
pub fn as_be32(payload: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(payload.get(..4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let inner = Attrs::new().be32(7, 9).text(8, "x");
        let bytes = Attrs::new().u8(1, 5).nest(2, &inner).be16(3, 80).into_bytes();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(find(&bytes, 1), Some(&[5u8][..]));
        let nest = find(&bytes, 2).unwrap();
        assert_eq!(as_be32(find(nest, 7).unwrap()), Some(9));
        assert_eq!(as_text(find(nest, 8).unwrap()), Some("x"));
        assert_eq!(find(&bytes, 3), Some(&[0u8, 80][..]));
    }

    #[test]
    fn malformed_bytes_end_the_reading() {
        for bytes in [&[][..], &[1], &[4, 0, 1], &[3, 0, 1, 0], &[0, 0, 0, 0, 0, 0], &[200, 0, 1, 0, 9]] {
            assert_eq!(read(bytes).count(), 0, "{bytes:?}");
        }
    }
}
