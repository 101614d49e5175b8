//! How a container finds names, and the one option of resolv.conf(5) that decides about names without a dot.

use serde::{Deserialize, Serialize};

/// Name resolution, as asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// Name servers.
    #[serde(default)]
    pub servers: Vec<String>,
    /// Search domains.
    #[serde(default)]
    pub search: Vec<String>,
    /// Options such as `ndots:2`.
    #[serde(default)]
    pub options: Vec<String>,
}

/// `ndots` without a number of dots. dockerd drops such an option and writes `ndots:0` (libnetwork `removeInvalidNDots`); the C
/// library, where it reads one, takes it for 0 (`atoi`), musl passes it over.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("DNS option {option:?} names no number of dots: it is taken for ndots:0")]
pub struct NoDots {
    /// As written.
    pub option: String,
}

/// The most dots that the C libraries know (`RES_MAXNDOTS`): more are as many.
const MOST_DOTS: u8 = 15;

/// How many dots a name has, at least, before it is asked as it is; `None` when the option is another one.
///
/// # Errors
/// It is no number that can be.
#[must_use]
pub fn ndots(option: &str) -> Option<Result<u8, NoDots>> {
    let (name, value) = option.split_once(':').unwrap_or((option, ""));
    let number = || {
        let digits = value.strip_prefix('+').unwrap_or(value);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NoDots { option: option.to_owned() });
        }
        // What does not fit is more than there can be.
        Ok(digits.parse::<u8>().unwrap_or(MOST_DOTS).min(MOST_DOTS))
    };
    (name == "ndots").then(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_counted_up_to_what_the_c_library_knows() {
        let check = |option: &str, expected: Option<Option<u8>>| {
            assert_eq!(ndots(option).map(Result::ok), expected, "{option}");
        };
        check("ndots:0", Some(Some(0)));
        check("ndots:5", Some(Some(5)));
        check("ndots:+5", Some(Some(5)));
        check("ndots:15", Some(Some(15)));
        for many in ["ndots:16", "ndots:256", "ndots:99999999999999999999"] {
            check(many, Some(Some(15)));
        }
        for bad in ["ndots", "ndots:", "ndots:x", "ndots:3x", "ndots:-1", "ndots:1.5"] {
            check(bad, Some(None));
        }
        for other in ["edns0", "timeout:3", "ndotsx:1", "xndots:1", ""] {
            check(other, None);
        }
        let said = ndots("ndots:x").unwrap().unwrap_err().to_string();
        assert_eq!(said, "DNS option \"ndots:x\" names no number of dots: it is taken for ndots:0");
    }
}
