//! Networks.

mod connect;
mod create;
mod list;
mod options;
mod parent;
mod prune;
mod wire;

use axum::{
    Router,
    routing::{get, post},
};

use crate::Face;

pub(crate) fn routes() -> Router<Face> {
    Router::new()
        .route("/networks", get(list::list))
        .route("/networks/create", post(create::create))
        .route("/networks/prune", post(prune::prune))
        .route("/networks/{id}", get(list::inspect).delete(list::remove))
        .route("/networks/{id}/connect", post(connect::connect))
        .route("/networks/{id}/disconnect", post(connect::disconnect))
}

/// Whether options for networks that name none themselves, by driver, are such as the driver takes.
///
/// # Errors
/// The first that is not, in the words of `POST /networks/create`.
pub fn check_network_options(
    defaults: &std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>>,
) -> Result<(), String> {
    let checked = defaults.get("bridge").map(options::bridge_options).transpose();
    checked.map(drop).map_err(|error| error.message().to_owned())
}

/// From the bytes of a body to what is asked, for the fuzzer.
#[cfg(test)]
pub(crate) fn fuzz_create(body: &[u8]) -> crate::error::Result<()> {
    crate::respond::parse::<wire::CreateBody>(body)?.draft(crate::MAXIMUM).map(drop)
}
