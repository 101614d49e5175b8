//! Reading bodies and writing answers the way Docker's clients expect.

use axum::{
    body::{Body, to_bytes},
    extract::{FromRequest, Request},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    error::{ApiError, Result},
    fold,
};

/// The largest JSON body that is read, bytes.
const LARGEST_BODY: usize = 16 << 20;

/// A JSON body. An absent body is the type's empty object, unknown fields are ignored, as in dockerd.
pub(crate) struct JsonBody<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self> {
        let (parts, body) = request.into_parts();
        let bytes = read(body).await?;
        if bytes.is_empty() {
            return parse(b"{}").map(Self);
        }
        let kind = parts.headers.get(header::CONTENT_TYPE).map_or("", |v| v.to_str().unwrap_or_default());
        if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
            return Err(ApiError::bad_request(format!(
                "unsupported Content-Type header ({kind}): must be 'application/json'"
            )));
        }
        parse(&bytes).map(Self)
    }
}

async fn read(body: Body) -> Result<axum::body::Bytes> {
    to_bytes(body, LARGEST_BODY)
        .await
        .map_err(|e| ApiError::bad_request(format!("reading the request's body: {e}")))
}

/// Reads one JSON value and nothing behind it. A null field counts as absent, as it does to Go.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let mut value: Value = serde_json::from_slice(bytes).map_err(|e| {
        ApiError::bad_request(if e.is_eof() {
            "invalid JSON: unexpected end of JSON input".to_owned()
        } else {
            format!("invalid JSON: {e}")
        })
    })?;
    drop_nulls(&mut value);
    fold::from_value(value).map_err(|e| ApiError::bad_request(format!("invalid JSON: {e}")))
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
