//! `GET /images/{name}/history`.

use axum::{
    Extension,
    extract::{Path, State},
    response::Response,
};
use serde_json::{Value, json};
use weft_base::Timestamp;
use weft_cloud::Caller;

use super::wire::familiar;
use crate::{ApiVersion, Face, error::Result, query::Params, respond};

/// The image's steps, newest first. Only the newest has an id and names, as in dockerd.
pub(super) async fn history(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response> {
    // Of several, dockerd takes the first.
    let platform = params.platforms("platform", version, 48)?.into_iter().next();
    let view = face.cloud.image_view(&caller, &name, platform.as_ref()).await?;
    let steps = view.config.get("history").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut sizes = view.layer_sizes.iter();
    let mut rows: Vec<Value> = steps
        .iter()
        .map(|step| {
            let text = |key: &str| step.get(key).and_then(Value::as_str).unwrap_or_default();
            let empty = step.get("empty_layer").and_then(Value::as_bool).unwrap_or(false);
            let size = if empty { 0 } else { sizes.next().copied().unwrap_or(0) };
            json!({
                "Id": "<missing>",
                "Created": Timestamp::parse_rfc3339(text("created")).map_or(0, Timestamp::unix_secs),
                "CreatedBy": text("created_by"),
                "Tags": null,
                "Size": size,
                "Comment": text("comment"),
            })
        })
        .collect();
    rows.reverse();
    if let Some(first) = rows.first_mut().and_then(Value::as_object_mut) {
        first.insert("Id".into(), view.image.spec.id.to_string().into());
        let tags = familiar(&view.image.spec.tags);
        first.insert("Tags".into(), if tags.is_empty() { Value::Null } else { json!(tags) });
    }
    respond::ok(&rows)
}
