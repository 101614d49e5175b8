//! The daemon itself: ping, version, info, events, disk usage, log-in.

mod auth;
mod df;
mod events;
mod info;
mod ping;
mod version;

use axum::{
    Router,
    routing::{get, post},
};

use crate::Face;

pub(crate) fn routes() -> Router<Face> {
    Router::new()
        .route("/_ping", get(ping::ping).head(ping::ping))
        .route("/version", get(version::version))
        .route("/info", get(info::info))
        .route("/events", get(events::events))
        .route("/system/df", get(df::df))
        .route("/auth", post(auth::auth))
}
