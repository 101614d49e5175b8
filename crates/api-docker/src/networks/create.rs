//! `POST /networks/create`.

use axum::{Extension, extract::State, http::StatusCode, response::Response};
use serde_json::json;
use weft_cloud::Caller;

use super::wire::CreateBody;
use crate::{
    Face,
    error::Result,
    respond::{self, JsonBody},
};

pub(super) async fn create(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    JsonBody(body): JsonBody<CreateBody>,
) -> Result<Response> {
    let (draft, labels) = body.draft()?;
    let network = face.cloud.network_create(&caller, draft, labels).await?;
    respond::json(StatusCode::CREATED, &json!({"Id": network.spec.id, "Warning": ""}))
}
