//! `POST /images/{name}/push`.

use axum::{
    Extension,
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use weft_cloud::{Caller, PushDraft};

use super::auth;
use crate::{ApiError, ApiVersion, Face, error::Result, progress, query::Params};

pub(super) async fn push(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    Path(name): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response> {
    let text = match params.text("tag") {
        Some(tag) => format!("{name}:{tag}"),
        None => name,
    };
    let reference: weft_model::Reference =
        text.parse().map_err(|e: weft_model::ReferenceError| ApiError::bad_request(e.to_string()))?;
    if reference.pick.digest.is_some() {
        return Err(ApiError::bad_request("cannot push a digest reference".into()));
    }
    let draft = PushDraft {
        all_tags: reference.pick.tag.is_none(),
        reference,
        // Older clients sent it by accident.
        platform: params.platforms("platform", version, 46)?.into_iter().next(),
        credentials: auth::credentials(&headers)?,
    };
    // A name that nothing has is an error of the request, not of the stream.
    face.cloud.push_check(&caller, &draft).await?;
    progress::stream(move |sink| async move { face.cloud.image_push(&caller, draft, sink).await }).await
}
