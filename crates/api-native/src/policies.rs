//! Policy between containers: `/v1/policies`, and what holds for a network without one, `/v1/policies/default/{network}`.

use axum::{
    Extension, Json, Router,
    extract::{Path, State, rejection::JsonRejection},
    http::StatusCode,
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};
use weft_cloud::{Caller, PolicyDraft, PolicyView};
use weft_model::PolicyAction;

use crate::{Face, error::Result};

pub(crate) fn routes() -> Router<Face> {
    Router::new()
        .route("/v1/policies", get(list).post(create))
        .route("/v1/policies/{id}", get(show).delete(remove))
        .route("/v1/policies/default/{network}", get(shown_default).put(default))
}

type Body<T> = std::result::Result<Json<T>, JsonRejection>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBody {
    from: String,
    to: String,
    protocol: Option<String>,
    ports: Option<String>,
    action: PolicyAction,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DefaultBody {
    action: PolicyAction,
}

async fn list(State(face): State<Face>, Extension(caller): Extension<Caller>) -> Result<Json<Value>> {
    Ok(Json(face.cloud.policy_list(&caller).await?.iter().map(rendered).collect()))
}

async fn create(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    body: Body<CreateBody>,
) -> Result<(StatusCode, Json<Value>)> {
    let Json(CreateBody { from, to, protocol, ports, action }) = body?;
    let draft = PolicyDraft { from, to, protocol, ports, action };
    let (policy, warnings) = face.cloud.policy_create(&caller, draft).await?;
    Ok((StatusCode::CREATED, Json(json!({"policy": &*policy, "warnings": warnings}))))
}

async fn show(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Value>> {
    Ok(Json(rendered(&face.cloud.policy_view(&caller, &id).await?)))
}

async fn remove(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Value>> {
    Ok(Json(json!({"id": face.cloud.policy_remove(&caller, &id).await?})))
}

async fn shown_default(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(network): Path<String>,
) -> Result<Json<Value>> {
    let (name, action) = face.cloud.policy_default_of(&caller, &network).await?;
    Ok(Json(json!({"network": name, "action": action})))
}

async fn default(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(network): Path<String>,
    body: Body<DefaultBody>,
) -> Result<Json<Value>> {
    let Json(body) = body?;
    let network = face.cloud.policy_default(&caller, &network, body.action).await?;
    Ok(Json(json!({"network": network.spec.name, "action": body.action})))
}

fn rendered(view: &PolicyView) -> Value {
    let ([from, to], [from_id, to_id], (packets, bytes)) = (&view.shown, &view.ids, view.counted);
    json!({
        "policy": &*view.policy, "from": from, "to": to, "from_id": from_id, "to_id": to_id, "packets": packets,
        "bytes": bytes, "missing": view.missing,
    })
}
