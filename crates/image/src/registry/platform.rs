//! Platforms: `os/architecture[/variant]`, and which images of a list run where (containerd's `platforms` package:
//! normalisation, and the order in which a CPU's older relatives are taken).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What an image is made for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// Architecture in Go's words.
    pub architecture: String,
    /// Such as `v7`; often empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// The text names no platform.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlatformError {
    /// Wrong form.
    #[error("{0:?}: cannot parse platform specifier: invalid argument")]
    Form(String),
    /// Neither a system nor an architecture.
    #[error("{0:?}: unknown operating system or architecture: invalid argument")]
    Unknown(String),
}

const SYSTEMS: &[&str] = &["linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "wasip1"];
const ARCHITECTURES: &[&str] = &[
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64", "ppc64le",
    "riscv64", "s390x", "wasm",
];

impl Platform {
    /// This machine's.
    #[must_use]
    pub fn host() -> Self {
        Self::normal("linux", crate::config::architecture(), "")
    }

    fn normal(os: &str, architecture: &str, variant: &str) -> Self {
        let os = if os == "macos" { "darwin" } else { os };
        let variant = variant.to_owned();
        let (architecture, variant) = match architecture {
            "x86_64" | "x86-64" | "amd64" => ("amd64", if variant == "v1" { String::new() } else { variant }),
            "i386" | "386" => ("386", String::new()),
            "aarch64" | "arm64" => {
                ("arm64", if matches!(variant.as_str(), "8" | "v8") { String::new() } else { variant })
            }
            "armhf" => ("arm", "v7".to_owned()),
            "armel" => ("arm", "v6".to_owned()),
            "arm" => match variant.as_str() {
                "" | "7" => ("arm", "v7".to_owned()),
                "5" | "6" | "8" => ("arm", format!("v{variant}")),
                _ => ("arm", variant),
            },
            other => (other, variant),
        };
        Self { os: os.to_owned(), architecture: architecture.to_owned(), variant }
    }

    /// The same platform, written the usual way.
    #[must_use]
    pub fn normalized(&self) -> Self {
        let lower = |s: &str| s.to_ascii_lowercase();
        Self::normal(&lower(&self.os), &lower(&self.architecture), &lower(&self.variant))
    }

    /// What runs here, best first.
    fn candidates(&self) -> Vec<Self> {
        let with = |architecture: &str, variant: &str| Self {
            os: self.os.clone(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        };
        let arm = ["v8", "v7", "v6", "v5"];
        let mut out = vec![self.clone()];
        match self.architecture.as_str() {
            "amd64" => {
                let level = self.variant.strip_prefix('v').and_then(|v| v.parse::<u8>().ok()).unwrap_or(1);
                out.extend((2..level).rev().map(|l| with("amd64", &format!("v{l}"))));
                out.extend([with("amd64", ""), with("386", "")]);
            }
            "arm64" => {
                out.push(with("arm64", ""));
                out.extend(arm.iter().map(|v| with("arm", v)));
            }
            "arm" => {
                let from = arm.iter().position(|v| *v == self.variant).unwrap_or(arm.len());
                out.extend(arm.iter().skip(from).map(|v| with("arm", v)));
            }
            _ => {}
        }
        out
    }

    /// Which of `offers` serves this platform best.
    #[must_use]
    pub fn pick(&self, offers: &[Option<Self>]) -> Option<usize> {
        let offers: Vec<_> = offers.iter().map(|o| o.as_ref().map(Self::normalized)).collect();
        let place = |wanted: &Self| offers.iter().position(|o| o.as_ref() == Some(wanted));
        self.normalized().candidates().iter().find_map(place)
    }

    /// Whether an image for `offer` is what is meant by this platform: one that runs here, or one that does not say its
    /// variant (moby `OnlyPlatformWithFallback`).
    #[must_use]
    pub fn fits(&self, offer: &Self) -> bool {
        let (wanted, found) = (self.normalized(), offer.normalized());
        let same = wanted.os == found.os && wanted.architecture == found.architecture;
        self.accepts(offer) || (offer.variant.is_empty() && same)
    }

    /// Whether an image for `offer` runs here.
    #[must_use]
    pub fn accepts(&self, offer: &Self) -> bool {
        self.pick(&[Some(offer.clone())]).is_some()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let lower = text.to_ascii_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        let word =
            |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        if !parts.iter().all(word) {
            return Err(PlatformError::Form(text.to_owned()));
        }
        match parts[..] {
            [one] => {
                if SYSTEMS.contains(&one) || one == "macos" {
                    let host = Self::host();
                    return Ok(Self::normal(one, &host.architecture, &host.variant));
                }
                let platform = Self::normal("linux", one, "");
                if ARCHITECTURES.contains(&platform.architecture.as_str()) {
                    return Ok(platform);
                }
                Err(PlatformError::Unknown(text.to_owned()))
            }
            [os, architecture] => Ok(Self::normal(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::normal(os, architecture, variant)),
            _ => Err(PlatformError::Form(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written_back() {
        for (text, written) in [
            ("linux/arm64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("arm64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("Linux/X86_64", "linux/amd64"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), written, "{text}");
        }
        for text in ["", "/", "a/b/c/d", "nonsense", "linux/"] {
            assert!(text.parse::<Platform>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_best_of_a_list_is_taken() {
        let list =
            ["linux/arm/v6", "linux/arm/v7", "linux/386", "unknown/unknown", "linux/amd64", "linux/amd64/v3"];
        let offers: Vec<Option<Platform>> = list
            .iter()
            .map(|t| {
                let p: Vec<_> = t.split('/').map(str::to_owned).collect();
                let variant = p.get(2).cloned().unwrap_or_default();
                Some(Platform { os: p[0].clone(), architecture: p[1].clone(), variant })
            })
            .chain([None])
            .collect();
        for (wanted, found) in [
            ("linux/amd64", Some(4)),
            ("linux/amd64/v3", Some(5)),
            ("linux/amd64/v4", Some(5)),
            ("linux/386", Some(2)),
            ("linux/arm64", Some(1)),
            ("linux/arm/v6", Some(0)),
            ("linux/arm/v5", None),
            ("linux/riscv64", None),
        ] {
            assert_eq!(wanted.parse::<Platform>().unwrap().pick(&offers), found, "{wanted}");
        }
    }
}
