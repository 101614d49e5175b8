//! Images as archives: load and save.

use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use weft_cloud::{Caller, Loaded, Platform};
use weft_model::Reference;

use crate::{ApiError, ApiVersion, Face, error::Result, progress, query::Params};

const SEVERAL: &str =
    "multiple platform parameters are not supported in this API version; use API version 1.52 or later";

/// `POST /images/load`.
pub(super) async fn load(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    params: Params,
    body: Body,
) -> Result<Response> {
    let quiet = params.flag_or("quiet", true);
    let platform = params.platform("platform", version, 48, SEVERAL)?;
    progress::stream_all(move |sink| async move {
        let told = (!quiet).then(|| sink.clone());
        let loaded = face.cloud.image_load(&caller, body.into_data_stream(), platform, told).await?;
        for item in loaded {
            let line = match item {
                Loaded::Named(name) => {
                    let familiar = name.parse::<Reference>().map_or(name, |r| r.familiar());
                    format!("Loaded image: {familiar}\n")
                }
                Loaded::Unnamed(id) => format!("Loaded image ID: {id}\n"),
            };
            sink.output(line).await;
        }
        Ok(())
    })
    .await
}

/// `GET /images/{name}/get`.
pub(super) async fn save_one(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response> {
    save(face, caller, vec![name], params.platform("platform", version, 48, SEVERAL)?).await
}

/// `GET /images/get?names=…`.
pub(super) async fn save_many(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    params: Params,
) -> Result<Response> {
    let names: Vec<String> = params.all("names").flat_map(|n| n.split(',')).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(ApiError::bad_request("at least one image name is needed".into()));
    }
    save(face, caller, names, params.platform("platform", version, 48, SEVERAL)?).await
}

async fn save(
    face: Face,
    caller: Caller,
    names: Vec<String>,
    platform: Option<Platform>,
) -> Result<Response> {
    let stream = face.cloud.image_save(&caller, names, platform.as_ref()).await?;
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], weft_api_kit::receiver_body(stream)).into_response())
}
