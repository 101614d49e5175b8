//! `POST /commit`.

use axum::{Extension, extract::State, http::StatusCode, response::Response};
use serde_json::json;
use weft_cloud::{Caller, CommitDraft};

use super::change::reference;
use crate::{
    ApiError, Face,
    containers::wire::ContainerConfig,
    error::Result,
    query::Params,
    respond::{self, JsonBody},
};

pub(super) async fn commit(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    params: Params,
    JsonBody(config): JsonBody<serde_json::Value>,
) -> Result<Response> {
    let container = params
        .text("container")
        .ok_or_else(|| ApiError::bad_request("missing \"container\" parameter".into()))?;
    let target = params.text("repo").map(|repo| reference(repo, params.text("tag"))).transpose()?;
    let given = config.as_object().is_some_and(|map| !map.is_empty());
    let overrides = if given {
        let config: ContainerConfig = crate::fold::from_value(config)
            .map_err(|e| ApiError::bad_request(format!("invalid JSON: {}", e.embedded_in("Config"))))?;
        Some(crate::containers::defaults(&config)?)
    } else {
        None
    };
    let draft = CommitDraft {
        target,
        comment: params.text("comment").unwrap_or_default().to_owned(),
        author: params.text("author").unwrap_or_default().to_owned(),
        pause: params.flag_or("pause", true),
        changes: params
            .all("changes")
            .flat_map(|c| c.split('\n'))
            .filter(|c| !c.is_empty())
            .map(str::to_owned)
            .collect(),
        overrides,
    };
    let id = face.cloud.container_commit(&caller, container, draft).await?;
    respond::json(StatusCode::CREATED, &json!({"Id": id}))
}
