//! Images as archives: load and save.

use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use weft_cloud::{Caller, Loaded};
use weft_model::Reference;

use crate::{ApiError, Face, error::Result, progress, query::Params};

/// `POST /images/load`.
pub(super) async fn load(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    params: Params,
    body: Body,
) -> Result<Response> {
    let quiet = params.flag_or("quiet", true);
    progress::stream_all(move |sink| async move {
        let loaded =
            face.cloud.image_load(&caller, body.into_data_stream(), (!quiet).then(|| sink.clone())).await?;
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
    Path(name): Path<String>,
) -> Result<Response> {
    save(face, caller, vec![name]).await
}

/// `GET /images/get?names=…`.
pub(super) async fn save_many(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Response> {
    let names: Vec<String> = params.all("names").flat_map(|n| n.split(',')).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(ApiError::bad_request("at least one image name is needed".into()));
    }
    save(face, caller, names).await
}

async fn save(face: Face, caller: Caller, names: Vec<String>) -> Result<Response> {
    let stream = face.cloud.image_save(&caller, names).await?;
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], weft_api_kit::receiver_body(stream)).into_response())
}
