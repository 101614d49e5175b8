//! A process's streams over a WebSocket (RFC 6455): output as messages, messages in as input.
//!
//! The handshake and framing of the server side are all that attach needs; they are small enough to stand here.

use axum::{
    body::Body,
    http::{HeaderValue, Request, StatusCode},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use weft_cloud::Attachment;

use crate::{ApiError, error::Result};

const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The longest message taken, bytes.
const LONGEST: u64 = 1 << 20;

/// Kinds of frames that are sent or answered (RFC 6455, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// Answers the handshake and joins the streams; output goes in messages of `kind`.
pub(crate) fn answer(mut request: Request<Body>, attached: Attachment, kind: Opcode) -> Result<Response> {
    let bad = || ApiError::new(StatusCode::BAD_REQUEST, "malformed WebSocket handshake");
    let key = request.headers().get("sec-websocket-key").ok_or_else(bad)?;
    let accept = STANDARD.encode(Sha1::new().chain_update(key.as_bytes()).chain_update(MAGIC).finalize());
    let (mut response, connection) =
        weft_api_kit::hijack(&mut request, "application/octet-stream").ok_or_else(bad)?;
    let headers = response.headers_mut();
    headers.remove("content-type");
    headers.insert("sec-websocket-accept", HeaderValue::from_str(&accept).map_err(|_| bad())?);
    tokio::spawn(async move {
        if let Ok(client) = connection.await {
            let ended = join(client, attached, kind).await;
            tracing::debug!(?ended, "a WebSocket ended");
        }
    });
    Ok(response)
}

async fn join(client: weft_api_kit::Hijacked, attached: Attachment, kind: Opcode) -> std::io::Result<()> {
    let (mut from_client, to_client) = tokio::io::split(client);
    // Output and the answers to pings meet here; no frame is cut by another.
    let to_client = tokio::sync::Mutex::new(to_client);
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move {
        let (input, output) = tokio::io::split(ours);
        crate::hijack::ended(attached.run(input, output).await);
    });
    let (mut from_process, mut to_process) = tokio::io::split(theirs);
    let input = async {
        while let Some((opcode, payload)) = read_frame(&mut from_client).await? {
            match opcode {
                0..=2 => to_process.write_all(&payload).await?,
                op if op == Opcode::Close as u8 => break,
                op if op == Opcode::Ping as u8 => {
                    send(&mut *to_client.lock().await, Opcode::Pong, &payload).await?;
                }
                _ => {}
            }
        }
        to_process.shutdown().await
    };
    let output = async {
        let mut buffer = vec![0; 32 << 10];
        loop {
            let n = from_process.read(&mut buffer).await?;
            let mut to_client = to_client.lock().await;
            if n == 0 {
                send(&mut *to_client, Opcode::Close, &[]).await?;
                return to_client.shutdown().await;
            }
            send(&mut *to_client, kind, &buffer[..n]).await?;
        }
    };
    tokio::select! { ended = input => ended, ended = output => ended }
}

async fn send(to: &mut (impl AsyncWrite + Unpin), kind: Opcode, payload: &[u8]) -> std::io::Result<()> {
    to.write_all(&header(kind, payload.len())).await?;
    to.write_all(payload).await?;
    to.flush().await
}

/// The head of an unmasked message of `length` bytes in one frame.
fn header(kind: Opcode, length: usize) -> Vec<u8> {
    let mut head = vec![0x80 | kind as u8];
    match u16::try_from(length) {
        Ok(short @ 0..=125) => head.push(short.to_be_bytes()[1]),
        Ok(medium) => {
            head.push(126);
            head.extend_from_slice(&medium.to_be_bytes());
        }
        Err(_) => {
            head.push(127);
            head.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    head
}

/// One frame of a client, unmasked; `None` at the end.
async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0u8; 2];
    match from.read_exact(&mut head).await {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    };
    let length = match head[1] & 0x7f {
        126 => u64::from(from.read_u16().await?),
        127 => from.read_u64().await?,
        short => u64::from(short),
    };
    if head[1] & 0x80 == 0 || length > LONGEST {
        return Err(std::io::Error::other("a frame is unmasked or too long"));
    }
    let mut mask = [0u8; 4];
    from.read_exact(&mut mask).await?;
    let mut payload = vec![0; usize::try_from(length).unwrap_or(0)];
    from.read_exact(&mut payload).await?;
    for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    Ok(Some((head[0] & 0x0f, payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn masked_frames_are_read_and_others_refused() {
        let frame = [0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2];
        assert_eq!(read_frame(&mut &frame[..]).await.unwrap(), Some((1, b"hi".to_vec())));
        assert!(read_frame(&mut &[0x81, 0x02, b'h', b'i'][..]).await.is_err());
        assert_eq!(read_frame(&mut &[][..]).await.unwrap(), None);
    }

    #[test]
    fn lengths_take_the_shortest_form() {
        assert_eq!(header(Opcode::Binary, 5), [0x82, 5]);
        assert_eq!(header(Opcode::Text, 300), [0x81, 126, 1, 44]);
        assert_eq!(header(Opcode::Binary, 70_000).len(), 10);
    }
}
