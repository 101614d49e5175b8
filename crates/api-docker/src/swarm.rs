//! Swarm and plugins: answered as a dockerd answers that is no swarm manager and has no plugins.

use std::collections::HashMap;

use axum::{
    Router,
    extract::Path,
    http::StatusCode,
    response::Response,
    routing::{any, get},
};
use serde_json::json;

use crate::{ApiError, Face, error::Result, respond};

/// What every swarm path says.
pub(crate) fn not_a_manager() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node \
         to swarm and try again.",
    )
}

async fn swarm() -> ApiError {
    not_a_manager()
}

async fn no_plugins() -> Result<Response> {
    respond::ok(&json!([]))
}

async fn plugin(Path(parts): Path<HashMap<String, String>>) -> ApiError {
    let name = parts.get("name").map_or("", String::as_str);
    ApiError::new(StatusCode::NOT_FOUND, format!("plugin \"{name}\" not found"))
}

async fn no_plugin_support() -> ApiError {
    ApiError::new(StatusCode::NOT_IMPLEMENTED, "Weft has no plugins: its drivers are built in")
}

pub(crate) fn routes() -> Router<Face> {
    let mut router = Router::new();
    for path in ["/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs"] {
        router = router.route(path, any(swarm)).route(&format!("{path}/{{*rest}}"), any(swarm));
    }
    router
        .route("/plugins", get(no_plugins))
        .route("/plugins/privileges", get(no_plugin_support))
        .route("/plugins/pull", any(no_plugin_support))
        .route("/plugins/create", any(no_plugin_support))
        .route("/plugins/{name}", any(plugin))
        .route("/plugins/{name}/{verb}", any(plugin))
}
