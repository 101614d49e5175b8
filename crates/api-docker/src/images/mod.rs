//! Images.

mod auth;
mod change;
mod commit;
mod history;
mod list;
mod pull;
mod push;
mod search;
mod show;
mod transfer;
mod wire;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};

use crate::Face;

pub(crate) use auth::LogIn;
pub(crate) use wire::{descriptor, summary};

pub(crate) fn routes() -> Router<Face> {
    Router::new()
        .route("/images/json", get(list::list))
        .route("/images/create", post(pull::create))
        .route("/images/load", post(transfer::load))
        .route("/images/get", get(transfer::save_many))
        .route("/images/search", get(search::search))
        .route("/images/prune", post(change::prune))
        .route("/images/{name}", axum::routing::delete(change::remove))
        .route("/images/{name}/json", get(show::inspect))
        .route("/images/{name}/history", get(history::history))
        .route("/images/{name}/tag", post(change::tag))
        .route("/images/{name}/get", get(transfer::save_one))
        .route("/images/{name}/push", post(push::push))
        .route("/distribution/{name}/json", get(search::distribution))
        .route("/commit", post(commit::commit))
        .route("/build", post(no_builder))
        .route("/build/prune", post(build_prune))
        .route("/session", post(no_session))
        .layer(DefaultBodyLimit::disable())
}

/// Builds come with a later feature; until then the answer names the reason.
async fn no_builder() -> crate::ApiError {
    crate::ApiError::new(
        http::StatusCode::NOT_IMPLEMENTED,
        "this Weft cannot build images yet; build elsewhere and `docker load` the result",
    )
}

/// Sessions serve builds. What is no session is refused as by dockerd.
async fn no_session(headers: http::HeaderMap) -> crate::ApiError {
    match headers.get(http::header::UPGRADE).map(|u| u.to_str().unwrap_or_default()) {
        None | Some("") => crate::ApiError::bad_request("no upgrade proto in request".into()),
        Some("h2c") => no_builder().await,
        Some(other) => crate::ApiError::bad_request(format!("protocol {other} not supported")),
    }
}

async fn build_prune() -> crate::error::Result<axum::response::Response> {
    crate::respond::ok(&serde_json::json!({"CachesDeleted": null, "SpaceReclaimed": 0}))
}

#[cfg(test)]
pub(crate) use auth::credentials as fuzz_credentials;
