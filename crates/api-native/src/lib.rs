//! Weft's own API: the model as it is, and what no foreign API has words for. JSON over HTTP, paths below `/v1`.
//!
//! One file for each subject, with its routes; what is answered is the model's own JSON, errors are a status code and
//! `{"message": "…"}`. The command line's own verbs are its first clients.

mod error;
mod hosts;
mod insight;
mod limits;
mod networks;
mod policies;
mod set;

use axum::{Router, middleware};
use weft_cloud::Cloud;

pub use error::ApiError;

/// What handlers share.
#[derive(Clone)]
pub struct Face {
    cloud: Cloud,
}

/// The router of this face. It expects a [`weft_cloud::Caller`] in each request's extensions.
pub fn router(cloud: Cloud) -> Router {
    Router::new()
        .merge(hosts::routes())
        .merge(networks::routes())
        .merge(insight::routes())
        .merge(set::routes())
        .merge(limits::routes())
        .merge(policies::routes())
        .route_layer(middleware::from_fn(weft_api_kit::note_route))
        .fallback(error::no_such_page)
        .method_not_allowed_fallback(error::no_such_page)
        .with_state(Face { cloud })
}
