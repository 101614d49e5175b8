//! `GET /containers/{id}/top`.

use axum::{
    Extension,
    extract::{Path, State},
    response::Response,
};
use serde_json::json;
use weft_cloud::Caller;

use crate::{Face, error::Result, query::Params, respond};

pub(super) async fn top(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response> {
    let table = face.cloud.container_top(&caller, &id, params.text("ps_args").unwrap_or("-ef")).await?;
    respond::ok(&json!({"Titles": table.titles, "Processes": table.rows}))
}
