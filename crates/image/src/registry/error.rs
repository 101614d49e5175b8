//! What can go wrong with a registry, in the texts that Docker's users know.
//!
//! Sources of the texts: distribution `registry/api/errcode`, `registry/client/errors.go`; moby
//! `distribution/errors.go` (what a pull makes of a registry's answer).

use weft_model::{Digest, Reference};

use super::platform::{Platform, PlatformError};
use crate::ImageError;

/// Result with this module's error.
pub type Result<T, E = RegistryError> = std::result::Result<T, E>;

/// One error of a registry's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// `MANIFEST_UNKNOWN`.
    pub code: String,
    /// Its text.
    pub message: String,
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.to_ascii_lowercase().replace('_', " "), self.message)
    }
}

/// Why a registry operation failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The repository is not there, or not for us.
    #[error(
        "pull access denied for {name}, repository does not exist or may require 'docker login': {cause}"
    )]
    PullDenied {
        /// Repository as people write it.
        name: String,
        /// The registry's words.
        cause: Code,
    },
    /// No such tag or digest.
    #[error("manifest for {reference} not found: {cause}")]
    ManifestUnknown {
        /// As people write it.
        reference: String,
        /// The registry's words.
        cause: Code,
    },
    /// No such repository.
    #[error("repository {name} not found: {cause}")]
    RepositoryUnknown {
        /// As people write it.
        name: String,
        /// The registry's words.
        cause: Code,
    },
    /// Any other refusal, in the registry's words.
    #[error("{}", join(.codes))]
    Refused {
        /// HTTP status.
        status: u16,
        /// At least one.
        codes: Vec<Code>,
    },
    /// An answer that is not of the API.
    #[error("{0}")]
    Unexpected(String),
    /// The request did not get an answer. `why` has Go's words where Docker's users know them.
    #[error("{method} \"{url}\": {why}")]
    Request {
        /// `Get`, `Head`, …
        method: String,
        /// Whole URL.
        url: String,
        /// What happened.
        why: String,
        /// A later try may work.
        transient: bool,
    },
    /// A token server refused, or gave no answer; the request that needed the token was not sent.
    #[error("{method} \"{url}\"")]
    Authorize {
        /// `Get`, `Head`, …
        method: String,
        /// Whole URL of that request.
        url: String,
        /// What became of the token.
        #[source]
        cause: Box<RegistryError>,
    },
    /// The registry wants a password and there is none.
    #[error("{method} \"{url}\": no basic auth credentials")]
    NoCredentials {
        /// `Get`, `Head`, …
        method: String,
        /// Whole URL.
        url: String,
    },
    /// The same, as a push says it.
    #[error("no basic auth credentials")]
    NoPushCredentials,
    /// A login was refused.
    #[error("login attempt to {url} failed with status: {status}")]
    LogIn {
        /// Whole URL.
        url: String,
        /// `401 Unauthorized`.
        status: String,
    },
    /// A token server refused a login.
    #[error(transparent)]
    LogInRefused(Box<RegistryError>),
    /// Nothing in the list fits.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoPlatform(Platform),
    /// The one image there is for something else.
    #[error(
        "image with reference {reference} was found but its platform ({actual}) does not match the specified platform \
         ({wanted})"
    )]
    WrongPlatform {
        /// As people write it.
        reference: String,
        /// Asked for.
        wanted: Box<Platform>,
        /// Found.
        actual: Box<Platform>,
    },
    /// Images of before 2016.
    #[error(
        "Docker Image Format v1 and Docker Image manifest version 2, schema 1 are not supported. Suggest the author of \
         {0} to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2"
    )]
    SchemaOne(String),
    /// Not an image of a kind that can be run here.
    #[error("{0}")]
    Unsupported(String),
    /// Content does not match its digest.
    #[error("{what} verification failed for digest {digest}")]
    Verification {
        /// `manifest`, `filesystem layer`, …
        what: &'static str,
        /// The promised digest.
        digest: Digest,
    },
    /// Nothing local has the name.
    #[error("An image does not exist locally with the tag: {0}")]
    NoSuchTag(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The platform cannot be read.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// A web server that is no registry refused.
    #[error("{message}")]
    Remote {
        /// HTTP status.
        status: u16,
        /// The whole text.
        message: String,
    },
    /// Storing failed.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// What kind of failure it is, for status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// 404.
    NotFound,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 400.
    Invalid,
    /// The registry cannot be reached or does not work: 500 at Docker.
    Unavailable,
    /// Anything else: 500.
    Other,
}

