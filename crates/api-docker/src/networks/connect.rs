//! `POST /networks/{id}/connect` and `/disconnect`.

use axum::{
    Extension,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use weft_cloud::Caller;

use crate::{
    ApiVersion, Face,
    containers::{EndpointSettings, endpoint},
    error::Result,
    respond::JsonBody,
};

/// Body of both.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Body {
    container: String,
    endpoint_config: EndpointSettings,
    force: bool,
}

pub(super) async fn connect(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    JsonBody(mut body): JsonBody<Body>,
) -> Result<Response> {
    if version < ApiVersion::v1(48) {
        body.endpoint_config.gw_priority = None;
    }
    let wishes = endpoint(&id, &body.endpoint_config)?;
    face.cloud.network_connect(&caller, &id, &body.container, wishes).await?;
    Ok(().into_response())
}

pub(super) async fn disconnect(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<Body>,
) -> Result<Response> {
    face.cloud.network_disconnect(&caller, &id, &body.container, body.force).await?;
    Ok(().into_response())
}
