//! The hosts of the cluster: `/v1/hosts`.

use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    routing::get,
};
use serde_json::{Value, json};
use weft_cloud::{Caller, HostView};

use crate::{Face, error::Result};

pub(crate) fn routes() -> Router<Face> {
    Router::new().route("/v1/hosts", get(list)).route("/v1/hosts/{name}", get(show))
}

async fn list(State(face): State<Face>, Extension(caller): Extension<Caller>) -> Result<Json<Value>> {
    Ok(Json(face.cloud.host_list(&caller).await?.iter().map(rendered).collect()))
}

async fn show(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Value>> {
    Ok(Json(rendered(&face.cloud.host_view(&caller, &name).await?)))
}

fn rendered(view: &HostView) -> Value {
    json!({"host": &*view.host, "alive": view.alive, "here": view.here})
}
