//! `GET /volumes`, `GET` and `DELETE /volumes/{name}`.

use axum::{
    Extension,
    extract::{Path, State},
    response::Response,
};
use serde_json::{Value, json};
use weft_cloud::Caller;

use super::wire::render;
use crate::{Face, error::Result, query::Params, respond};

/// `VolumeListResponse`.
pub(super) async fn list(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Response> {
    let filters = params.filters()?;
    filters.accept(&["dangling", "driver", "label", "name"])?;
    let dangling = filters.boolean("dangling")?;
    let volumes: Vec<Value> = face
        .cloud
        .volume_list(&caller)
        .await?
        .iter()
        .filter(|v| dangling.is_none_or(|want| (v.users == 0) == want))
        .filter(|v| filters.any("driver", |d| d == v.volume.spec.driver))
        .filter(|v| filters.any("name", |n| v.volume.spec.name.as_str().contains(n)))
        .filter(|v| filters.labels("label", &v.volume.meta.labels))
        .map(render)
        .collect();
    respond::ok(&json!({"Volumes": volumes, "Warnings": null}))
}

/// One volume.
pub(super) async fn inspect(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Response> {
    respond::ok(&render(&face.cloud.volume_view(&caller, &name).await?))
}

/// Removes a volume that no container uses.
pub(super) async fn remove(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response> {
    face.cloud.volume_remove(&caller, &name, params.flag("force")).await?;
    respond::no_content()
}
