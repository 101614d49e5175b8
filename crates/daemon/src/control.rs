//! The daemon's own small interface, on `RUN/control.sock`, root's alone: features and status. JSON over HTTP; the
//! command line is its client. It is there whatever features are off.

use std::sync::Arc;

use anyhow::Context;
use axum::{
    Json, Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::StatusCode;
use serde_json::{Value, json};
use weft_api_kit::{ListenUri, Listener, ServeOptions, serve};
use weft_base::{Tasks, chain};

use crate::{
    Config,
    faces::private,
    features::{FEATURES, FeatureError},
    switch::{Switch, refusal},
};

/// Serves it; answers the socket's path.
pub(crate) async fn start(
    config: &Config,
    switch: Arc<Switch>,
    tasks: &Tasks,
) -> anyhow::Result<std::path::PathBuf> {
    let path = config.run.join("control.sock");
    let listener =
        Listener::bind(&ListenUri::Unix(path.clone())).await.context("opening the control socket")?;
    private(&path)?;
    let meter = Arc::clone(&switch.faces.meter);
    let router = Router::new()
        .route("/v1/features", get(features))
        .route("/v1/features/{name}/enable", post(enable))
        .route("/v1/features/{name}/disable", post(disable))
        .route("/v1/status", get(status))
        .route_layer(axum::middleware::from_fn(weft_api_kit::note_route))
        .with_state(switch);
    serve(listener, router, ServeOptions { face: "control", meter, ..ServeOptions::default() }, tasks);
    Ok(path)
}

async fn features(State(switch): State<Arc<Switch>>) -> Json<Value> {
    let on = switch.features.lock().await;
    let one = |f: &crate::features::Feature| {
        json!({
            "name": f.name, "enabled": on.is_on(f.name), "needs": f.needs, "about": f.about,
            "default": f.default, "fixed": f.fixed,
        })
    };
    Json(FEATURES.iter().map(one).collect())
}

async fn enable(State(switch): State<Arc<Switch>>, Path(name): Path<String>) -> Response {
    answer("enabled", switch.enable(&name).await)
}

async fn disable(State(switch): State<Arc<Switch>>, Path(name): Path<String>) -> Response {
    answer("disabled", switch.disable(&name).await)
}

fn answer(verb: &str, done: anyhow::Result<Vec<&'static str>>) -> Response {
    match done {
        Ok(changed) => {
            if !changed.is_empty() {
                tracing::info!(features = changed.join(", "), "{verb}");
            }
            Json(json!({ verb: changed })).into_response()
        }
        Err(error) => {
            let code = match refusal(&error) {
                Some(FeatureError::Unknown { .. }) => StatusCode::NOT_FOUND,
                Some(_) => StatusCode::CONFLICT,
                None => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (code, Json(json!({"message": chain(error.as_ref())}))).into_response()
        }
    }
}

async fn status(State(switch): State<Arc<Switch>>) -> Json<Value> {
    let on = switch.features.lock().await;
    let enabled: Vec<&str> = FEATURES.iter().map(|f| f.name).filter(|f| on.is_on(f)).collect();
    let listeners = switch.faces.addresses();
    let listeners: Vec<_> = listeners.iter().map(|(face, at)| json!({"face": face, "at": at})).collect();
    Json(json!({
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "commit": crate::COMMIT,
        "built": crate::BUILT,
        "features": enabled,
        "listeners": listeners,
    }))
}
