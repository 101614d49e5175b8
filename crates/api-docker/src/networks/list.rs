//! `GET /networks`, `GET` and `DELETE /networks/{id}`.

use axum::{
    Extension,
    extract::{Path, State},
    response::Response,
};
use serde_json::Value;
use weft_cloud::{Caller, NetworkView};

use super::wire::{driver, render};
use crate::{
    ApiError, ApiVersion, Face,
    error::Result,
    query::{Filters, Params},
    respond,
};

/// All networks that pass the filters.
pub(super) async fn list(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    params: Params,
) -> Result<Response> {
    let filters = params.filters()?;
    filters.accept(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    if let Some(kind) = filters.values("type").find(|t| !matches!(*t, "custom" | "builtin")) {
        return Err(ApiError::bad_request(format!("invalid filter: 'type'='{kind}'")));
    }
    let dangling = filters.boolean("dangling")?;
    let networks = face.cloud.network_list(&caller).await?;
    let rows: Vec<Value> = networks
        .iter()
        .filter(|n| passes(n, &filters, dangling))
        .map(|n| render(n, version < ApiVersion::v1(28), version))
        .collect();
    respond::ok(&rows)
}

fn passes(view: &NetworkView, filters: &Filters, dangling: Option<bool>) -> bool {
    let spec = &view.network.spec;
    dangling.is_none_or(|want| (!spec.predefined && view.ports.is_empty()) == want)
        && filters.any("driver", |d| d == driver(spec.kind))
        && filters.any("id", |id| spec.id.to_string().starts_with(id))
        && filters.any("name", |n| spec.name.as_str().contains(n))
        && filters.any("scope", |s| s == "local")
        && filters.any("type", |t| (t == "builtin") == spec.predefined)
        && filters.labels("label", &view.network.meta.labels)
}

/// One network with its containers.
pub(super) async fn inspect(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response> {
    let view = face.cloud.network_view(&caller, &id).await?;
    if params.text("scope").is_some_and(|s| s != "local") {
        return Err(ApiError::new(http::StatusCode::NOT_FOUND, format!("network {id} not found")));
    }
    respond::ok(&render(&view, true, version))
}

/// Removes a network without endpoints.
pub(super) async fn remove(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response> {
    face.cloud.network_remove(&caller, &id).await?;
    respond::no_content()
}
