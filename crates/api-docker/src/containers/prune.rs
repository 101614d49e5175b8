//! `POST /containers/prune`.

use axum::{Extension, extract::State, response::Response};
use serde_json::{Value, json};
use weft_cloud::Caller;

use crate::{Face, error::Result, query::Params, respond};

/// Removes stopped containers.
pub(super) async fn prune(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Response> {
    let filters = params.filters()?;
    filters.accept(&["label", "label!", "until"])?;
    let until = crate::query::until(&filters)?;
    let pruned = face
        .cloud
        .container_prune(&caller, move |c| {
            until.is_none_or(|u| c.meta.created < u)
                && filters.labels("label", &c.meta.labels)
                && !(filters.has("label!") && filters.labels("label!", &c.meta.labels))
        })
        .await?;
    let names = if pruned.names.is_empty() { Value::Null } else { json!(pruned.names) };
    respond::ok(&json!({"ContainersDeleted": names, "SpaceReclaimed": pruned.bytes}))
}
