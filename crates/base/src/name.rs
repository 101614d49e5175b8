//! Names that people give to things: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, Docker's rule for containers
//! and volumes; and, with fewer rules, those of networks.

use std::fmt;

/// A validated name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Name(String);

/// Why a text is not a name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("name {text:?} is invalid, only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
pub struct NameError {
    /// The text that was refused.
    pub text: String,
}

impl Name {
    /// Checks `text` and takes it as a name.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let ok = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        if ok { Ok(Self(text)) } else { Err(NameError { text }) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name with few rules, as networks have (libnetwork `config.ValidateName`): not blank, one line, at most 255 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct FreeName(String);

/// Why a text is not even a name with few rules.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("name {text:?} is invalid: it must be one line that is not blank, of at most 255 bytes")]
pub struct FreeNameError {
    /// The text that was refused.
    pub text: String,
}

impl FreeName {
    /// Checks `text` and takes it as a name.
    pub fn new(text: impl Into<String>) -> Result<Self, FreeNameError> {
        let text = text.into();
        let ok = !text.trim().is_empty() && text.len() <= 255 && !text.contains(char::is_control);
        if ok { Ok(Self(text)) } else { Err(FreeNameError { text }) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text {
    ($type:ident, $error:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl std::str::FromStr for $type {
            type Err = $error;
            fn from_str(text: &str) -> Result<Self, $error> {
                Self::new(text)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(d)?).map_err(serde::de::Error::custom)
            }
        }
    };
}
text!(Name, NameError);
text!(FreeName, FreeNameError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rules() {
        for good in ["a", "test 01", "ü", "-x"] {
            assert!(FreeName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "  ", "a\nb", &"x".repeat(256)] {
            assert!(FreeName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn dockers_rule() {
        for good in ["a", "web-1", "A.b_c", "0"] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "_a", "a b", "a/b", "ü", "a:b"] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }
}