fn join(codes: &[Code]) -> String {
    match codes {
        [] => "<nil>".into(),
        [one] => one.to_string(),
        many => {
            let lines: Vec<_> = many.iter().map(Code::to_string).collect();
            format!("errors:\n{}\n", lines.join("\n"))
        }
    }
}

impl RegistryError {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::PullDenied { .. }
            | Self::ManifestUnknown { .. }
            | Self::RepositoryUnknown { .. }
            | Self::NoPlatform(_)
            | Self::WrongPlatform { .. }
            | Self::Image(ImageError::WrongPlatform { .. })
            | Self::NoSuchTag(_) => ErrorKind::NotFound,
            Self::LogIn { .. } => ErrorKind::Unauthorized,
            Self::LogInRefused(refused) => match &**refused {
                Self::Authorize { cause, .. } => cause.kind(),
                other => other.kind(),
            },
            // With 401 the client would ask for a name and a password in the middle of a script; dockerd's is 500.
            Self::NoCredentials { .. } | Self::NoPushCredentials | Self::Authorize { .. } => ErrorKind::Other,
            Self::Refused { status: 401, .. } | Self::Remote { status: 401, .. } => ErrorKind::Unauthorized,
            Self::Refused { status: 403, .. } | Self::Remote { status: 403, .. } => ErrorKind::Forbidden,
            Self::Refused { status: 404, .. } | Self::Remote { status: 404, .. } => ErrorKind::NotFound,
            Self::Remote { status: 400, .. } => ErrorKind::Invalid,
            Self::Invalid(_) | Self::SchemaOne(_) | Self::Unsupported(_) | Self::Platform(_) => {
                ErrorKind::Invalid
            }
            Self::Request { .. } => ErrorKind::Unavailable,
            _ => ErrorKind::Other,
        }
    }

    /// Whether the same request may succeed later.
    pub(super) fn transient(&self) -> bool {
        match self {
            Self::Request { transient, .. } => *transient,
            Self::Authorize { cause, .. } => cause.transient(),
            Self::Refused { status, .. } => is_transient(*status),
            _ => false,
        }
    }

    /// What a pull of `reference` makes of a registry's refusal.
    pub(super) fn for_pull(self, reference: &Reference) -> Self {
        let Self::Refused { codes, .. } = &self else { return self };
        let Some(cause) = codes.first().cloned() else { return self };
        let name = reference.familiar_name();
        match cause.code.as_str() {
            "DENIED" => Self::PullDenied { name, cause },
            "MANIFEST_UNKNOWN" => Self::ManifestUnknown { reference: reference.familiar(), cause },
            "NAME_UNKNOWN" => Self::RepositoryUnknown { name, cause },
            _ => self,
        }
    }

    /// What a push makes of it.
    pub(super) fn for_push(self) -> Self {
        match self {
            Self::NoCredentials { .. } => Self::NoPushCredentials,
            Self::Authorize { cause, .. } => *cause,
            other => other,
        }
    }
}

