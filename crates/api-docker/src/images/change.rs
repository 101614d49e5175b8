//! Tagging, removing, pruning.

use axum::{
    Extension,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use weft_cloud::{Caller, ImageRemoval, ImageRemoved, PruneFilter};
use weft_model::Reference;

use crate::{ApiError, ApiVersion, Face, error::Result, query::Params, respond};

/// `POST /images/{name}/tag`.
pub(super) async fn tag(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response> {
    let target = reference(params.get("repo").unwrap_or_default(), params.text("tag"))?;
    face.cloud.image_tag(&caller, &name, &target).await?;
    Ok(StatusCode::CREATED.into_response())
}

/// A repository and a tag given apart.
pub(super) fn reference(repository: &str, tag: Option<&str>) -> Result<Reference> {
    let parse = |text: &str| text.parse::<Reference>().map_err(|e| ApiError::bad_request(e.to_string()));
    match tag {
        None => Ok(parse(repository)?.or_latest()),
        Some(digest) if digest.contains(':') => parse(&format!("{repository}@{digest}")),
        Some(tag) => {
            let name = parse(repository)?;
            if name.pick.digest.is_some() {
                return Err(ApiError::bad_request("refusing to create a tag with a digest reference".into()));
            }
            parse(&format!("{}:{tag}", name.repository()))
        }
    }
}

fn removed(items: &[ImageRemoved]) -> Vec<Value> {
    items
        .iter()
        .map(|item| match item {
            ImageRemoved::Untagged(name) => {
                let familiar = name.parse::<Reference>().map_or_else(|_| name.clone(), |r| r.familiar());
                json!({"Untagged": familiar})
            }
            ImageRemoved::Deleted(digest) => json!({"Deleted": digest}),
        })
        .collect()
}

/// `DELETE /images/{name}`.
pub(super) async fn remove(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response> {
    if name.trim().is_empty() {
        return Err(ApiError::bad_request("image name cannot be blank".into()));
    }
    let platform = params.platform("platforms", version, 50, "multiple platforms are not supported")?;
    let options = ImageRemoval { force: params.flag("force"), no_prune: params.flag("noprune") };
    let done = face.cloud.image_remove(&caller, &name, options, platform.as_ref()).await?;
    respond::ok(&removed(&done))
}

/// `POST /images/prune`.
pub(super) async fn prune(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Response> {
    let filters = params.filters()?;
    filters.accept(&["dangling", "label", "label!", "until"])?;
    let dangling_only = filters.boolean("dangling")?.unwrap_or(true);
    let filter = PruneFilter {
        all: !dangling_only,
        until: crate::query::until(&filters)?,
        labels: filters.pairs("label"),
        not_labels: filters.pairs("label!"),
    };
    let pruned = face.cloud.image_prune(&caller, filter).await?;
    let rows = removed(&pruned.removed);
    let rows = if rows.is_empty() { Value::Null } else { json!(rows) };
    respond::ok(&json!({"ImagesDeleted": rows, "SpaceReclaimed": pruned.bytes}))
}
