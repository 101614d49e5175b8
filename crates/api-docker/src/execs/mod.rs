//! Further processes in running containers.

use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::json;
use weft_cloud::{Caller, ExecDraft, ExecView};

use crate::{
    ApiError, ApiVersion, Face,
    containers::window,
    error::Result,
    hijack,
    query::Params,
    respond::{self, JsonBody},
};

pub(crate) fn routes() -> Router<Face> {
    Router::new()
        .route("/containers/{id}/exec", post(create))
        .route("/exec/{id}/start", post(start))
        .route("/exec/{id}/resize", post(resize))
        .route("/exec/{id}/json", get(inspect))
}

/// Body of a creation.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CreateBody {
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    console_size: Option<[u16; 2]>,
    detach_keys: String,
    tty: bool,
    env: Vec<String>,
    cmd: Vec<String>,
    privileged: bool,
    user: String,
    working_dir: String,
}

async fn create(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<CreateBody>,
) -> Result<Response> {
    if body.cmd.is_empty() {
        return Err(ApiError::bad_request("No exec command specified".into()));
    }
    let draft = ExecDraft {
        args: body.cmd,
        env: body.env,
        working_dir: body.working_dir,
        user: body.user,
        tty: body.tty,
        attach: (body.attach_stdin, body.attach_stdout, body.attach_stderr),
        privileged: body.privileged,
        detach_keys: body.detach_keys,
        console_size: console_size(body.console_size, version),
    };
    let exec = face.cloud.exec_create(&caller, &id, draft).await?;
    respond::json(StatusCode::CREATED, &json!({"Id": exec}))
}

/// The size of a terminal at its start came with 1.42.
fn console_size(given: Option<[u16; 2]>, version: ApiVersion) -> Option<(u16, u16)> {
    given.filter(|_| version >= ApiVersion::v1(42)).map(|[rows, columns]| (rows, columns))
}

/// Body of a start.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct StartBody {
    detach: bool,
    tty: Option<bool>,
    console_size: Option<[u16; 2]>,
}

async fn start(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    request: Request<Body>,
) -> Result<Response> {
    // The connection is taken over behind the body, so the body is read without giving the request away.
    let (mut parts, body) = request.into_parts();
    let bytes = respond::read(body, 64 << 10).await?;
    let body: StartBody = respond::parse(if bytes.is_empty() { b"{}" } else { &bytes })?;
    let size = console_size(body.console_size, version);
    if size.is_some() && !body.tty.unwrap_or(false) {
        return Err(ApiError::bad_request("console size is only supported when TTY is enabled".into()));
    }
    if body.detach {
        face.cloud.exec_start_detached(&caller, &id).await?;
        return Ok(().into_response());
    }
    parts.headers.remove("content-length");
    let attached = face.cloud.exec_start(&caller, &id, size).await?;
    // Clients read the stream as they asked for it here, whatever the exec was made with (moby `postContainerExecStart`).
    let attached = attached.framed(!body.tty.unwrap_or(false));
    Ok(hijack::answer(Request::from_parts(parts, Body::empty()), attached, version, false))
}

async fn resize(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response> {
    let (rows, columns) = window(&params)?;
    face.cloud.exec_resize(&caller, &id, rows, columns).await?;
    Ok(().into_response())
}

async fn inspect(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
) -> Result<Response> {
    let ExecView { spec, running, exit_code, pid, failed } = face.cloud.exec_view(&caller, &id).await?;
    // Engines up to 20.10 had one code for all that cannot be started.
    let exit_code = if failed && version < ApiVersion::v1(42) { exit_code.map(|_| 126) } else { exit_code };
    let (entrypoint, arguments) =
        spec.args.split_first().map_or((String::new(), Vec::new()), |(e, a)| (e.clone(), a.to_vec()));
    respond::ok(&json!({
        "ID": spec.id,
        "Running": running,
        "ExitCode": exit_code,
        "ProcessConfig": {
            "tty": spec.tty,
            "entrypoint": entrypoint,
            "arguments": arguments,
            "privileged": spec.privileged,
            "user": spec.user,
        },
        "OpenStdin": spec.attach.0,
        "OpenStderr": spec.attach.2,
        "OpenStdout": spec.attach.1,
        "CanRemove": !running && exit_code.is_some(),
        "ContainerID": spec.container,
        "DetachKeys": spec.detach_keys,
        "Pid": pid,
    }))
}
