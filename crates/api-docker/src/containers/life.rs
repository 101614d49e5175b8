//! Start, stop, restart, kill, pause, resize, remove.

use axum::{
    Extension,
    body::{Body, HttpBody},
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use weft_cloud::{Caller, CloudError, RemoveOptions, StopRequest};

use crate::{ApiError, ApiVersion, Face, error::Result, query::Params, respond};

pub(super) async fn start(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    params: Params,
    body: Body,
) -> Result<Response> {
    // Without an exact length, or seven bytes long, it may say something (moby `postContainersStart`): `{}` and `null` do not.
    if body.size_hint().exact().is_none_or(|length| length > 7) {
        return Err(ApiError::bad_request(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24".into(),
        ));
    }
    if params.text("checkpoint").is_some() {
        return Err(ApiError::unsupported("starting from a checkpoint"));
    }
    face.cloud.container_start(&caller, &id).await?;
    respond::no_content()
}

fn stop_request(params: &Params, version: ApiVersion) -> Result<StopRequest> {
    let signal = params.text("signal").filter(|_| version >= ApiVersion::v1(42)).map(str::to_owned);
    Ok(StopRequest { signal, timeout: params.number("t")? })
}

pub(super) async fn stop(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response> {
    face.cloud.container_stop(&caller, &id, stop_request(&params, version)?).await?;
    respond::no_content()
}

pub(super) async fn restart(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response> {
    face.cloud.container_restart(&caller, &id, stop_request(&params, version)?).await?;
    respond::no_content()
}

pub(super) async fn kill(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response> {
    face.cloud.container_kill(&caller, &id, params.text("signal").unwrap_or("KILL")).await?;
    respond::no_content()
}

pub(super) async fn pause(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response> {
    face.cloud.container_pause(&caller, &id).await?;
    respond::no_content()
}

pub(super) async fn unpause(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response> {
    face.cloud.container_unpause(&caller, &id).await?;
    respond::no_content()
}

/// Rows and columns of a terminal, `h` and `w`, both needed (moby `Uint32Value`). The kernel keeps 16 bits of each.
pub(crate) fn window(params: &Params) -> Result<(u16, u16)> {
    let side = |name: &str, noun: &str| {
        let text = params.get(name).unwrap_or_default();
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let why = match digits.parse::<u32>() {
            Ok(number) if plain && !negative => return Ok(u16::try_from(number).unwrap_or(u16::MAX)),
            _ if plain => "value out of range",
            _ => "invalid syntax",
        };
        Err(ApiError::bad_request(format!("invalid resize {noun} {text:?}: {why}")))
    };
    Ok((side("h", "height")?, side("w", "width")?))
}

pub(super) async fn resize(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response> {
    let (rows, columns) = window(&params)?;
    face.cloud.container_resize(&caller, &id, rows, columns).await?;
    Ok(().into_response())
}

/// How engines up to 20.10 said that a container is not removed while it is up; clients of theirs look for it.
fn in_use_before_42(id: &str, state: &str) -> String {
    let hint = match state {
        "paused" => "Unpause and then stop the container before attempting removal or force remove",
        _ => "Stop the container before attempting removal or force remove",
    };
    format!("You cannot remove a {state} container {id}. {hint}")
}

pub(super) async fn remove(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response> {
    let options =
        RemoveOptions { force: params.flag("force"), volumes: params.flag("v"), link: params.flag("link") };
    face.cloud.container_remove(&caller, &id, options).await.map_err(|error| match error {
        CloudError::InUse { id, state, .. } if version < ApiVersion::v1(42) => {
            ApiError::new(StatusCode::CONFLICT, in_use_before_42(&id, state))
        }
        error => error.into(),
    })?;
    respond::no_content()
}
