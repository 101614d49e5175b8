//! `POST /networks/prune`.

use axum::{Extension, extract::State, response::Response};
use serde_json::json;
use weft_cloud::Caller;

use crate::{Face, error::Result, query::Params, respond};

/// Removes networks that people made and no container uses.
pub(super) async fn prune(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Response> {
    let filters = params.filters()?;
    filters.accept(&["label", "label!", "until"])?;
    let until = crate::query::until(&filters)?;
    let names = face
        .cloud
        .network_prune(&caller, move |n| {
            until.is_none_or(|u| n.meta.created < u)
                && filters.labels("label", &n.meta.labels)
                && !(filters.has("label!") && filters.labels("label!", &n.meta.labels))
        })
        .await?;
    respond::ok(&json!({"NetworksDeleted": names}))
}
