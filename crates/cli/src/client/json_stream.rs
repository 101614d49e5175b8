//! A body that is a sequence of JSON values: events, statistics, progress.

use anyhow::Context as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;

/// Reads one value after the other.
#[derive(Debug)]
pub struct JsonStream {
    body: Incoming,
    buffer: Vec<u8>,
}

impl JsonStream {
    /// Of an answer's body.
    #[must_use]
    pub fn new(body: Incoming) -> Self {
        Self { body, buffer: Vec::new() }
    }

    /// The next value, or `None` at the end.
    pub async fn next(&mut self) -> anyhow::Result<Option<Value>> {
        loop {
            if let Some(value) = take(&mut self.buffer)? {
                return Ok(Some(value));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.context("reading the daemon's answer")?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

/// Takes the first whole value out of `buffer`.
fn take(buffer: &mut Vec<u8>) -> anyhow::Result<Option<Value>> {
    let mut values = serde_json::Deserializer::from_slice(buffer).into_iter::<Value>();
    match values.next() {
        None => Ok(None),
        Some(Ok(value)) => {
            let used = values.byte_offset();
            buffer.drain(..used);
            Ok(Some(value))
        }
        Some(Err(error)) if error.is_eof() => Ok(None),
        Some(Err(error)) => Err(error).context("reading the daemon's answer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_when_they_are_whole() {
        let mut buffer = b"{\"a\":1}\r\n{\"b\"".to_vec();
        assert_eq!(take(&mut buffer).unwrap().unwrap()["a"], 1);
        assert!(take(&mut buffer).unwrap().is_none());
        buffer.extend_from_slice(b":2} ");
        assert_eq!(take(&mut buffer).unwrap().unwrap()["b"], 2);
        assert!(take(&mut buffer).unwrap().is_none());
        assert!(take(&mut b"nonsense".to_vec()).is_err());
    }
}
