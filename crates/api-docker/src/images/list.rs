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
    query::{Filters, Params},
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
    filters.values("reference").try_for_each(check_pattern)?;
    if let Some(name) = params.text("filter").filter(|_| version < ApiVersion::v1(41)) {
        filters.add("reference", name);
    }
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
        .filter(|i| by_reference(i, &filters))
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
fn by_reference(view: &ImageView, filters: &Filters) -> bool {
    let names = || view.image.spec.tags.iter().chain(&view.image.spec.digests);
    filters.any("reference", |pattern| {
        names().any(|n| {
            n.parse::<Reference>().is_ok_and(|r| {
                glob(pattern, &r.familiar()) || glob(pattern, &r.familiar_name()) || glob(pattern, n)
            })
        })
    })
}

/// What Go's `path.Match` refuses: a class that does not end, an escape of nothing.
fn check_pattern(pattern: &str) -> Result<()> {
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        let whole = match letter {
            '\\' => letters.next().is_some(),
            '[' => letters.by_ref().skip(1).any(|c| c == ']'),
            _ => true,
        };
        if !whole {
            return Err(ApiError::bad_request("syntax error in pattern".into()));
        }
    }
    Ok(())
}

/// Go's `path.Match` for `*` and `?`: neither matches a slash.
fn glob(pattern: &str, text: &str) -> bool {
    fn matches(p: &[u8], t: &[u8]) -> bool {
        match (p.split_first(), t.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                matches(rest, t) || t.split_first().is_some_and(|(c, tail)| *c != b'/' && matches(p, tail))
            }
            (Some((b'?', rest)), Some((c, tail))) => *c != b'/' && matches(rest, tail),
            (Some((a, rest)), Some((b, tail))) => a == b && matches(rest, tail),
            _ => false,
        }
    }
    matches(pattern.as_bytes(), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn patterns_must_be_whole() {
        for (pattern, good) in
            [("alp*", true), ("[", false), ("a[b-d]*", true), ("a[", false), ("x\\", false)]
        {
            assert_eq!(super::check_pattern(pattern).is_ok(), good, "{pattern}");
        }
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("alpine", "alpine", true),
            ("alp*", "alpine:3", true),
            ("*:3", "alpine:3", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("a?", "ab", true),
            ("a?", "a", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
