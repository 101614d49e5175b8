//! Identifiers: 32 random bytes, written as 64 lower-case hexadecimal digits.
//!
//! The type parameter names the kind of thing, so that a network's id cannot be passed where a port's
//! is meant. The first 16 bytes form a valid version 4 UUID (RFC 9562 section 5.4), so that APIs which
//! speak UUIDs name the same object by the same bits.

use std::{fmt, marker::PhantomData, str::FromStr};

/// What an [`Id`] identifies; implemented by empty marker types.
pub trait IdKind: Send + Sync + 'static {
    /// The singular noun used in error texts, such as `container`.
    const NOUN: &'static str;
}

/// A 256-bit random identifier of a thing of kind `K`.
pub struct Id<K: IdKind> {
    bytes: [u8; 32],
    kind: PhantomData<fn() -> K>,
}

/// The text was not 64 hexadecimal digits.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a {noun} id: 64 hexadecimal digits are expected")]
pub struct IdError {
    noun: &'static str,
    text: String,
}

impl<K: IdKind> Id<K> {
    /// A new random identifier. Panics only if the kernel's random source is gone.
    #[must_use]
    #[expect(clippy::expect_used, reason = "without getrandom(2) no identifier can be trusted")]
    pub fn new() -> Self {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).expect("getrandom(2) fails only on kernels older than 3.17");
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self::from_bytes(bytes)
    }

    /// An identifier from its 32 bytes, for ids that are derived from something else.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self { bytes, kind: PhantomData }
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The first 12 hexadecimal digits, as command lines show it.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.bytes[..6])
    }

    /// The first 128 bits as a UUID, `8-4-4-4-12`.
    #[must_use]
    pub fn uuid(&self) -> String {
        let h = hex::encode(&self.bytes[..16]);
        format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])
    }
}

impl<K: IdKind> Default for Id<K> {
    fn default() -> Self {
        Self::new()
    }
}
impl<K: IdKind> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K: IdKind> Copy for Id<K> {}
impl<K: IdKind> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}
impl<K: IdKind> Eq for Id<K> {}
impl<K: IdKind> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K: IdKind> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.bytes.cmp(&other.bytes)
    }
}
impl<K: IdKind> std::hash::Hash for Id<K> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}
impl<K: IdKind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.bytes))
    }
}
impl<K: IdKind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", K::NOUN, self.short())
    }
}
impl<K: IdKind> FromStr for Id<K> {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| IdError { noun: K::NOUN, text: text.to_owned() })?;
        Ok(Self::from_bytes(bytes))
    }
}
impl<K: IdKind> serde::Serialize for Id<K> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de, K: IdKind> serde::Deserialize<'de> for Id<K> {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing;
    impl IdKind for Thing {
        const NOUN: &'static str = "thing";
    }

    #[test]
    fn text_round_trips_and_uuid_is_version_4() {
        let id = Id::<Thing>::new();
        assert_eq!(id.to_string().parse::<Id<Thing>>(), Ok(id));
        assert_eq!(id.to_string().len(), 64);
        let uuid = id.uuid();
        assert_eq!(&uuid[14..15], "4");
        assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"));
    }

    #[test]
    fn short_or_foreign_text_is_refused() {
        for text in ["", "abc", &"g".repeat(64), &"a".repeat(63)] {
            assert!(text.parse::<Id<Thing>>().is_err(), "{text}");
        }
    }
}
