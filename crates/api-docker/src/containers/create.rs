//! `POST /containers/create`.

use axum::{Extension, extract::State, http::StatusCode, response::Response};
use serde_json::json;
use weft_cloud::Caller;

use super::{parse, wire::CreateBody};
use crate::{
    ApiVersion, Face,
    error::Result,
    query::Params,
    respond::{self, NeededJson},
};

pub(super) async fn create(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    params: Params,
    NeededJson(body): NeededJson<CreateBody>,
) -> Result<Response> {
    let name = params.text("name").map(|n| n.trim_start_matches('/').to_owned());
    let platform = params.text("platform").filter(|_| version >= ApiVersion::v1(41)).map(str::to_owned);
    let draft = parse::draft(body, name, platform, version)?;
    let created = face.cloud.container_create(&caller, draft).await?;
    respond::json(StatusCode::CREATED, &json!({"Id": created.id, "Warnings": created.warnings}))
}
