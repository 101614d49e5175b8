//! `POST /auth`: are these credentials good for that registry?

use axum::{Extension, extract::State, response::Response};
use serde_json::json;
use weft_cloud::Caller;

use crate::{
    ApiError, Face,
    error::Result,
    images::LogIn,
    respond::{self, JsonBody},
};

pub(super) async fn auth(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    JsonBody(body): JsonBody<LogIn>,
) -> Result<Response> {
    let server = body.serveraddress.clone();
    let credentials = body
        .credentials()
        .ok_or_else(|| ApiError::bad_request("a user name and a password are needed".into()))?;
    let token = face.cloud.registry_login(&caller, &server, credentials).await?;
    respond::ok(&json!({"Status": "Login Succeeded", "IdentityToken": token.unwrap_or_default()}))
}
