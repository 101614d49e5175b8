//! `GET /images/search` and `GET /distribution/{name}/json`.

use axum::{
    Extension,
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use serde_json::{Value, json};
use weft_cloud::Caller;

use super::{auth, wire};
use crate::{ApiError, Face, error::Result, query::Params, respond};

pub(super) async fn search(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response> {
    let filters = params.filters()?;
    filters.accept(&["is-automated", "is-official", "stars"])?;
    let limit = params.number("limit")?.unwrap_or(25);
    if !(1..=100).contains(&limit) {
        return Err(ApiError::bad_request(format!("Limit {limit} is outside the range of [1, 100]")));
    }
    let official = filters.boolean("is-official")?;
    let automated = filters.boolean("is-automated")?;
    let stars: i64 = match filters.values("stars").next() {
        Some(text) => {
            text.parse().map_err(|_| ApiError::bad_request(format!("invalid filter 'stars={text}'")))?
        }
        None => 0,
    };
    let credentials = auth::credentials(&headers)?;
    let term = params.text("term").unwrap_or_default();
    let limit = usize::try_from(limit).unwrap_or(25);
    let found = face.cloud.image_search(&caller, term, limit, credentials).await?;
    let rows: Vec<Value> = found
        .iter()
        .filter(|r| official.is_none_or(|want| r.is_official == want))
        .filter(|r| automated.is_none_or(|want| r.is_automated == want))
        .filter(|r| r.star_count >= stars)
        .map(|r| {
            json!({
                "name": r.name, "description": r.description, "star_count": r.star_count,
                "is_official": r.is_official, "is_automated": r.is_automated,
            })
        })
        .collect();
    respond::ok(&rows)
}

pub(super) async fn distribution(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response> {
    let reference: weft_model::Reference =
        name.parse().map_err(|e: weft_model::ReferenceError| ApiError::bad_request(e.to_string()))?;
    let found =
        face.cloud.image_distribution(&caller, &reference.or_latest(), auth::credentials(&headers)?).await?;
    let platforms: Vec<Value> = found.platforms.iter().map(wire::platform).collect();
    respond::ok(&json!({
        "Descriptor": {"mediaType": found.media_type, "digest": found.digest, "size": found.size},
        "Platforms": platforms,
    }))
}