pub(super) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// Reads a refusal: the registry's error codes, or those that the status implies.
pub(super) fn refusal(
    status: u16,
    challenge_error: Option<(&str, Option<&str>)>,
    body: &[u8],
) -> RegistryError {
    let mut codes = Vec::new();
    // RFC 6750, section 3.1: the bearer challenge says why a token was not enough.
    match challenge_error {
        Some(("insufficient_scope", text)) => {
            let message = text.unwrap_or("requested access to the resource is denied").to_owned();
            codes.push(Code { code: "DENIED".into(), message });
        }
        Some(("invalid_token", text)) => {
            let message = text.unwrap_or("authentication required").to_owned();
            codes.push(Code { code: "UNAUTHORIZED".into(), message });
        }
        _ => {}
    }
    if codes.is_empty() {
        codes = codes_in(body, status);
    }
    if codes.is_empty() {
        let (code, message) = match status {
            401 => ("UNAUTHORIZED", "authentication required"),
            403 => ("DENIED", "requested access to the resource is denied"),
            429 => ("TOOMANYREQUESTS", "too many requests"),
            _ => {
                let text = String::from_utf8_lossy(&body[..body.len().min(1024)]).into_owned();
                let text = text.trim();
                let reason =
                    http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("");
                let message = if text.is_empty() { String::new() } else { format!(": {text}") };
                let code = "UNKNOWN".to_owned();
                let message = format!("received unexpected HTTP status: {status} {reason}{message}");
                return RegistryError::Refused { status, codes: vec![Code { code, message }] };
            }
        };
        codes.push(Code { code: code.into(), message: message.into() });
    }
    RegistryError::Refused { status, codes }
}

fn codes_in(body: &[u8], status: u16) -> Vec<Code> {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else { return Vec::new() };
    let text =
        |v: &serde_json::Value, key: &str| v.get(key).and_then(|t| t.as_str()).unwrap_or("").to_owned();
    if let Some(list) = value.get("errors").and_then(|e| e.as_array()) {
        let code = |e: &serde_json::Value| {
            let (code, message) = (text(e, "code"), text(e, "message"));
            let message = if message.is_empty() { code.to_ascii_lowercase() } else { message };
            Code { code, message }
        };
        return list.iter().map(code).collect();
    }
    // Token servers and gateways answer `{"details": …}`, `{"message": …}` or `{"error": …}`.
    let code = match status {
        401 => "UNAUTHORIZED",
        403 => "DENIED",
        429 => "TOOMANYREQUESTS",
        _ => "UNKNOWN",
    };
    let found = ["details", "message", "error_description", "error"].map(|k| text(&value, k));
    let message = found.into_iter().find(|t| !t.is_empty());
    message.map(|message| Code { code: code.into(), message }).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_in_dockers_words() {
        let reference: Reference = "127.0.0.1:5000/x/y:t".parse().unwrap();
        let body = |code: &str, text: &str| {
            format!(r#"{{"errors":[{{"code":"{code}","message":"{text}","detail":1}}]}}"#)
        };
        for (status, challenge, body, expected) in [
            (
                404,
                None,
                body("MANIFEST_UNKNOWN", "manifest unknown"),
                "manifest for 127.0.0.1:5000/x/y:t not found: manifest unknown: manifest unknown",
            ),
            (
                404,
                None,
                body("NAME_UNKNOWN", "repository name not known to registry"),
                "repository 127.0.0.1:5000/x/y not found: name unknown: repository name not known to registry",
            ),
            (
                401,
                Some(("insufficient_scope", None)),
                body("UNAUTHORIZED", "authentication required"),
                "pull access denied for 127.0.0.1:5000/x/y, repository does not exist or may require 'docker login': denied: \
              requested access to the resource is denied",
            ),
            (
                401,
                None,
                body("UNAUTHORIZED", "authentication required"),
                "unauthorized: authentication required",
            ),
            (401, None, String::new(), "unauthorized: authentication required"),
            (
                401,
                None,
                r#"{"details":"incorrect username or password"}"#.into(),
                "unauthorized: incorrect username or password",
            ),
            (429, None, body("TOOMANYREQUESTS", "slow down"), "toomanyrequests: slow down"),
            (502, None, "<html>".into(), "unknown: received unexpected HTTP status: 502 Bad Gateway: <html>"),
        ] {
            assert_eq!(
                refusal(status, challenge, body.as_bytes()).for_pull(&reference).to_string(),
                expected
            );
        }
    }
}
