//! `POST /containers/{id}/attach` over a hijacked connection, and `/attach/ws` over a WebSocket.

use axum::{
    Extension,
    body::Body,
    extract::{Path, Request, State},
    http::StatusCode,
    response::Response,
};
use weft_cloud::{AttachOptions, Caller};

use crate::{ApiError, ApiVersion, Face, error::Result, hijack, query::Params, websocket::Opcode};

fn options(params: &Params) -> AttachOptions {
    AttachOptions {
        stdin: params.flag("stdin"),
        stdout: params.flag("stdout"),
        stderr: params.flag("stderr"),
        stream: params.flag("stream"),
        logs: params.flag("logs"),
        detach_keys: params.text("detachKeys").map(str::to_owned),
    }
}

pub(super) async fn attach(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    params: Params,
    request: Request<Body>,
) -> Result<Response> {
    let options = options(&params);
    let logs = options.logs;
    let attached = face.cloud.container_attach(&caller, &id, options).await?;
    Ok(hijack::answer(request, attached, version, logs))
}

/// WebSockets carry the stream as it is, without Docker's frames; before 1.28 in text messages. Which streams are wanted is
/// asked since 1.42; before, all were meant (moby `wsContainersAttach`).
pub(super) async fn websocket(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    params: Params,
    request: Request<Body>,
) -> Result<Response> {
    let mut options = options(&params);
    if version < ApiVersion::v1(42) {
        (options.stdin, options.stdout, options.stderr) = (true, true, true);
    }
    let attached = face.cloud.container_attach(&caller, &id, options).await?.framed(false);
    // First whether there is such a container, as dockerd.
    if !request.headers().get("upgrade").is_some_and(|u| u.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "a WebSocket upgrade is expected"));
    }
    let kind = if version < ApiVersion::v1(28) { Opcode::Text } else { Opcode::Binary };
    crate::websocket::answer(request, attached, kind)
}
