//! `GET /containers/{id}/logs`.

use axum::{
    Extension,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use bytes::{BufMut, BytesMut};
use weft_base::{Clock, SystemClock};
use weft_cloud::{Caller, LogEntry, LogQuery, LogSource};

use crate::{
    ApiError, ApiVersion, Face,
    error::Result,
    hijack::content_type,
    query::{self, Params},
};

fn parse(params: &Params) -> Result<LogQuery> {
    let (stdout, stderr) = (params.flag("stdout"), params.flag("stderr"));
    if !(stdout || stderr) {
        return Err(ApiError::bad_request("Bad parameters: you must choose at least one stream".into()));
    }
    let now = SystemClock.now();
    let moment = |name: &str| match params.text(name) {
        None | Some("0") => Ok(None),
        Some(text) => query::moment(text, now).map(Some),
    };
    Ok(LogQuery {
        stdout,
        stderr,
        since: moment("since")?,
        until: moment("until")?,
        // Anything that is no number means all, as in dockerd.
        tail: params.text("tail").and_then(|t| t.parse().ok()),
        follow: params.flag("follow"),
    })
}

/// How entries are written out.
#[derive(Clone, Copy)]
struct Shape {
    tty: bool,
    timestamps: bool,
    details: bool,
    /// Lines of one stream may share a frame: nobody waits for the single line.
    gathered: bool,
}

pub(super) async fn logs(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response> {
    let wanted = parse(&params)?;
    let mut source = face.cloud.container_logs(&caller, &id, wanted).await?;
    let shape = Shape {
        tty: source.tty,
        timestamps: params.flag("timestamps"),
        details: params.flag("details"),
        gathered: !params.flag("follow"),
    };
    let (sender, body) = weft_api_kit::body_channel();
    tokio::spawn(async move {
        loop {
            let batch = tokio::select! {
                batch = source.reader.next_batch() => batch,
                () = sender.closed() => return,
            };
            match batch {
                Ok(None) => return,
                Ok(Some(entries)) => {
                    let mut out = BytesMut::with_capacity(entries.iter().map(|e| e.line.len() + 64).sum());
                    let mut open = None;
                    for entry in &entries {
                        open = write(&mut out, entry, shape, open);
                    }
                    if !sender.send(out.freeze()).await {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "reading a container's log failed");
                    let mut out = BytesMut::new();
                    frame(
                        &mut out,
                        LogSource::Stderr,
                        shape.tty,
                        &[format!("Error grabbing logs: {error}\n").as_bytes()],
                    );
                    sender.send(out.freeze()).await;
                    return;
                }
            }
        }
    });
    Ok(([(header::CONTENT_TYPE, content_type(!shape.tty, version))], body).into_response())
}

/// A frame that more may be added to: its source and where it begins.
type OpenFrame = Option<(LogSource, usize)>;

/// A frame is not filled beyond this: clients hold one in memory.
const GATHERED: usize = 32 << 10;

fn write(out: &mut BytesMut, entry: &LogEntry, shape: Shape, open: OpenFrame) -> OpenFrame {
    let mut head = String::new();
    if shape.timestamps {
        // Fixed width, unlike everywhere else.
        head = entry.time.rfc3339_nanos();
        head.push(' ');
    }
    if shape.details {
        let details = entry.attrs.iter().flat_map(|a| a.iter());
        let pairs: Vec<String> = details.map(|(k, v)| format!("{}={}", escape(k), escape(v))).collect();
        head.push_str(&pairs.join(","));
        head.push(' ');
    }
    let end: &[u8] = if entry.partial { b"" } else { b"\n" };
    let parts: [&[u8]; 3] = [head.as_bytes(), &entry.line, end];
    if let Some((source, begin)) = open.filter(|(source, _)| shape.gathered && *source == entry.stream)
        && out.len() - begin < GATHERED
    {
        parts.iter().for_each(|part| out.put_slice(part));
        let length = u32::try_from(out.len() - begin - HEAD).unwrap_or(u32::MAX);
        out[begin + 4..begin + HEAD].copy_from_slice(&length.to_be_bytes());
        return Some((source, begin));
    }
    let begin = out.len();
    frame(out, entry.stream, shape.tty, &parts);
    (!shape.tty).then_some((entry.stream, begin))
}

/// Bytes of a frame's head.
const HEAD: usize = 8;

fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
            b' ' => "+".into(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// One frame of the multiplexed stream: source, three zeros, length, content; just the content for a terminal.
fn frame(out: &mut BytesMut, source: LogSource, tty: bool, parts: &[&[u8]]) {
    if !tty {
        let length: usize = parts.iter().map(|p| p.len()).sum();
        out.put_u8(if source == LogSource::Stdout { 1 } else { 2 });
        out.put_bytes(0, 3);
        out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    }
    for part in parts {
        out.put_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_share_frames_where_nobody_waits() {
        let entry = |stream, line: &'static str| LogEntry {
            stream,
            time: weft_base::Timestamp::EPOCH,
            line: line.into(),
            partial: false,
            attrs: None,
        };
        let entries =
            [entry(LogSource::Stdout, "a"), entry(LogSource::Stdout, "bc"), entry(LogSource::Stderr, "d")];
        for (gathered, expected) in [
            (true, &b"\x01\0\0\0\0\0\0\x05a\nbc\n\x02\0\0\0\0\0\0\x02d\n"[..]),
            (false, b"\x01\0\0\0\0\0\0\x02a\n\x01\0\0\0\0\0\0\x03bc\n\x02\0\0\0\0\0\0\x02d\n"),
        ] {
            let shape = Shape { tty: false, timestamps: false, details: false, gathered };
            let (mut out, mut open) = (BytesMut::new(), None);
            for entry in &entries {
                open = write(&mut out, entry, shape, open);
            }
            assert_eq!(&out[..], expected);
        }
    }

    #[test]
    fn frames_carry_source_and_length() {
        let mut out = BytesMut::new();
        frame(&mut out, LogSource::Stderr, false, &[b"ab", b"\n"]);
        assert_eq!(&out[..], b"\x02\0\0\0\0\0\0\x03ab\n");
        let mut out = BytesMut::new();
        frame(&mut out, LogSource::Stdout, true, &[b"ab\n"]);
        assert_eq!(&out[..], b"ab\n");
    }
}
