//! `POST /networks/create`.

use axum::{Extension, extract::State, http::StatusCode, response::Response};
use serde_json::json;
use weft_cloud::Caller;

use super::wire::CreateBody;
use crate::{
    ApiVersion, Face,
    error::Result,
    respond::{self, JsonBody},
};

pub(super) async fn create(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    JsonBody(body): JsonBody<CreateBody>,
) -> Result<Response> {
    let settings = match body.settings_from()? {
        Some(name) => Some(face.cloud.network_settings(&caller, &name).await?),
        None => None,
    };
    let body = match &settings {
        Some(settings) => body.with(settings),
        None => body,
    };
    let (draft, labels) = body.over(&face.facts.network_options).draft(version)?;
    let (network, warnings) = face.cloud.network_create(&caller, draft, labels).await?;
    respond::json(StatusCode::CREATED, &json!({"Id": network.spec.id, "Warning": warnings.join("\n")}))
}
