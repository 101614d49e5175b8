//! Errors as Docker's clients read them: a status code and `{"message": "…"}`.

use axum::{
    Json,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;
use weft_cloud::CloudError;

/// An answer that is not a success.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    message: String,
}

impl ApiError {
    /// An answer with `status` and `message`.
    #[must_use]
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// 400: the request itself is wrong.
    #[must_use]
    pub fn bad_request(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 501 or 400 in Docker's manner: Weft cannot do what was asked for, and says so by its name.
    #[must_use]
    pub fn unsupported(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("{what} is not supported by Weft"))
    }

    /// The text, for streams that have begun and can only carry the error in their body.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

/// Shorthand of this crate.
pub(crate) type Result<T, E = ApiError> = std::result::Result<T, E>;

impl From<CloudError> for ApiError {
    fn from(error: CloudError) -> Self {
        let status = match &error {
            // To dockerd, what it does not have is a wrong word in the request.
            CloudError::Unsupported(_) => StatusCode::BAD_REQUEST,
            other => weft_api_kit::status_of(other),
        };
        Self { status, message: error.to_string() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status == StatusCode::NOT_MODIFIED {
            return self.status.into_response();
        }
        (self.status, Json(json!({ "message": self.message }))).into_response()
    }
}

/// Any path or method that this API does not have.
pub(crate) async fn no_such_page(_request: Request) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "page not found")
}
