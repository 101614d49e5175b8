//! `POST /containers/{id}/wait`.
//!
//! Clients open the wait before they start the container, so the headers are sent at once and the result
//! follows when it is known (since 1.30).

use axum::{
    Extension,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use weft_cloud::{Caller, WaitCondition};

use crate::{ApiError, Face, error::Result, query::Params};

pub(super) async fn wait(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response> {
    let condition = match params.get("condition").unwrap_or_default() {
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(ApiError::bad_request(format!("invalid condition: \"{other}\""))),
    };
    let waiting = face.cloud.container_wait(&caller, &id, condition).await?;
    let (sender, body) = weft_api_kit::body_channel();
    tokio::spawn(async move {
        let outcome = tokio::select! {
            outcome = waiting => outcome,
            () = sender.closed() => return,
        };
        let value: Value = match outcome {
            exit if exit.error.is_empty() => json!({"StatusCode": exit.code}),
            exit => json!({"StatusCode": exit.code, "Error": {"Message": exit.error}}),
        };
        // A client that has gone needs no answer.
        sender.send_json(&value).await;
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}
