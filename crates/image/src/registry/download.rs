//! Fetching one blob: hashed while it is written, continued by range requests after a broken transfer (also one of an
//! earlier process), unpacked while it arrives when it comes from its first byte.
//!
//! ```text
//!  registry ──chunks──> [transfer: retries, ranges, sizes] ──channel──> thread: ingest (+ unpacking)
//!             ▲ broken: pause, "Range: bytes=N-"                        dropped half-way: the partial file stays
//! ```

use std::{io::Write, time::Duration};

use bytes::{Bytes, BytesMut};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, header};
use tokio::{sync::mpsc, task::JoinHandle};
use weft_base::Backoff;
use weft_model::Digest;

use super::{
    error::{RegistryError, Result},
    manifest::Descriptor,
    session::{Session, refused},
    transport::explain,
    types::{Meter, ProgressFn, say},
};
use crate::{
    content::{ContentStore, Ingest},
    error::{ImageError, from_io},
    layer::{LayerWriter, StagedLayer},
    pins::Pin,
    snapshot::Snapshots,
};

/// Bytes gathered before they go to the writing thread.
const PIECE: usize = 256 << 10;

/// A layer that was fetched.
pub(super) enum Fetched {
    /// Stored and unpacked, not yet in its place.
    Staged(Box<StagedLayer>),
    /// Stored; its unpacking comes later.
    Stored(Pin),
}

/// Where blobs come from and go to.
pub(super) struct Download<'a> {
    pub session: &'a Session,
    pub scopes: &'a [String],
    /// Repository path.
    pub path: &'a str,
    pub content: &'a ContentStore,
    pub snapshots: &'a Snapshots,
    pub progress: &'a ProgressFn,
}

enum Target {
    Layer(Box<LayerWriter>),
    Blob(Ingest),
}

/// The thread that writes.
struct Writer {
    pieces: mpsc::Sender<Option<Bytes>>,
    thread: JoinHandle<Result<Fetched, ImageError>>,
}

impl Writer {
    fn start(mut target: Target, blob: Digest, diff_id: Digest) -> Self {
        let (pieces, mut receiver) = mpsc::channel::<Option<Bytes>>(4);
        let thread = tokio::task::spawn_blocking(move || {
            loop {
                match receiver.blocking_recv() {
                    Some(Some(bytes)) => match &mut target {
                        Target::Layer(writer) => writer.push(bytes)?,
                        Target::Blob(ingest) => ingest.write_all(&bytes).map_err(|e| from_io("layer", e))?,
                    },
                    Some(None) => break,
                    None => return Err(ImageError::Internal("the transfer was broken off".into())),
                }
            }
            match target {
                Target::Layer(writer) => {
                    let staged = writer.finish(Some(diff_id))?;
                    Ok(Fetched::Staged(Box::new(staged)))
                }
                Target::Blob(ingest) => ingest.commit(Some(blob)).map(Fetched::Stored),
            }
        });
        Self { pieces, thread }
    }

    /// Hands over a piece; `false` when the thread gave up.
    async fn push(&self, bytes: Bytes) -> bool {
        self.pieces.send(Some(bytes)).await.is_ok()
    }

    async fn finish(self) -> Result<Fetched, ImageError> {
        // A thread that gave up has the reason.
        drop(self.pieces.send(None).await);
        self.join().await
    }

    /// Waits until the thread has let go of the partial file.
    async fn give_up(self, error: RegistryError) -> RegistryError {
        drop(self.join().await);
        error
    }

    async fn join(self) -> Result<Fetched, ImageError> {
        drop(self.pieces);
        self.thread.await.map_err(|e| ImageError::Internal(e.to_string()))?
    }
}

/// How one transfer ended early.
enum Broken {
    /// The same may work later.
    Passing(RegistryError),
    /// It will not.
    For(RegistryError),
    /// The writing thread gave up.
    Writer,
    /// The server has less than what we have.
    Range,
}

