//! Looking into networks: explanations, live traces, counters, the picture.

use axum::{
    Extension, Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::header,
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};
use weft_cloud::{Caller, ExplainDraft, NetworkGraph, NetworkStats};

use crate::{Face, error::Result};

pub(crate) fn routes() -> Router<Face> {
    Router::new()
        .route("/v1/explain", get(explain))
        .route("/v1/explain/watch", get(watch))
        .route("/v1/networks/{name}/stats", get(stats))
        .route("/v1/graph", get(graph))
}

/// `?from=web&to=db&protocol=tcp&port=5432`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Packet {
    from: String,
    to: String,
    #[serde(default)]
    protocol: String,
    port: Option<u16>,
}

impl From<Packet> for ExplainDraft {
    fn from(packet: Packet) -> Self {
        Self { from: packet.from, to: packet.to, protocol: packet.protocol, port: packet.port }
    }
}

async fn explain(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    packet: Result<Query<Packet>, QueryRejection>,
) -> Result<Json<Value>> {
    let Query(packet) = packet?;
    Ok(Json(json!(face.cloud.explain(&caller, &packet.into()).await?)))
}

/// One line of JSON for each event, for as long as the client reads.
async fn watch(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    packet: Result<Query<Packet>, QueryRejection>,
) -> Result<Response> {
    let Query(packet) = packet?;
    let mut watching = face.cloud.explain_watch(&caller, &packet.into()).await?;
    let (sender, body) = weft_api_kit::body_channel();
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                event = watching.next() => event,
                () = sender.closed() => return,
            };
            match event {
                Some(event) if sender.send_json(&event).await => {}
                _ => return,
            }
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

async fn stats(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<NetworkStats>> {
    Ok(Json(face.cloud.network_stats(&caller, &name).await?))
}

async fn graph(State(face): State<Face>, Extension(caller): Extension<Caller>) -> Result<Json<NetworkGraph>> {
    Ok(Json(face.cloud.network_graph(&caller).await?))
}
