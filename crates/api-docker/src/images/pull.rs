//! `POST /images/create`: pull from a registry, or import a file system.

use axum::{Extension, body::Body, extract::State, http::HeaderMap, response::Response};
use weft_cloud::{Caller, ImportDraft, PullDraft};

use super::{auth, change::reference};
use crate::{ApiError, ApiVersion, Face, error::Result, progress, query::Params};

pub(super) async fn create(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    headers: HeaderMap,
    params: Params,
    body: Body,
) -> Result<Response> {
    let platform = params.text("platform").filter(|_| version >= ApiVersion::v1(32)).map(str::to_owned);
    match (params.text("fromImage"), params.text("fromSrc")) {
        (Some(image), _) => pull(face, caller, &headers, &params, platform, image).await,
        (None, Some(source)) => import(face, caller, &params, platform, source, body).await,
        (None, None) => Err(ApiError::bad_request("either fromImage or fromSrc is needed".into())),
    }
}

async fn pull(
    face: Face,
    caller: Caller,
    headers: &HeaderMap,
    params: &Params,
    platform: Option<String>,
    image: &str,
) -> Result<Response> {
    let tag = params.text("tag");
    let reference = match tag {
        Some(_) => reference(image, tag)?,
        // Without a tag the API means all tags of the repository; a tag within the name counts.
        None => {
            image.parse().map_err(|e: weft_model::ReferenceError| ApiError::bad_request(e.to_string()))?
        }
    };
    let draft = PullDraft {
        all_tags: reference.pick.tag.is_none() && reference.pick.digest.is_none(),
        reference,
        platform,
        credentials: auth::credentials(headers)?,
    };
    progress::stream(move |sink| async move { face.cloud.image_pull(&caller, draft, sink).await }).await
}

async fn import(
    face: Face,
    caller: Caller,
    params: &Params,
    platform: Option<String>,
    source: &str,
    body: Body,
) -> Result<Response> {
    let target = params.text("repo").map(|repo| reference(repo, params.text("tag"))).transpose()?;
    let draft = ImportDraft {
        target,
        message: params.text("message").unwrap_or_default().to_owned(),
        changes: params.all("changes").map(str::to_owned).collect(),
        platform,
    };
    let source = source.to_owned();
    progress::stream(move |sink| async move {
        let id = match source.as_str() {
            "-" => face.cloud.image_import(&caller, draft, body.into_data_stream()).await?,
            url => face.cloud.image_import_url(&caller, draft, url, sink.clone()).await?,
        };
        sink.status(id.to_string()).await;
        Ok(())
    })
    .await
}
