//! `GET /containers/json` and `GET /containers/{id}/json`.

use axum::{
    Extension,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use weft_base::{Clock, SystemClock, Timestamp};
use weft_cloud::Caller;
use weft_model::RunState;

use super::{filter::Wanted, show};
use crate::{
    ApiError, ApiVersion, Face,
    cache::Question,
    error::Result,
    query::{Filters, Params},
    respond,
};

const KNOWN: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
    "isolation",
];

pub(super) async fn inspect(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response> {
    let view = face.cloud.container_view(&caller, &id, params.flag("size")).await?;
    respond::ok(&show::inspect(&view, version)?)
}

pub(super) async fn list(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    RawQuery(query): RawQuery,
    params: Params,
) -> Result<Response> {
    if params.flag("size") {
        // Sizes change without a word.
        return Ok(json_body(list_now(&face, &caller, version, &params).await?));
    }
    let question = Question::new(&caller, version, query);
    let (mark, now) = (face.cloud.mark().await?, SystemClock.now());
    if let Some(answer) = face.lists.get(mark, now, &question) {
        return Ok(json_body(answer));
    }
    let answer = list_now(&face, &caller, version, &params).await?;
    face.lists.keep(mark, now, question, answer.clone());
    Ok(json_body(answer))
}

fn json_body(bytes: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}

async fn list_now(face: &Face, caller: &Caller, version: ApiVersion, params: &Params) -> Result<Bytes> {
    let filters = params.filters()?;
    filters.accept(KNOWN)?;
    let wanted = Wanted::parse(&filters)?;
    let limit = params.number("limit")?.filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok());
    // A filter on the state, or a limit, looks beyond the running ones.
    let all = params.flag("all") || limit.is_some() || filters.has("status");
    let mut views = face.cloud.container_list(caller, params.flag("size")).await?;
    views.sort_by_key(|v| std::cmp::Reverse((v.container.meta.created, v.container.spec.id)));
    let bound = async |key: &str| -> Result<Option<Timestamp>> {
        let Some(name) = filters.values(key).next() else { return Ok(None) };
        Ok(Some(face.cloud.container_find(caller, name).await?.meta.created))
    };
    let (before, since) = (bound("before").await?, bound("since").await?);
    let images = ancestors(face, caller, &filters).await;
    let now = SystemClock.now();
    let rows: Vec<Value> = views
        .iter()
        .filter(|v| {
            all || v.container.status.state.is_alive() || v.container.status.state == RunState::Restarting
        })
        .filter(|v| before.is_none_or(|b| v.container.meta.created < b))
        .filter(|v| since.is_none_or(|s| v.container.meta.created > s))
        .filter(|v| images.as_ref().is_none_or(|ids| ids.contains(&v.container.spec.image.id)))
        .filter(|v| wanted.accepts(v, &filters))
        .take(limit.unwrap_or(usize::MAX))
        .map(|v| show::summary(v, now, version))
        .collect::<Result<_>>()?;
    let text = serde_json::to_vec(&rows);
    text.map(Bytes::from).map_err(|e| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}

/// The images that `ancestor` names; an unknown one matches nothing.
async fn ancestors(face: &Face, caller: &Caller, filters: &Filters) -> Option<Vec<weft_model::Digest>> {
    if !filters.has("ancestor") {
        return None;
    }
    let mut ids = Vec::new();
    for name in filters.values("ancestor") {
        ids.extend(face.cloud.image_descendants(caller, name).await.unwrap_or_default());
    }
    Some(ids)
}
