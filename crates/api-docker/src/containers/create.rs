//! `POST /containers/create`.

use axum::{Extension, extract::State, http::StatusCode, response::Response};
use serde_json::json;
use weft_cloud::Caller;

use super::{
    gates::{self, HostKind},
    parse,
    wire::CreateBody,
};
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
    NeededJson(mut body): NeededJson<CreateBody>,
) -> Result<Response> {
    let name = params.text("name").map(|n| n.trim_start_matches('/').to_owned());
    let platform = params.text("platform").filter(|_| version >= ApiVersion::v1(41)).map(str::to_owned);
    let unified = face.cloud.host(&caller)?.cgroup_version == 2;
    let warnings = gates::gate(&mut body, version, HostKind { unified })?;
    let draft = parse::draft(body, name, platform)?;
    let mut created = face.cloud.container_create(&caller, draft).await?;
    created.warnings.extend(warnings);
    respond::json(StatusCode::CREATED, &json!({"Id": created.id, "Warnings": created.warnings}))
}
