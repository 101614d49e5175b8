//! `POST /containers/{id}/wait`.
//!
//! Clients open the wait before they start the container, so the headers are sent at once and the result
//! follows when it is known. Before 1.30 there were no conditions, and the headers came with the result.

use axum::{
    Extension,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use weft_cloud::{Caller, WaitCondition, WaitResult};

use crate::{ApiError, ApiVersion, Face, error::Result, query::Params, respond};

pub(super) async fn wait(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response> {
    let at_the_end = version < ApiVersion::v1(30);
    let condition = match params.get("condition").filter(|_| !at_the_end).unwrap_or_default() {
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(ApiError::bad_request(format!("invalid condition: \"{other}\""))),
    };
    let waiting = face.cloud.container_wait(&caller, &id, condition).await?;
    if at_the_end {
        return respond::ok(&render(waiting.await));
    }
    let (sender, body) = weft_api_kit::body_channel();
    tokio::spawn(async move {
        let outcome = tokio::select! {
            outcome = waiting => outcome,
            () = sender.closed() => return,
        };
        // A client that has gone needs no answer.
        sender.send_json(&render(outcome)).await;
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

fn render(exit: WaitResult) -> Value {
    if exit.error.is_empty() {
        json!({"StatusCode": exit.code})
    } else {
        json!({"StatusCode": exit.code, "Error": {"Message": exit.error}})
    }
}
