//! The Docker Engine API 1.24 to 1.51, translated: parse to the model's words, one call into `weft-cloud`,
//! render what came of it.
//!
//! One folder for each resource, one file for each verb; `wire.rs` holds a resource's JSON and `convert.rs`
//! the translation both ways. Shapes follow the upstream Swagger documents; texts and status codes follow
//! dockerd, because clients branch on them. Nothing here knows the store, the engine or a driver.

#![recursion_limit = "256"]

mod cache;
mod containers;
mod error;
mod execs;
mod fold;
#[cfg(test)]
mod fuzz_tests;
mod hijack;
mod images;
mod networks;
mod path;
mod pattern;
mod progress;
mod query;
mod respond;
mod swarm;
mod system;
mod version;
mod volumes;
mod websocket;

use std::sync::Arc;

use axum::{Router, middleware};
use weft_cloud::Cloud;

pub use error::ApiError;
pub use networks::check_network_options;
pub use version::{ApiVersion, MAXIMUM, MINIMUM};

/// What handlers share.
#[derive(Clone)]
pub struct Face {
    cloud: Cloud,
    facts: Arc<Facts>,
    lists: cache::Answers,
}

/// Facts about this daemon that only this API shows.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When it was built, RFC 3339; empty when unknown.
    pub built: String,
    /// Commit it was built from, empty when unknown.
    pub commit: String,
    /// Options for networks that name none themselves, by driver.
    pub network_options: std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>>,
}

/// The router of this face. It expects a [`weft_cloud::Caller`] in each request's extensions.
pub fn router(cloud: Cloud, facts: Facts) -> Router {
    let face = Face { cloud, facts: Arc::new(facts), lists: cache::Answers::default() };
    let routes = Router::new()
        .merge(system::routes())
        .merge(containers::routes())
        .merge(execs::routes())
        .merge(images::routes())
        .merge(networks::routes())
        .merge(volumes::routes())
        .merge(swarm::routes())
        .route_layer(middleware::from_fn(weft_api_kit::note_route))
        .fallback(error::no_such_page)
        .method_not_allowed_fallback(error::no_such_page)
        .with_state(face);
    // Routing happens behind the rewriting of the path, so the rewriting wraps the whole router.
    Router::new().fallback_service(
        tower::ServiceBuilder::new().layer(middleware::from_fn(version::negotiate)).service(routes),
    )
}
