//! Bodies that are made while they are sent.

use std::{convert::Infallible, pin::Pin};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;

/// The sending end of a streamed body. Sending fails once the client has gone.
#[derive(Clone, Debug)]
pub struct BodySender(mpsc::Sender<Bytes>);

impl BodySender {
    /// Sends a chunk; `false` when nobody reads any more.
    pub async fn send(&self, chunk: impl Into<Bytes>) -> bool {
        self.0.send(chunk.into()).await.is_ok()
    }

    /// Sends a value as one line of JSON ending in CR LF, as Docker's progress streams do.
    pub async fn send_json<T: serde::Serialize + Sync>(&self, value: &T) -> bool {
        match json_line(value) {
            Some(line) => self.send(line).await,
            None => true,
        }
    }

    /// Completes when nobody reads any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// A body and the end to fill it by, with room for a few chunks.
pub fn body_channel() -> (BodySender, Body) {
    let (send, receive) = mpsc::channel(16);
    let chunks = stream::unfold(receive, |mut receive| async move { Some((receive.recv().await?, receive)) });
    (BodySender(send), Body::from_stream(chunks.map(Ok::<Bytes, Infallible>)))
}

/// A body out of the chunks that arrive at `receive`; an error cuts the body off.
pub fn receiver_body<E>(receive: mpsc::Receiver<Result<Bytes, E>>) -> Body
where
    E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    Body::from_stream(stream::unfold(
        receive,
        |mut receive| async move { Some((receive.recv().await?, receive)) },
    ))
}

/// A body with one line of JSON for each value.
pub fn json_lines<T: serde::Serialize>(values: impl Stream<Item = T> + Send + 'static) -> Body {
    let lines: Pin<Box<dyn Stream<Item = Result<Bytes, Infallible>> + Send>> =
        Box::pin(values.filter_map(|v| std::future::ready(json_line(&v).map(Ok))));
    Body::from_stream(lines)
}

fn json_line<T: serde::Serialize>(value: &T) -> Option<Bytes> {
    let mut line = match serde_json::to_vec(value) {
        Ok(line) => BytesMut::from(line.as_slice()),
        Err(error) => {
            tracing::error!(%error, "a value of a stream has no JSON form");
            return None;
        }
    };
    line.extend_from_slice(b"\r\n");
    Some(line.freeze())
}
