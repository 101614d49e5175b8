//! `GET /images/json`.

use axum::{Extension, extract::State, response::Response};
use serde_json::Value;
use weft_cloud::{Caller, ImageDetail, ImageView};
use weft_model::Reference;

use super::{
    show::created,
    wire::{self, descriptor, summary},
};
use crate::{
    ApiVersion, Face,
    error::{ApiError, Result},
    pattern::{Malformed, Pattern},
    query::Params,
    respond,
};

pub(super) async fn list(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    params: Params,
) -> Result<Response> {
    let mut filters = params.filters()?;
    filters.accept(&["before", "dangling", "label", "reference", "since", "until"])?;
    if let Some(name) = params.text("filter").filter(|_| version < ApiVersion::v1(41)) {
        filters.add("reference", name);
    }
    let patterns: Vec<Pattern> = filters
        .values("reference")
        .map(|text| text.parse().map_err(|error: Malformed| ApiError::bad_request(error.to_string())))
        .collect::<Result<_>>()?;
    let dangling = filters.boolean("dangling")?;
    let until = crate::query::until(&filters)?;
    let bound = async |key: &str| -> Result<Option<_>> {
        match filters.values(key).next() {
            Some(name) => Ok(created(&face.cloud.image_view(&caller, name, None).await?)),
            None => Ok(None),
        }
    };
    let (before, since) = (bound("before").await?, bound("since").await?);
    let manifests = version >= ApiVersion::v1(47) && params.flag("manifests");
    let detail = ImageDetail {
        shared: version >= ApiVersion::v1(42) && params.flag("shared-size"),
        // Before, the list did not say who uses an image.
        containers: manifests || version >= ApiVersion::v1(51),
        targets: manifests || version >= ApiVersion::v1(48),
    };
    let mut images = face.cloud.image_list(&caller, detail).await?;
    images.sort_by_key(|i| std::cmp::Reverse(created(i)));
    let rows: Vec<Value> = images
        .iter()
        .filter(|i| dangling.is_none_or(|want| i.image.spec.tags.is_empty() == want))
        .filter(|i| until.is_none_or(|u| created(i).is_some_and(|c| c < u)))
        .filter(|i| before.is_none_or(|b| created(i).is_some_and(|c| c < b)))
        .filter(|i| since.is_none_or(|s| created(i).is_some_and(|c| c > s)))
        .filter(|i| filters.labels("label", &super::show::labels(i)))
        .filter(|i| by_reference(i, &patterns))
        .map(|i| row(i, manifests, version))
        .collect();
    respond::ok(&rows)
}

fn row(view: &ImageView, manifests: bool, version: ApiVersion) -> Value {
    let mut row = summary(view, version);
    if let Some(map) = row.as_object_mut() {
        if version < ApiVersion::v1(51) {
            map.insert("Containers".into(), (-1).into());
        }
        if let Some(target) = view.target.as_ref().filter(|_| version >= ApiVersion::v1(48)) {
            map.insert("Descriptor".into(), descriptor(target));
        }
        if manifests {
            map.insert("Manifests".into(), wire::manifests(view));
        }
    }
    row
}

/// `reference=alp*:3` matches the familiar name with or without its tag.
fn by_reference(view: &ImageView, patterns: &[Pattern]) -> bool {
    let names = || view.image.spec.tags.iter().chain(&view.image.spec.digests);
    let fits = |pattern: &Pattern| {
        names().any(|n| {
            n.parse::<Reference>().is_ok_and(|r| {
                pattern.matches(&r.familiar()) || pattern.matches(&r.familiar_name()) || pattern.matches(n)
            })
        })
    };
    patterns.is_empty() || patterns.iter().any(fits)
}
