//! `ImageSummary`.

use serde_json::{Value, json};
use weft_cloud::{ImageView, Platform, Target};
use weft_model::Reference;

/// Names as people write them.
pub(super) fn familiar(names: &[String]) -> Vec<String> {
    let familiar = |n: &String| n.parse::<Reference>().map_or_else(|_| n.clone(), |r| r.familiar());
    names.iter().map(familiar).collect()
}

/// One row of a list.
pub(crate) fn summary(view: &ImageView, version: crate::ApiVersion) -> Value {
    let spec = &view.image.spec;
    let mut tags = familiar(&spec.tags);
    let mut digests = familiar(&spec.digests);
    // Before 1.43 clients expected these words for images without a name.
    if version < crate::ApiVersion::v1(43) && tags.is_empty() {
        tags = vec!["<none>:<none>".into()];
        if digests.is_empty() {
            digests = vec!["<none>@<none>".into()];
        }
    }
    let labels = view.config.pointer("/config/Labels").cloned().unwrap_or(Value::Null);
    let mut row = json!({
        "Id": spec.id,
        "ParentId": spec.parent.map(|p| p.to_string()).unwrap_or_default(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Created": super::show::created(view).map_or(0, weft_base::Timestamp::unix_secs),
        "Size": view.image.status.size,
        "SharedSize": view.shared_size.map_or(-1, |s| i64::try_from(s).unwrap_or(i64::MAX)),
        "Labels": labels,
        "Containers": view.containers.as_ref().map_or(-1, |c| i64::try_from(c.len()).unwrap_or(i64::MAX)),
    });
    if let Some(map) = row.as_object_mut()
        && version < crate::ApiVersion::v1(44)
    {
        map.insert("VirtualSize".into(), view.image.status.size.into());
    }
    row
}

/// `OCIDescriptor` of an image's manifest.
pub(crate) fn descriptor(target: &Target) -> Value {
    json!({"mediaType": target.media_type, "digest": target.digest, "size": target.size})
}

/// `OCIPlatform`.
pub(super) fn platform(platform: &Platform) -> Value {
    let mut value = json!({"architecture": platform.architecture, "os": platform.os});
    if let (false, Some(map)) = (platform.variant.is_empty(), value.as_object_mut()) {
        map.insert("variant".into(), platform.variant.clone().into());
    }
    value
}

/// `[]ImageManifestSummary`: an image here is of one platform, so at most one.
pub(super) fn manifests(view: &ImageView) -> Value {
    let Some(target) = &view.target else { return json!([]) };
    let (unpacked, platform) = (view.image.status.size, platform(&target.platform));
    let mut descriptor = descriptor(target);
    if let Some(map) = descriptor.as_object_mut() {
        map.insert("platform".into(), platform.clone());
    }
    json!([{
        "ID": target.digest,
        "Descriptor": descriptor,
        "Available": target.available,
        "Size": {"Content": target.content, "Total": target.content + unpacked},
        "Kind": "image",
        "ImageData": {
            "Platform": platform,
            "Size": {"Unpacked": unpacked},
            "Containers": view.containers.as_deref().unwrap_or_default(),
        },
    }])
}
