//! `docker cp`: what is at a path of a container, out of it and into it.

use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
    http::HeaderValue,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use weft_cloud::{ArchiveStat, Caller, PutOptions};

use crate::{ApiError, Face, error::Result, query::Params};

const STAT: &str = "x-docker-container-path-stat";

fn path(params: &Params) -> Result<&str> {
    params.text("path").ok_or_else(|| ApiError::bad_request("missing \"path\" parameter".into()))
}

/// `X-Docker-Container-Path-Stat`: base64 of JSON. The mode has Go's bits.
fn stat_header(stat: &ArchiveStat) -> Result<HeaderValue> {
    let value = json!({
        "name": stat.name, "size": stat.size, "mode": go_mode(stat.mode),
        "mtime": stat.mtime.to_string(), "linkTarget": stat.link_target,
    });
    HeaderValue::from_str(&STANDARD.encode(value.to_string()))
        .map_err(|e| ApiError::new(http::StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}

/// `st_mode` as Go's `os.FileMode`: type bits at the top, permissions at the bottom.
fn go_mode(mode: u32) -> u32 {
    let kind = match mode & 0o170_000 {
        0o040_000 => 1 << 31,
        0o120_000 => 1 << 27,
        0o060_000 => 1 << 26,
        0o020_000 => (1 << 26) | (1 << 21),
        0o010_000 => 1 << 25,
        0o140_000 => 1 << 24,
        _ => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)]
        .iter()
        .filter(|(bit, _)| mode & bit != 0)
        .fold(0, |all, (_, go)| all | go);
    kind | special | (mode & 0o777)
}

pub(super) async fn head(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response> {
    let stat = face.cloud.archive_stat(&caller, &id, path(&params)?).await?;
    Ok(([(STAT, stat_header(&stat)?)], ()).into_response())
}

pub(super) async fn get(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response> {
    let (stat, stream) = face.cloud.archive_get(&caller, &id, path(&params)?).await?;
    let headers =
        [(STAT, stat_header(&stat)?), ("content-type", HeaderValue::from_static("application/x-tar"))];
    Ok((headers, weft_api_kit::receiver_body(stream)).into_response())
}

pub(super) async fn put(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    params: Params,
    body: Body,
) -> Result<Response> {
    let options = PutOptions {
        no_overwrite_dir_non_dir: params.flag("noOverwriteDirNonDir"),
        copy_uid_gid: params.flag("copyUIDGID"),
    };
    face.cloud.archive_put(&caller, &id, path(&params)?, options, body.into_data_stream()).await?;
    Ok(().into_response())
}

#[cfg(test)]
mod tests {
    use super::go_mode;

    #[test]
    fn modes_in_gos_bits() {
        for (mode, expected) in
            [(0o100_644, 0o644), (0o040_755, 0x8000_01ed), (0o120_777, 0x0800_01ff), (0o041_777, 0x8010_01ff)]
        {
            assert_eq!(go_mode(mode), expected, "{mode:o}");
        }
    }
}
