//! Docker's progress stream: one JSON object a line, errors in the stream once it has begun.

use std::future::Future;

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use weft_api_kit::BodySender;
use weft_cloud::{Progress, ProgressSink};

use crate::{ApiError, error::Result};

/// Runs `work` with a sink for its progress, and streams what it says. A failure before anything was said is an
/// ordinary error answer, as in dockerd; a later one is the stream's last line.
pub(crate) async fn stream<F>(work: impl FnOnce(ProgressSink) -> F) -> Result<Response>
where
    F: Future<Output = weft_cloud::Result<()>> + Send + 'static,
{
    begin(work, false).await
}

/// The same, but every failure is the stream's last line (`POST /images/load` at dockerd).
pub(crate) async fn stream_all<F>(work: impl FnOnce(ProgressSink) -> F) -> Result<Response>
where
    F: Future<Output = weft_cloud::Result<()>> + Send + 'static,
{
    begin(work, true).await
}

async fn begin<F>(work: impl FnOnce(ProgressSink) -> F, in_stream: bool) -> Result<Response>
where
    F: Future<Output = weft_cloud::Result<()>> + Send + 'static,
{
    let (sink, mut progress) = ProgressSink::channel();
    let mut work = Box::pin(work(sink));
    let mut finished = None;
    let first = tokio::select! {
        biased;
        step = progress.recv() => step,
        result = &mut work => {
            if !in_stream {
                result?;
                finished = Some(Ok(()));
            } else {
                finished = Some(result);
            }
            None
        }
    };
    let (sender, body) = weft_api_kit::body_channel();
    tokio::spawn(async move {
        if let Some(step) = first {
            sender.send_json(&line(&step)).await;
        }
        let result = loop {
            if let Some(result) = finished.take() {
                break result;
            }
            tokio::select! {
                biased;
                Some(step) = progress.recv() => {
                    if !sender.send_json(&line(&step)).await {
                        return; // The client went away; dropping the work cancels it.
                    }
                }
                result = &mut work => finished = Some(result),
                () = sender.closed() => return,
            }
        };
        while let Ok(step) = progress.try_recv() {
            sender.send_json(&line(&step)).await;
        }
        if let Err(error) = result {
            fail(&sender, error.into()).await;
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

async fn fail(sender: &BodySender, error: ApiError) {
    let text = error.message();
    sender.send_json(&json!({"errorDetail": {"message": text}, "error": text})).await;
}

/// A step in the words of `jsonmessage`.
fn line(step: &Progress) -> Value {
    match step {
        Progress::Status { id, text } if id.is_empty() => json!({"status": text}),
        Progress::Status { id, text } => json!({"status": text, "id": id, "progressDetail": {}}),
        Progress::Bytes { id, action, current, total } => {
            let mut detail = json!({"current": current});
            if let (Some(total), Some(map)) = (total, detail.as_object_mut()) {
                map.insert("total".into(), (*total).into());
            }
            let mut line =
                json!({"status": action, "progressDetail": detail, "progress": bar(*current, *total)});
            if let (false, Some(map)) = (id.is_empty(), line.as_object_mut()) {
                map.insert("id".into(), id.clone().into());
            }
            line
        }
        Progress::Output(text) => json!({"stream": text}),
        Progress::Aux(value) => json!({"aux": value}),
    }
}

/// `[=====>     ]  1.2MB/3.4MB`, 50 characters wide.
fn bar(current: u64, total: Option<u64>) -> String {
    let Some(total) = total.filter(|t| *t > 0) else { return human(current) };
    let done = usize::try_from(current.min(total).saturating_mul(50) / total).unwrap_or(50);
    let head = if done < 50 { ">" } else { "" };
    let blank = 50usize.saturating_sub(done + head.len());
    format!("[{}{head}{}]  {}/{}", "=".repeat(done), " ".repeat(blank), human(current), human(total))
}

/// Bytes with a decimal prefix and four significant digits, as go-units writes them.
pub(crate) fn human(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let mut size = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB", "PB"].iter();
    let mut unit = "B";
    for next in units.by_ref() {
        unit = next;
        if size < 1000.0 || *next == "PB" {
            break;
        }
        size /= 1000.0;
    }
    let digits = match size {
        s if s >= 1000.0 => 0,
        s if s >= 100.0 => 1,
        s if s >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{size:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_go_units() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1536, "1.536kB"),
            (212_345_678, "212.3MB"),
            (12_345_678, "12.35MB"),
        ] {
            assert_eq!(human(bytes), expected);
        }
    }

    #[test]
    fn bars_are_fifty_wide() {
        for (current, total) in [(0, 100), (50, 100), (99, 100), (100, 100), (200, 100)] {
            let text = bar(current, Some(total));
            assert_eq!(text.find(']'), Some(51), "{text}");
        }
        assert_eq!(bar(10, None), "10B");
    }
}
