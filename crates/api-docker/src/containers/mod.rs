//! Containers.

mod archive;
mod attach;
mod change;
mod create;
mod endpoint;
mod files;
mod filter;
mod gates;
mod life;
mod list;
mod logs;
mod mounts;
mod parse;
mod prune;
mod render;
mod show;
mod stats;
mod top;
mod wait;
pub(crate) mod wire;

use axum::{
    Router,
    routing::{get, post},
};

use crate::Face;

pub(crate) use endpoint::{endpoint, ifname};
pub(crate) use life::window;
pub(crate) use parse::defaults;
pub(crate) use show::summary;
pub(crate) use wire::EndpointSettings;

pub(crate) fn routes() -> Router<Face> {
    Router::new()
        .route("/containers/json", get(list::list))
        .route("/containers/create", post(create::create))
        .route("/containers/prune", post(prune::prune))
        .route("/containers/{id}", axum::routing::delete(life::remove))
        .route("/containers/{id}/json", get(list::inspect))
        .route("/containers/{id}/start", post(life::start))
        .route("/containers/{id}/stop", post(life::stop))
        .route("/containers/{id}/restart", post(life::restart))
        .route("/containers/{id}/kill", post(life::kill))
        .route("/containers/{id}/pause", post(life::pause))
        .route("/containers/{id}/unpause", post(life::unpause))
        .route("/containers/{id}/rename", post(change::rename))
        .route("/containers/{id}/update", post(change::update))
        .route("/containers/{id}/resize", post(life::resize))
        .route("/containers/{id}/wait", post(wait::wait))
        .route("/containers/{id}/attach", post(attach::attach))
        .route("/containers/{id}/attach/ws", get(attach::websocket))
        .route("/containers/{id}/logs", get(logs::logs))
        .route("/containers/{id}/stats", get(stats::stats))
        .route("/containers/{id}/top", get(top::top))
        .route("/containers/{id}/archive", get(archive::get).head(archive::head).put(archive::put))
        .route("/containers/{id}/changes", get(files::changes))
        .route("/containers/{id}/export", get(files::export))
}

/// From the bytes of a body to what is asked, for the fuzzer.
#[cfg(test)]
pub(crate) fn fuzz_create(body: &[u8], version: crate::ApiVersion) -> crate::error::Result<()> {
    let mut body = crate::respond::parse(body)?;
    gates::gate(&mut body, version, gates::HostKind { unified: true })?;
    parse::draft(body, Some("name".into()), None).map(drop)
}
