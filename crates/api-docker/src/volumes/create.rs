//! `POST /volumes/create`.

use axum::{Extension, extract::State, http::StatusCode, response::Response};
use weft_cloud::{Caller, VolumeDraft};

use super::wire::{CreateBody, render};
use crate::{
    ApiError, Face,
    error::Result,
    respond::{self, JsonBody},
};

pub(super) async fn create(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    JsonBody(body): JsonBody<CreateBody>,
) -> Result<Response> {
    if body.cluster_volume_spec.is_some() {
        return Err(crate::swarm::not_a_manager());
    }
    if body.name.starts_with('/') {
        return Err(ApiError::bad_request(format!(
            "create {0}: \"{0}\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
            body.name
        )));
    }
    let draft = VolumeDraft {
        name: Some(body.name).filter(|n| !n.is_empty()),
        driver: body.driver,
        options: body.driver_opts,
        labels: body.labels,
    };
    let view = face.cloud.volume_create(&caller, draft).await?;
    respond::json(StatusCode::CREATED, &render(&view))
}
