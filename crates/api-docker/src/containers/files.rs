//! Files of a container: changes, export.

use axum::{
    Extension,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use weft_cloud::{Caller, ChangeKind};

use crate::{Face, error::Result, respond};

pub(super) async fn changes(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response> {
    let changes = face.cloud.container_changes(&caller, &id).await?;
    let rows: Vec<Value> = changes
        .iter()
        .map(|c| {
            let kind = match c.kind {
                ChangeKind::Modified => 0,
                ChangeKind::Added => 1,
                ChangeKind::Deleted => 2,
            };
            json!({"Path": c.path, "Kind": kind})
        })
        .collect();
    if rows.is_empty() { respond::ok(&Value::Null) } else { respond::ok(&rows) }
}

pub(super) async fn export(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response> {
    let stream = face.cloud.container_export(&caller, &id).await?;
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], weft_api_kit::receiver_body(stream)).into_response())
}
