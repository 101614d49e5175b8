//! Networks and their ports, as the model has them.

use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    routing::get,
};
use serde_json::{Value, json};
use weft_cloud::{Caller, NetworkView};

use crate::{Face, error::Result};

pub(crate) fn routes() -> Router<Face> {
    Router::new().route("/v1/networks", get(list)).route("/v1/networks/{name}", get(show))
}

async fn list(State(face): State<Face>, Extension(caller): Extension<Caller>) -> Result<Json<Value>> {
    let all = face.cloud.network_list(&caller).await?;
    Ok(Json(all.iter().map(rendered).collect()))
}

async fn show(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Value>> {
    Ok(Json(rendered(&face.cloud.network_view(&caller, &name).await?)))
}

pub(crate) fn rendered(view: &NetworkView) -> Value {
    let ports: Vec<Value> =
        view.ports.iter().map(|(port, container)| json!({"container": container, "port": &**port})).collect();
    json!({"network": &*view.network, "ports": ports})
}
