//! Rename and update.

use axum::{
    Extension,
    extract::{Path, State},
    response::Response,
};
use serde::Deserialize;
use serde_json::json;
use weft_cloud::{Caller, ContainerUpdate};

use super::{
    parse,
    wire::{ResourcesWire, RestartPolicyWire},
};
use crate::{
    ApiError, Face,
    error::Result,
    query::Params,
    respond::{self, JsonBody},
};

pub(super) async fn rename(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response> {
    let Some(name) = params.text("name") else {
        return Err(ApiError::bad_request("Neither old nor new names may be empty".into()));
    };
    face.cloud.container_rename(&caller, &id, name.trim_start_matches('/')).await?;
    respond::no_content()
}

/// Body of an update: limits and, optionally, a restart policy.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Body {
    #[serde(flatten)]
    resources: ResourcesWire,
    #[serde(rename = "RestartPolicy")]
    restart: RestartPolicyWire,
}

pub(super) async fn update(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<Body>,
) -> Result<Response> {
    let restart = match body.restart.name.as_str() {
        "" => None,
        _ => Some(parse::restart_policy(&body.restart, false)?),
    };
    let change = ContainerUpdate { resources: parse::limits(&body.resources)?, restart };
    let warnings = face.cloud.container_update(&caller, &id, change).await?;
    respond::ok(&json!({"Warnings": warnings}))
}
