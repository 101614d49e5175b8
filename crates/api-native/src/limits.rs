//! Bandwidth limits: `GET /v1/limits`, `GET` and `PUT /v1/limits/{network or container}`.

use axum::{
    Extension, Json, Router,
    extract::{Path, State, rejection::JsonRejection},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};
use weft_cloud::{Caller, CloudError, LimitChange, LimitView};
use weft_model::{Rate, RateLimit};

use crate::{Face, error::Result};

pub(crate) fn routes() -> Router<Face> {
    Router::new().route("/v1/limits", get(list)).route("/v1/limits/{name}", get(show).put(change))
}

/// A direction that is not named stays as it is, unless `clear` takes both away first.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    #[serde(default)]
    clear: bool,
    ingress: Option<String>,
    egress: Option<String>,
}

async fn list(State(face): State<Face>, Extension(caller): Extension<Caller>) -> Result<Json<Value>> {
    Ok(Json(face.cloud.limit_list(&caller).await?.iter().map(rendered).collect()))
}

async fn show(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Value>> {
    Ok(Json(rendered(&face.cloud.limit_view(&caller, &name).await?)))
}

async fn change(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: std::result::Result<Json<ChangeBody>, JsonRejection>,
) -> Result<Json<Value>> {
    let Json(body) = body?;
    let rate = |text: Option<String>| {
        let read = |text: String| text.parse::<Rate>().map_err(|e| CloudError::Invalid(e.to_string()));
        text.map(read).transpose()
    };
    let limit = RateLimit { ingress: rate(body.ingress)?, egress: rate(body.egress)? };
    let change = LimitChange { clear: body.clear, limit };
    Ok(Json(rendered(&face.cloud.limit_change(&caller, &name, change).await?)))
}

fn rendered(view: &LimitView) -> Value {
    json!({"kind": view.kind, "id": view.id, "name": view.name, "limit": view.limit})
}
