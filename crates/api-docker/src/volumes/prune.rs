//! `POST /volumes/prune`.

use axum::{Extension, extract::State, response::Response};
use serde_json::json;
use weft_cloud::Caller;

use crate::{ApiVersion, Face, error::Result, query::Params, respond};

/// Removes unused volumes: anonymous ones, or all with `all=1` (before 1.42 always all).
pub(super) async fn prune(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    params: Params,
) -> Result<Response> {
    let filters = params.filters()?;
    filters.accept(&["label", "label!", "all"])?;
    let all = version < ApiVersion::v1(42) || filters.boolean("all")?.unwrap_or(false);
    let pruned = face
        .cloud
        .volume_prune(&caller, move |v| {
            (all || v.spec.anonymous)
                && filters.labels("label", &v.meta.labels)
                && !(filters.has("label!") && filters.labels("label!", &v.meta.labels))
        })
        .await?;
    respond::ok(&json!({"VolumesDeleted": pruned.names, "SpaceReclaimed": pruned.bytes}))
}
