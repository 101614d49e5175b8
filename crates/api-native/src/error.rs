//! Errors of this API: a status code and `{"message": "…"}`.

use axum::{
    Json,
    extract::{
        Request,
        rejection::{JsonRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::json;
use weft_cloud::CloudError;

/// An answer that is not a success.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    message: String,
}

/// Shorthand of this crate.
pub(crate) type Result<T, E = ApiError> = std::result::Result<T, E>;

impl From<CloudError> for ApiError {
    fn from(error: CloudError) -> Self {
        Self { status: weft_api_kit::status_of(&error), message: error.to_string() }
    }
}

/// A body that cannot be read; its own words say where and why.
impl From<JsonRejection> for ApiError {
    fn from(refused: JsonRejection) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: refused.body_text() }
    }
}

/// A query that cannot be read.
impl From<QueryRejection> for ApiError {
    fn from(refused: QueryRejection) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: refused.body_text() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "message": self.message }))).into_response()
    }
}

pub(crate) async fn no_such_page(request: Request) -> ApiError {
    let message = format!("{} {} is not part of this API", request.method(), request.uri().path());
    ApiError { status: StatusCode::NOT_FOUND, message }
}
