//! Volumes.

mod create;
mod list;
mod prune;
mod wire;

use axum::{
    Router,
    routing::{get, post},
};

use crate::Face;

pub(crate) fn routes() -> Router<Face> {
    Router::new()
        .route("/volumes", get(list::list))
        .route("/volumes/create", post(create::create))
        .route("/volumes/prune", post(prune::prune))
        .route("/volumes/{name}", get(list::inspect).delete(list::remove))
}

pub(crate) use wire::render;
