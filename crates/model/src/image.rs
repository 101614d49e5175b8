//! Images: content by digest, and the references that name it.
//!
//! The reference grammar is that of the distribution project (`reference/regexp.go`): an optional domain,
//! path components, an optional tag and an optional digest. A short name is completed with `docker.io` and
//! `library/`, as every Docker client expects.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Digest, Image, Resource, Scope};

/// An image held in the content store, keyed by its configuration's digest (the image id).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSpec {
    /// Digest of the configuration blob: the image id.
    pub id: Digest,
    /// Digest of the manifest that was pulled or built, with its media type; absent for images from
    /// archives that carry none.
    #[serde(default)]
    pub manifest: Option<Digest>,
    /// Layer blobs in order, lowest first, as stored (may be compressed).
    pub layers: Vec<Digest>,
    /// Digests of the uncompressed layer archives, lowest first.
    pub diff_ids: Vec<Digest>,
    /// `repository:tag` names that point here, fully qualified (`docker.io/library/alpine:3.20`).
    #[serde(default)]
    pub tags: Vec<String>,
    /// `repository@digest` names under which it was pulled or pushed, fully qualified.
    #[serde(default)]
    pub digests: Vec<String>,
    /// The image it was committed or built from.
    #[serde(default)]
    pub parent: Option<Digest>,
}

/// Facts computed once when the image was stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageStatus {
    /// Bytes of all unpacked layers.
    pub size: u64,
    /// When the last name was given to it.
    #[serde(default)]
    pub tagged_at: Option<weft_base::Timestamp>,
}

impl Resource for Image {
    const KIND: &'static str = "image";
    const SCOPE: Scope = Scope::Host;
    fn key(&self) -> String {
        self.spec.id.to_string()
    }
}

/// A tag or a digest, or both, behind a repository name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NameTag {
    /// The tag, if one was written.
    pub tag: Option<String>,
    /// The digest, if one was written.
    pub digest: Option<Digest>,
}

/// A parsed, fully qualified image reference.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Registry host and optional port, `docker.io` when none was written.
    pub domain: String,
    /// Repository path, `library/` added for one-component names on `docker.io`.
    pub path: String,
    /// What was written behind the name.
    pub pick: NameTag,
}

/// Why a text is no image reference; the texts are those that Docker's users know.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// Not of the grammar's form.
    #[error("invalid reference format")]
    Format,
    /// Upper-case letters in the path.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// Longer than 255 characters.
    #[error("invalid reference format: repository name must not be more than 255 characters")]
    TooLong,
    /// 64 hexadecimal digits could be an image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
}

const DEFAULT_DOMAIN: &str = "docker.io";

impl Reference {
    /// The name with domain, without tag or digest: `docker.io/library/alpine`.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The name as people write it: `alpine`, `user/app`, `host:5000/app`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.domain == DEFAULT_DOMAIN {
            self.path.strip_prefix("library/").filter(|p| !p.contains('/')).unwrap_or(&self.path).to_owned()
        } else {
            self.repository()
        }
    }

    /// The reference as people write it, with tag and digest as given.
    #[must_use]
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_name(), self.pick)
    }

    /// The same reference with tag `latest` where neither tag nor digest was written.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.pick.tag.is_none() && self.pick.digest.is_none() {
            self.pick.tag = Some("latest".to_owned());
        }
        self
    }
}

impl fmt::Display for NameTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.repository(), self.pick)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()) {
            return Err(ReferenceError::LooksLikeId(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| ReferenceError::Format)?)),
            None => (text, None),
        };
        // A colon belongs to a tag only behind the last slash; before it, to a port.
        let last = rest.rfind('/').map_or(0, |i| i + 1);
        let (name, tag) = match rest[last..].find(':') {
            Some(colon) => (&rest[..last + colon], Some(&rest[last + colon + 1..])),
            None => (rest, None),
        };
        if tag.is_some_and(|t| !is_tag(t)) {
            return Err(ReferenceError::Format);
        }
        let (domain, path) = split_domain(name);
        if !is_domain(&domain) {
            return Err(ReferenceError::Format);
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) && is_path(&path.to_ascii_lowercase()) {
            return Err(ReferenceError::Uppercase(path));
        }
        if !is_path(&path) {
            return Err(ReferenceError::Format);
        }
        if domain.len() + 1 + path.len() > 255 {
            return Err(ReferenceError::TooLong);
        }
        Ok(Self { domain, path, pick: NameTag { tag: tag.map(str::to_owned), digest } })
    }
}

fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.to_lowercase() != first =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
    let path = if domain == DEFAULT_DOMAIN && !path.contains('/') && !path.is_empty() {
        format!("library/{path}")
    } else {
        path.to_owned()
    };
    (domain.to_owned(), path)
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= 128
        && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (domain, None),
    };
    if port.is_some_and(|p| p.is_empty() || !p.bytes().all(|b| b.is_ascii_digit())) {
        return false;
    }
    if let Some(v6) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return v6.parse::<std::net::Ipv6Addr>().is_ok();
    }
    host.split('.').all(|part| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

fn is_path(path: &str) -> bool {
    path.split('/').all(is_component)
}

/// Lower-case alphanumeric runs joined by one `.`, one or two `_`, or any number of `-`.
fn is_component(part: &str) -> bool {
    let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !part.starts_with(alnum) || !part.ends_with(alnum) {
        return false;
    }
    part.split(alnum).all(|sep| matches!(sep, "" | "." | "_" | "__") || sep.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_completed_and_written_back_short() {
        let d = format!("sha256:{}", "ab".repeat(32));
        for (text, full, familiar) in [
            ("alpine", "docker.io/library/alpine", "alpine"),
            ("alpine:3", "docker.io/library/alpine:3", "alpine:3"),
            ("user/app:x", "docker.io/user/app:x", "user/app:x"),
            ("localhost/app", "localhost/app", "localhost/app"),
            ("h:5000/a/b:t", "h:5000/a/b:t", "h:5000/a/b:t"),
            ("docker.io/alpine", "docker.io/library/alpine", "alpine"),
            ("index.docker.io/library/a", "docker.io/library/a", "a"),
            ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
            (&format!("a@{d}"), &format!("docker.io/library/a@{d}"), &format!("a@{d}")),
            (&format!("a:t@{d}"), &format!("docker.io/library/a:t@{d}"), &format!("a:t@{d}")),
        ] {
            let r: Reference = text.parse().unwrap();
            assert_eq!((r.to_string().as_str(), r.familiar().as_str()), (full, familiar), "{text}");
        }
    }

    #[test]
    fn what_docker_refuses_is_refused() {
        let long = "a/".repeat(130) + "a";
        let id = "a".repeat(64);
        for text in
            ["", ":x", "a:", "a::b", "-a", "a-", "a..b", "a___b", "a@sha256:00", "a b", "a/", "/a", "A:b c"]
        {
            assert_eq!(text.parse::<Reference>(), Err(ReferenceError::Format), "{text:?}");
        }
        assert_eq!("Alpine".parse::<Reference>(), Err(ReferenceError::Uppercase("library/Alpine".into())));
        assert_eq!(long.parse::<Reference>(), Err(ReferenceError::TooLong));
        assert_eq!(id.parse::<Reference>(), Err(ReferenceError::LooksLikeId(id.clone())));
    }
}
