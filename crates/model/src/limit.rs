//! Bandwidth limits: rates as `tc(8)` writes them, one for each direction in the container's view.
//!
//! `8mbit`, `500kbit`, `1gbit` are bits a second, `100mbps` bytes a second (so `tc` has it), `1mibit` counts in powers of
//! 1024. A bare number is bits a second.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Labels;

/// Label or network option that says [`RateLimit::ingress`].
pub const INGRESS_LABEL: &str = "weft.ingress";
/// Label or network option that says [`RateLimit::egress`].
pub const EGRESS_LABEL: &str = "weft.egress";

/// Bits a second; at least 8,000, at most 10^14, and whole bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u64);

/// The slowest rate: one packet of 1500 bytes in a second and a half.
const LEAST: u64 = 8_000;
const MOST: u64 = 100_000_000_000_000;

/// The text is no rate.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid rate {text:?}: {why}")]
pub struct RateError {
    text: String,
    why: &'static str,
}

impl Rate {
    /// Bytes a second.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0 / 8
    }
}

/// Bits in one of a unit; `None` for no unit of `tc`.
fn unit(text: &str) -> Option<u64> {
    let (prefix, bits) = match (text.strip_suffix("bit"), text.strip_suffix("bps")) {
        _ if text.is_empty() => return Some(1),
        (Some(prefix), _) => (prefix, 1),
        (_, Some(prefix)) => (prefix, 8),
        _ => return None,
    };
    let (prefix, base) = prefix.strip_suffix('i').map_or((prefix, 1000u64), |prefix| (prefix, 1024));
    let power = ["", "k", "m", "g", "t"].iter().position(|p| *p == prefix)?;
    let binary_of_nothing = power == 0 && base == 1024;
    (!binary_of_nothing).then_some(base.pow(u32::try_from(power).ok()?) * bits)
}

impl FromStr for Rate {
    type Err = RateError;
    fn from_str(text: &str) -> Result<Self, RateError> {
        let bad = |why| RateError { text: text.to_owned(), why };
        let lower = text.trim().to_ascii_lowercase();
        let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
        let (number, rest) = lower.split_at(digits);
        let unknown =
            "a number and a unit such as kbit, mbit, gbit (bits) or kbps, mbps (bytes) are expected";
        let unit = u128::from(unit(rest.trim()).ok_or_else(|| bad(unknown))?);
        // At most nine decimals, as integers: a rate must not depend on how floats round.
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits =
            |t: &str, most| !t.is_empty() && t.len() <= most && t.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole, 15) || !digits(part, 9) {
            return Err(bad(unknown));
        }
        let number = |t: &str| t.parse::<u128>().map_err(|_| bad(unknown));
        let scale = 10u128.pow(u32::try_from(part.len()).unwrap_or_default());
        let bits = number(whole)? * unit + number(part)? * unit / scale;
        let bits =
            u64::try_from(bits).ok().filter(|b| *b <= MOST).ok_or_else(|| bad("100tbit are the most"))?;
        if bits < LEAST {
            return Err(bad("8kbit are the least"));
        }
        Ok(Self(bits / 8 * 8))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("tbit", 12u32), ("gbit", 9), ("mbit", 6), ("kbit", 3), ("bit", 0)];
        let fits = units.iter().find(|(_, zeros)| self.0.is_multiple_of(10u64.pow(*zeros)));
        let (name, zeros) = fits.copied().unwrap_or(("bit", 0));
        write!(f, "{}{name}", self.0 / 10u64.pow(zeros))
    }
}

impl Serialize for Rate {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What may flow, in the container's view. A container's limit is for each of its interfaces, a network's for all its
/// containers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// What is received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Rate>,
    /// What is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Rate>,
}

impl RateLimit {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What labels (or options) ask for.
    ///
    /// # Errors
    /// A rate that is none.
    pub fn from_labels(labels: &Labels) -> Result<Self, RateError> {
        let rate = |key: &str| labels.get(key).map(|text| text.parse::<Rate>()).transpose();
        Ok(Self { ingress: rate(INGRESS_LABEL)?, egress: rate(EGRESS_LABEL)? })
    }

    /// This limit, and where it says nothing, the other.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { ingress: self.ingress.or(other.ingress), egress: self.egress.or(other.egress) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_tc_reads_them() {
        let check = |text: &str, bits: u64| assert_eq!(text.parse(), Ok(Rate(bits)), "{text}");
        check("8mbit", 8_000_000);
        check("8MBit", 8_000_000);
        check("8 mbit", 8_000_000);
        check("1gbit", 1_000_000_000);
        check("500kbit", 500_000);
        check("100mbps", 800_000_000);
        check("9600bps", 76_800);
        check("1.5mbit", 1_500_000);
        check("1mibit", 1_048_576);
        check("1kibps", 8192);
        check("80000", 80_000);
        check("100tbit", MOST);
        for bad in [
            "",
            "fast",
            "mbit",
            "8mb",
            "8 m",
            "-8mbit",
            "1..5mbit",
            "1e6",
            "7kbit",
            "0",
            "101tbit",
            "8ibit",
            "99999999999999999999mbit",
            "1.2.3mbit",
            ".mbit",
        ] {
            let error = bad.parse::<Rate>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid rate {bad:?}: ")), "{error}");
        }
    }

    #[test]
    fn rates_are_shown_as_they_are_written() {
        for text in ["8mbit", "1gbit", "500kbit", "1500kbit", "1048576bit", "100tbit"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn labels_say_limits() {
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let limit = RateLimit::from_labels(&labels(&[("weft.ingress", "8mbit"), ("x", "y")])).unwrap();
        assert_eq!(limit, RateLimit { ingress: Some(Rate(8_000_000)), egress: None });
        assert!(RateLimit::from_labels(&labels(&[("weft.egress", "much")])).is_err());
        assert!(RateLimit::from_labels(&Labels::new()).unwrap().is_empty());
    }
}
