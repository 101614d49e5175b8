//! Joining a hijacked HTTP connection to a process's streams.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Request, header},
    response::{IntoResponse, Response},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_cloud::Attachment;

use crate::ApiVersion;

/// Content type of a stream in frames, known to clients since 1.42.
const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
/// Content type of a stream as it is.
const RAW: &str = "application/vnd.docker.raw-stream";

/// The content type of a process's output.
pub(crate) fn content_type(framed: bool, version: ApiVersion) -> &'static str {
    if framed && version >= ApiVersion::v1(42) { MULTIPLEXED } else { RAW }
}

/// How long a client may take to read the head of an answer whose stream is there already. Clients that read the head by a
/// buffer and the stream behind its back (docker-py) lose what comes together with it.
const HEAD_FIRST: Duration = Duration::from_millis(10);

/// Answers with an upgrade and joins the streams; without an upgrade request the output alone is streamed. `at_once`: there
/// is something to read before the process says anything.
pub(crate) fn answer(
    mut request: Request<Body>,
    attached: Attachment,
    version: ApiVersion,
    at_once: bool,
) -> Response {
    let kind = content_type(attached.is_framed(), version);
    if let Some((response, connection)) = weft_api_kit::hijack(&mut request, kind) {
        tokio::spawn(async move {
            match connection.await {
                Ok(client) => {
                    if at_once {
                        tokio::time::sleep(HEAD_FIRST).await;
                    }
                    let framed = attached.is_framed();
                    let (input, mut output) = tokio::io::split(client);
                    let result = attached.run(input, &mut output).await;
                    if let Err(error) = &result {
                        // The answer's head is sent: only the stream can tell why nothing was started.
                        let told = output.write_all(&told(&weft_base::chain(error), framed)).await;
                        tracing::trace!(?told, "told a client why its process did not start");
                    }
                    let closed = output.shutdown().await;
                    tracing::trace!(?closed, "a client's stream ended");
                    ended(result);
                }
                Err(error) => tracing::debug!(%error, "a client asked for an upgrade and went away"),
            }
        });
        return response;
    }
    let (ours, mut theirs) = tokio::io::duplex(64 << 10);
    let (sender, body) = weft_api_kit::body_channel();
    let gone = sender.clone();
    tokio::spawn(async move {
        let (input, output) = tokio::io::split(ours);
        // A process that is silent would never notice that nobody reads.
        tokio::select! {
            result = attached.run(input, output) => ended(result),
            () = gone.closed() => tracing::trace!("an attached client went away"),
        }
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; 32 << 10];
        while let Ok(n @ 1..) = theirs.read(&mut buffer).await {
            if !sender.send(buffer[..n].to_vec()).await {
                break;
            }
        }
    });
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

/// A line of text as the process would have printed it.
fn told(text: &str, framed: bool) -> Vec<u8> {
    let line = format!("{text}\r\n");
    if !framed {
        return line.into_bytes();
    }
    let length = u32::try_from(line.len()).unwrap_or(0);
    [&[1, 0, 0, 0], &length.to_be_bytes()[..], line.as_bytes()].concat()
}

pub(crate) fn ended<T: std::fmt::Debug, E: std::error::Error + 'static>(result: Result<T, E>) {
    match result {
        Ok(left) => tracing::trace!(?left, "an attached client left"),
        Err(error) => tracing::debug!(error = weft_base::chain(&error), "an attachment failed"),
    }
}
