//! The API version a request speaks: `/v1.41/…`, or the newest without a prefix.

use axum::{
    extract::Request,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{ApiError, path};

/// A version of the Docker Engine API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// Always 1 so far.
    pub major: u16,
    /// 24 and up.
    pub minor: u16,
}

/// The oldest version that is answered.
pub const MINIMUM: ApiVersion = ApiVersion { major: 1, minor: 24 };
/// The newest version that is answered.
pub const MAXIMUM: ApiVersion = ApiVersion { major: 1, minor: 51 };

impl ApiVersion {
    /// Version `1.minor`, for comparisons.
    #[must_use]
    pub const fn v1(minor: u16) -> Self {
        Self { major: 1, minor }
    }

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Takes the version off the path, refuses those out of range, and marks the answer with ours.
pub(crate) async fn negotiate(mut request: Request, next: Next) -> Response {
    let mut response = match moved(&request) {
        Some(answer) => answer,
        None => match rewrite(&mut request) {
            // Whatever is asked for (moby's `optionsHandler`).
            Ok(()) if request.method() == Method::OPTIONS => StatusCode::OK.into_response(),
            Ok(()) => next.run(request).await,
            Err(error) => error.into_response(),
        },
    };
    let headers = response.headers_mut();
    headers.insert("api-version", HeaderValue::from_static("1.51"));
    headers.insert("docker-experimental", HeaderValue::from_static("false"));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    headers
        .insert("server", HeaderValue::from_static(concat!("Weft/", env!("CARGO_PKG_VERSION"), " (linux)")));
    response
}

/// Readers are told the clean path, as by dockerd's router. A client that changes something would not follow (Go's do not), so
/// [`rewrite`] cleans there.
fn moved(request: &Request) -> Option<Response> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let clean = path::clean(request.uri().path())?;
    let target = match request.uri().query() {
        Some(query) => format!("{clean}?{query}"),
        None => clean,
    };
    Some((StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, target)]).into_response())
}

fn rewrite(request: &mut Request) -> Result<(), ApiError> {
    let full = path::clean(request.uri().path()).unwrap_or_else(|| request.uri().path().to_owned());
    let full = path::readable(&full);
    let (version, rest) = split_version(&full);
    let version = version.unwrap_or(MAXIMUM);
    if version < MINIMUM {
        return Err(ApiError::bad_request(format!(
            "client version {version} is too old. Minimum supported API version is {MINIMUM}, please upgrade \
             your client to a newer version"
        )));
    }
    if version > MAXIMUM {
        return Err(ApiError::bad_request(format!(
            "client version {version} is too new. Maximum supported API version is {MAXIMUM}"
        )));
    }
    let rest = path::encode_names(rest);
    let target = match request.uri().query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest,
    };
    let uri: Uri = target.parse().map_err(|_| ApiError::bad_request("malformed request target".into()))?;
    *request.uri_mut() = uri;
    request.extensions_mut().insert(version);
    Ok(())
}

/// `/v1.41/info` is version 1.41 of `/info`.
fn split_version(path: &str) -> (Option<ApiVersion>, &str) {
    let Some(rest) = path.strip_prefix("/v") else { return (None, path) };
    let (first, tail) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match ApiVersion::parse(first) {
        Some(version) => (Some(version), if tail.is_empty() { "/" } else { tail }),
        None => (None, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_is_split_only_when_it_is_a_version() {
        let v = |minor| Some(ApiVersion::v1(minor));
        for (path, expected) in [
            ("/v1.41/info", (v(41), "/info")),
            ("/v1.24", (v(24), "/")),
            ("/volumes", (None, "/volumes")),
            ("/version", (None, "/version")),
            ("/vx.y/info", (None, "/vx.y/info")),
        ] {
            assert_eq!(split_version(path), expected, "{path}");
        }
    }
}