impl Download<'_> {
    /// Fetches a layer.
    pub async fn layer(&self, at: &Descriptor, diff_id: Digest) -> Result<Fetched> {
        let mut again = true;
        loop {
            let ingest = self.resume(at.digest).await?;
            let resumed = ingest.written();
            let result = self.attempt(at, diff_id, ingest).await;
            let corrupt = matches!(&result, Err(RegistryError::Image(e)) if !matches!(e, ImageError::Io { .. } | ImageError::Internal(_)))
                || matches!(result, Err(RegistryError::Verification { .. }));
            if corrupt {
                self.discard(at.digest).await;
            }
            // What an earlier process left may be what is wrong.
            if corrupt && resumed > 0 && again {
                tracing::warn!(digest = %at.digest, "partial layer did not fit, it is fetched from its start");
                again = false;
                continue;
            }
            return result;
        }
    }

    /// The ingest; another task that is just dropping it gets a moment.
    async fn resume(&self, digest: Digest) -> Result<Ingest> {
        let mut tries = 0;
        loop {
            let content = self.content.clone();
            let opened = tokio::task::spawn_blocking(move || content.resume(&digest)).await;
            match opened.map_err(|e| ImageError::Internal(e.to_string()))? {
                Err(ImageError::Invalid(_)) if tries < 200 => tries += 1,
                other => return Ok(other?),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Removes a partial that cannot become the blob: committing it checks the digest, and drops it.
    async fn discard(&self, digest: Digest) {
        let content = self.content.clone();
        let work = move || content.resume(&digest).and_then(|partial| partial.commit(Some(digest))).map(drop);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(work).await {
            tracing::debug!(%digest, error = weft_base::chain(&error), "partial layer is dropped");
        }
    }

    async fn attempt(&self, at: &Descriptor, diff_id: Digest, mut ingest: Ingest) -> Result<Fetched> {
        let id = at.digest.short();
        if at.size > 0 && ingest.written() > at.size {
            ingest.restart()?;
        }
        let mut offset = ingest.written();
        let target = match offset {
            0 => Target::Layer(Box::new(self.snapshots.receive(ingest)?.expecting(Some(at.digest)))),
            _ => Target::Blob(ingest),
        };
        let writer = Writer::start(target, at.digest, diff_id);
        let mut meter = Meter::new(self.progress, &id, "Downloading", at.size);
        let options = self.session.options();
        let mut backoff = Backoff::new(options.retry_floor, options.retry_ceiling);
        let mut tries = 1;
        while at.size == 0 || offset < at.size {
            let before = offset;
            let error = match self.transfer(at, &mut offset, &writer, &mut meter).await {
                Ok(()) => break,
                Err(Broken::Passing(error)) => error,
                Err(Broken::Writer) => break,
                Err(Broken::For(error)) => return Err(writer.give_up(error).await),
                Err(Broken::Range) => {
                    let error = RegistryError::Verification { what: "filesystem layer", digest: at.digest };
                    return Err(writer.give_up(error).await);
                }
            };
            if offset > before {
                (tries, backoff) = (1, Backoff::new(options.retry_floor, options.retry_ceiling));
            }
            if tries >= options.attempts {
                return Err(writer.give_up(error).await);
            }
            tries += 1;
            let pause = backoff.next_delay();
            tracing::info!(digest = %at.digest, offset, error = weft_base::chain(&error), ?pause, "download is continued");
            let seconds = pause.as_secs().max(1);
            let plural = if seconds == 1 { "" } else { "s" };
            say(self.progress, &id, format!("Retrying in {seconds} second{plural}"));
            tokio::time::sleep(pause).await;
        }
        say(self.progress, &id, "Verifying Checksum");
        match writer.finish().await {
            Ok(fetched) => {
                say(self.progress, &id, "Download complete");
                Ok(fetched)
            }
            Err(ImageError::DigestMismatch { what, .. }) if what == "blob" => {
                Err(RegistryError::Verification { what: "filesystem layer", digest: at.digest })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// One request, from `offset` on.
    async fn transfer(
        &self,
        at: &Descriptor,
        offset: &mut u64,
        writer: &Writer,
        meter: &mut Meter,
    ) -> Result<(), Broken> {
        let url = self.session.url(&format!("{}/blobs/{}", self.path, at.digest)).map_err(Broken::For)?;
        let from = *offset;
        let make = |r: RequestBuilder| {
            Ok(if from > 0 { r.header(header::RANGE, format!("bytes={from}-")) } else { r })
        };
        let response = self.session.send(self.scopes, Method::GET, &url, make).await;
        let response =
            response.map_err(|e| if e.transient() { Broken::Passing(e) } else { Broken::For(e) })?;
        let skip = match response.status() {
            StatusCode::PARTIAL_CONTENT if range_start(&response).is_none_or(|start| start == from) => 0,
            // A server that knows no ranges starts over; what we have is read again and left out.
            StatusCode::OK => from,
            StatusCode::RANGE_NOT_SATISFIABLE => return Err(Broken::Range),
            status if status.is_success() => return Err(Broken::Range),
            _ => {
                let error = refused(response, &Method::GET, &url).await;
                return Err(if error.transient() { Broken::Passing(error) } else { Broken::For(error) });
            }
        };
        self.body(response, at, offset, skip, writer, meter, &url).await
    }

    #[expect(clippy::too_many_arguments, reason = "the state of one transfer")]
    async fn body(
        &self,
        mut response: Response,
        at: &Descriptor,
        offset: &mut u64,
        mut skip: u64,
        writer: &Writer,
        meter: &mut Meter,
        url: &Url,
    ) -> Result<(), Broken> {
        let stall = self.session.options().stall;
        let mut pending = BytesMut::new();
        let end = loop {
            let mut chunk = match tokio::time::timeout(stall, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => break None,
                Ok(Err(error)) => break Some(explain(&Method::GET, url, &error).await),
                Err(_) => break Some(broken(url, "i/o timeout")),
            };
            let left_out = chunk.len().min(usize::try_from(skip).unwrap_or(usize::MAX));
            skip -= left_out as u64;
            let _known = chunk.split_to(left_out);
            *offset += chunk.len() as u64;
            if at.size > 0 && *offset > at.size {
                return Err(Broken::For(RegistryError::Verification {
                    what: "filesystem layer size",
                    digest: at.digest,
                }));
            }
            pending.extend_from_slice(&chunk);
            if pending.len() >= PIECE && !writer.push(pending.split().freeze()).await {
                return Err(Broken::Writer);
            }
            meter.at(*offset);
        };
        if !pending.is_empty() && !writer.push(pending.freeze()).await {
            return Err(Broken::Writer);
        }
        match end {
            Some(error) => Err(Broken::Passing(error)),
            None if at.size > 0 && *offset < at.size => Err(Broken::Passing(broken(url, "unexpected EOF"))),
            None => Ok(()),
        }
    }
}

fn broken(url: &Url, why: &str) -> RegistryError {
    RegistryError::Request { method: "Get".into(), url: url.to_string(), why: why.into(), transient: true }
}

/// The first byte that `Content-Range` names.
fn range_start(response: &Response) -> Option<u64> {
    let value = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    value.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}
