//! Reading bodies and writing answers the way Docker's clients expect.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::BytesMut;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    error::{ApiError, Result},
    fold,
};

/// The largest JSON body that is read, bytes.
const LARGEST_BODY: usize = 16 << 20;

/// Longest pause between two pieces of a JSON body. Streams (archives, attached input) have none.
const BODY_PAUSE: Duration = Duration::from_secs(30);

/// A JSON body. An absent body is the type's empty object, unknown fields are ignored, as in dockerd.
pub(crate) struct JsonBody<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self> {
        let (parts, body) = request.into_parts();
        let bytes = read(body, LARGEST_BODY).await?;
        if bytes.is_empty() {
            return parse(b"{}").map(Self);
        }
        check_kind(&parts.headers)?;
        parse(&bytes).map(Self)
    }
}

/// A JSON body that must be there.
pub(crate) struct NeededJson<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for NeededJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self> {
        let (parts, body) = request.into_parts();
        let bytes = read(body, LARGEST_BODY).await?;
        if !bytes.is_empty() {
            check_kind(&parts.headers)?;
        }
        parse(&bytes).map(Self)
    }
}

fn check_kind(headers: &HeaderMap) -> Result<()> {
    let kind = headers.get(header::CONTENT_TYPE).map_or("", |v| v.to_str().unwrap_or_default());
    if kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "unsupported Content-Type header ({kind}): must be 'application/json'"
    )))
}

/// Reads a body of at most `limit` bytes. One that stops coming is given up.
pub(crate) async fn read(body: Body, limit: usize) -> Result<Bytes> {
    read_within(body, limit, BODY_PAUSE).await
}

async fn read_within(body: Body, limit: usize, pause: Duration) -> Result<Bytes> {
    let mut body = Limited::new(body, limit);
    let mut all = BytesMut::new();
    loop {
        match tokio::time::timeout(pause, body.frame()).await {
            Ok(Some(Ok(frame))) => all.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            Ok(None) => return Ok(all.freeze()),
            Ok(Some(Err(error))) if error.is::<LengthLimitError>() => {
                return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "http: request body too large"));
            }
            Ok(Some(Err(error))) => {
                return Err(ApiError::bad_request(format!("reading the request's body: {error}")));
            }
            Err(_) => {
                let text = format!("the request's body stopped coming for {} seconds", pause.as_secs());
                return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, text));
            }
        }
    }
}

/// Reads one JSON value and nothing behind it. A null field counts as absent, and the case of field names does not
/// count, as it is for Go.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let invalid = |why: String| ApiError::bad_request(format!("invalid JSON: {why}"));
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let mut value = match values.next() {
        None => return Err(invalid("got EOF while reading request body".to_owned())),
        Some(Err(e)) if e.is_eof() => return Err(invalid("unexpected EOF".to_owned())),
        Some(Err(e)) => return Err(invalid(fold::explain(bytes).unwrap_or_else(|| e.to_string()))),
        Some(Ok(value)) => value,
    };
    if !bytes[values.byte_offset()..].trim_ascii().is_empty() {
        return Err(ApiError::bad_request("unexpected content after JSON".to_owned()));
    }
    // To Go, null is an object in which nothing is said.
    if value.is_null() {
        value = Value::Object(serde_json::Map::new());
    }
    drop_nulls(&mut value);
    fold::from_value(value).map_err(|e| invalid(e.to_string()))
}

/// Removes null fields at every depth. In the map of a container's networks a null entry means no wishes, so
/// it becomes an empty object.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let endpoints = map.iter_mut().find(|(key, _)| key.eq_ignore_ascii_case("EndpointsConfig"));
            if let Some((_, Value::Object(endpoints))) = endpoints {
                for wishes in endpoints.values_mut().filter(|w| w.is_null()) {
                    *wishes = Value::Object(serde_json::Map::new());
                }
            }
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// A JSON answer.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Result<Response> {
    let body = serde_json::to_vec(value)
        .map_err(|e| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    Ok((status, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// 200 and a JSON value.
pub(crate) fn ok<T: Serialize>(value: &T) -> Result<Response> {
    json(StatusCode::OK, value)
}

/// 204.
pub(crate) fn no_content() -> Result<Response> {
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Sample {
        image: String,
        tty: bool,
    }

    #[test]
    fn bodies_are_read_as_go_reads_them() {
        let good = Sample { image: "a".into(), tty: true };
        for (text, expected) in [
            (r#"{"Image":"a","Tty":true}"#, Ok(good)),
            (" {\"iMAGE\":\"a\",\"tty\":true,\"new\":{}}\n", Ok(Sample { image: "a".into(), tty: true })),
            (r#"{"Image":null}"#, Ok(Sample::default())),
            ("null", Ok(Sample::default())),
            ("", Err("invalid JSON: got EOF while reading request body")),
            (" \n", Err("invalid JSON: got EOF while reading request body")),
            (r#"{"Image":"a"#, Err("invalid JSON: unexpected EOF")),
            ("{}{}", Err("unexpected content after JSON")),
            ("{} x", Err("unexpected content after JSON")),
            ("{}x", Err("unexpected content after JSON")),
            ("nonsense", Err("invalid JSON: invalid character 'o' in literal null (expecting 'u')")),
            (
                r#"{"Tty":"yes"}"#,
                Err(
                    "invalid JSON: json: cannot unmarshal string into Go struct field Sample.Tty of type bool",
                ),
            ),
        ] {
            let read = parse::<Sample>(text.as_bytes());
            match expected {
                Ok(value) => assert_eq!(read.unwrap(), value, "{text}"),
                Err(words) => assert_eq!(read.unwrap_err().message(), words, "{text}"),
            }
        }
        assert!(parse::<Sample>(&b"[".repeat(100_000)).is_err(), "deep nesting is refused, not followed");
    }

    #[tokio::test]
    async fn a_body_that_stops_is_given_up() {
        let (sender, body) = weft_api_kit::body_channel();
        sender.send("{").await;
        let error = read_within(body, 100, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::REQUEST_TIMEOUT);
        let error = read(Body::from("too long"), 4).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::PAYLOAD_TOO_LARGE);
        drop(sender);
    }
}
