//! Sending one blob: not at all when the registry has it, by a mount when another of its repositories has it, else in
//! one request (small), or as a stream that goes on where it broke off.
//!
//! Source: OCI distribution specification, "Pushing blobs"; distribution `docs/spec/api.md`.

use std::io::{Seek, SeekFrom};

use futures_util::StreamExt as _;
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, Url, header};
use tokio_util::io::ReaderStream;
use weft_base::Backoff;
use weft_model::Digest;

use super::{
    error::{RegistryError, Result},
    session::{Session, refused},
    types::{Meter, ProgressFn},
};
use crate::{content::ContentStore, error::ImageError};

/// Up to here a blob goes in one request.
const SMALL: u64 = 1 << 20;

/// What it took.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Nothing: the repository had it.
    Exists,
    /// A mount from this repository.
    Mounted(String),
    /// The bytes.
    Uploaded,
}

/// Where blobs go.
pub(super) struct Upload<'a> {
    pub session: &'a Session,
    pub scopes: &'a [String],
    /// Repository path.
    pub path: &'a str,
    pub content: &'a ContentStore,
    pub progress: &'a ProgressFn,
}

impl Upload<'_> {
    /// Sends `digest`; `from` are repositories of the same registry that may have it. With `id` bytes are told.
    pub async fn blob(&self, digest: Digest, size: u64, from: &[String], id: Option<&str>) -> Result<Sent> {
        let options = self.session.options();
        let mut backoff = Backoff::new(options.retry_floor, options.retry_ceiling);
        let mut tries = 1;
        loop {
            let error = match self.once(digest, size, from, id).await {
                Ok(sent) => return Ok(sent),
                Err(error) => error,
            };
            // An upload that the registry has forgotten, or that was disturbed, begins anew.
            let anew = matches!(&error, RegistryError::Refused { codes, .. }
                if codes.iter().any(|c| matches!(c.code.as_str(), "BLOB_UPLOAD_UNKNOWN" | "BLOB_UPLOAD_INVALID" | "DIGEST_INVALID" | "RANGE_INVALID")));
            if tries >= options.attempts || !(anew || error.transient()) {
                return Err(error);
            }
            tries += 1;
            tracing::info!(%digest, error = weft_base::chain(&error), "upload is tried again");
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    async fn once(&self, digest: Digest, size: u64, from: &[String], id: Option<&str>) -> Result<Sent> {
        if self.session.has_blob(self.scopes, self.path, &digest).await? {
            return Ok(Sent::Exists);
        }
        let mut location = None;
        for repository in from {
            match self.mount(digest, repository).await? {
                Mount::Done => return Ok(Sent::Mounted(repository.clone())),
                Mount::Upload(url) => {
                    location = Some(url);
                    break;
                }
                Mount::Refused => {}
            }
        }
        let location = match location {
            Some(url) => url,
            None => {
                let url = self.session.url(&format!("{}/blobs/uploads/", self.path))?;
                let response = self.session.call(self.scopes, Method::POST, &url, empty).await?;
                location_of(&response, &url)?
            }
        };
        if size <= SMALL {
            self.whole(digest, location).await?
        } else {
            self.stream(digest, size, location, id).await?
        }
        Ok(Sent::Uploaded)
    }

    async fn mount(&self, digest: Digest, repository: &str) -> Result<Mount> {
        let mut url = self.session.url(&format!("{}/blobs/uploads/", self.path))?;
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", repository);
        let mut scopes = self.scopes.to_vec();
        scopes.push(format!("repository:{repository}:pull"));
        let response = match self.session.send(&scopes, Method::POST, &url, empty).await {
            Ok(response) => response,
            // A token server may not give away the other repository.
            Err(RegistryError::Authorize { cause, .. })
                if matches!(*cause, RegistryError::Refused { .. }) =>
            {
                return Ok(Mount::Refused);
            }
            Err(error) => return Err(error),
        };
        match response.status() {
            StatusCode::CREATED => Ok(Mount::Done),
            StatusCode::ACCEPTED => location_of(&response, &url).map(Mount::Upload),
            _ => Ok(Mount::Refused),
        }
    }

    /// All in one request.
    async fn whole(&self, digest: Digest, mut location: Url) -> Result<()> {
        let content = self.content.clone();
        let read = tokio::task::spawn_blocking(move || content.read(&digest)).await;
        let bytes = bytes::Bytes::from(read.map_err(|e| ImageError::Internal(e.to_string()))??);
        location.query_pairs_mut().append_pair("digest", &digest.to_string());
        let put = |r: RequestBuilder| {
            Ok(r.header(header::CONTENT_TYPE, "application/octet-stream").body(bytes.clone()))
        };
        self.session.call(self.scopes, Method::PUT, &location, put).await.map(drop)
    }

    /// A stream, continued where the registry says it has come to.
    async fn stream(&self, digest: Digest, size: u64, mut location: Url, id: Option<&str>) -> Result<()> {
        let options = self.session.options();
        let mut backoff = Backoff::new(options.retry_floor, options.retry_ceiling);
        let (mut offset, mut tries) = (0, 1);
        while offset < size {
            let error = match self.patch(digest, size, offset, &location, id).await {
                Ok(next) => {
                    location = next;
                    break;
                }
                Err(error) => error,
            };
            if tries >= options.attempts || !error.transient() {
                return Err(error);
            }
            tries += 1;
            tracing::info!(%digest, error = weft_base::chain(&error), "upload is continued");
            tokio::time::sleep(backoff.next_delay()).await;
            let before = offset;
            // Without an answer of where it stands, the upload begins anew.
            (location, offset) = self.status(&location).await.ok_or(error)?;
            if offset > before {
                tries = 1;
            }
        }
        location.query_pairs_mut().append_pair("digest", &digest.to_string());
        self.session.call(self.scopes, Method::PUT, &location, empty).await.map(drop)
    }

    async fn patch(&self, digest: Digest, size: u64, offset: u64, at: &Url, id: Option<&str>) -> Result<Url> {
        let make = |request: RequestBuilder| {
            let mut file = self.content.open_blob(&digest)?;
            file.seek(SeekFrom::Start(offset))
                .map_err(ImageError::io("reading", self.content.path(&digest)))?;
            let mut meter = id.map(|id| Meter::new(self.progress, id, "Pushing", size));
            let mut done = offset;
            let stream =
                ReaderStream::with_capacity(tokio::fs::File::from_std(file), 256 << 10).map(move |piece| {
                    if let (Ok(piece), Some(meter)) = (&piece, &mut meter) {
                        done += piece.len() as u64;
                        meter.at(done);
                    }
                    piece
                });
            let mut request = request
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .header(header::CONTENT_LENGTH, size - offset);
            if offset > 0 {
                request = request.header(header::CONTENT_RANGE, format!("{offset}-{}", size - 1));
            }
            Ok(request.body(Body::wrap_stream(stream)))
        };
        // Only once: what was received so far must be asked before more is sent.
        let response = self.session.send_once(self.scopes, Method::PATCH, at, make).await?;
        if !response.status().is_success() {
            return Err(refused(response, &Method::PATCH, at).await);
        }
        location_of(&response, at)
    }

    /// Where an upload stands: its location, and the first byte that is missing.
    async fn status(&self, location: &Url) -> Option<(Url, u64)> {
        let response = self.session.call(self.scopes, Method::GET, location, Ok).await.ok()?;
        let range = response.headers().get(header::RANGE)?.to_str().ok()?;
        let last: u64 = range.trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()?;
        // `0-0` is said for nothing and for one byte alike: begin anew.
        let next = location_of(&response, location).unwrap_or_else(|_| location.clone());
        (last > 0).then_some((next, last + 1))
    }
}

enum Mount {
    Done,
    Upload(Url),
    Refused,
}

#[expect(clippy::unnecessary_wraps, reason = "the signature that a session's requests have")]
fn empty(request: RequestBuilder) -> Result<RequestBuilder> {
    Ok(request.header(header::CONTENT_LENGTH, 0))
}

fn location_of(response: &Response, base: &Url) -> Result<Url> {
    let text = response.headers().get(header::LOCATION).and_then(|v| v.to_str().ok());
    let joined = text.and_then(|t| base.join(t).ok());
    joined.ok_or_else(|| {
        RegistryError::Unexpected(format!(
            "{} answered an upload without a location",
            base.host_str().unwrap_or("")
        ))
    })
}
