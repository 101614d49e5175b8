//! `GET /images/{name}/json`.

use axum::{
    Extension,
    extract::{Path, State},
    response::Response,
};
use serde_json::{Map, Value, json};
use weft_base::Timestamp;
use weft_cloud::{Caller, ImageView};
use weft_model::Labels;

use super::wire::{self, familiar};
use crate::{ApiError, ApiVersion, Face, error::Result, query::Params, respond};

/// When the image says it was made.
pub(super) fn created(view: &ImageView) -> Option<Timestamp> {
    view.config.get("created").and_then(Value::as_str).and_then(Timestamp::parse_rfc3339)
}

/// The image's labels.
pub(super) fn labels(view: &ImageView) -> Labels {
    let labels = view.config.pointer("/config/Labels").and_then(Value::as_object);
    labels.into_iter().flatten().filter_map(|(k, v)| v.as_str().map(|v| (k.clone(), v.to_owned()))).collect()
}

pub(super) async fn inspect(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response> {
    let manifests = version >= ApiVersion::v1(48) && params.flag("manifests");
    let platform = params.platforms("platform", version, 49)?.into_iter().next();
    if manifests && platform.is_some() {
        return Err(ApiError::bad_request(
            "conflicting options: manifests and platform options cannot both be set".into(),
        ));
    }
    let view = face.cloud.image_view(&caller, &name, platform.as_ref()).await?;
    let mut value = render(&view, version);
    if let Some(map) = value.as_object_mut() {
        if let Some(target) = view.target.as_ref().filter(|_| version >= ApiVersion::v1(48)) {
            map.insert("Descriptor".into(), wire::descriptor(target));
        }
        if manifests {
            map.insert("Manifests".into(), wire::manifests(&view));
        }
    }
    respond::ok(&value)
}

/// Fields of a container's configuration that mean nothing in an image's, shown before 1.50.
const OF_CONTAINERS: [&str; 9] = [
    "Hostname",
    "Domainname",
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "Tty",
    "OpenStdin",
    "StdinOnce",
    "Image",
];

/// The image's container defaults with every field that Docker's clients expect.
fn config(image: &Value, version: ApiVersion) -> Value {
    let mut all = Map::new();
    for (key, empty) in [
        ("Hostname", json!("")),
        ("Domainname", json!("")),
        ("User", json!("")),
        ("AttachStdin", json!(false)),
        ("AttachStdout", json!(false)),
        ("AttachStderr", json!(false)),
        ("Tty", json!(false)),
        ("OpenStdin", json!(false)),
        ("StdinOnce", json!(false)),
        ("Env", Value::Null),
        ("Cmd", Value::Null),
        ("Image", json!("")),
        ("Volumes", Value::Null),
        ("WorkingDir", json!("")),
        ("Entrypoint", Value::Null),
        ("OnBuild", Value::Null),
        ("Labels", Value::Null),
    ] {
        all.insert(key.into(), empty);
    }
    for (key, value) in image.get("config").and_then(Value::as_object).into_iter().flatten() {
        all.insert(key.clone(), value.clone());
    }
    if version >= ApiVersion::v1(50) {
        all.retain(|key, _| !OF_CONTAINERS.contains(&key.as_str()));
    }
    Value::Object(all)
}

fn render(view: &ImageView, version: ApiVersion) -> Value {
    let (spec, image) = (&view.image.spec, view.config.as_ref());
    let text = |key: &str| image.get(key).and_then(Value::as_str).unwrap_or_default();
    let layers: Vec<String> = spec.diff_ids.iter().map(ToString::to_string).collect();
    let paths: Vec<String> = view.layers.iter().map(|p| p.display().to_string()).collect();
    let (upper, lower) =
        paths.split_first().map_or((String::new(), String::new()), |(u, l)| (u.clone(), l.join(":")));
    let mut graph = json!({"MergedDir": "", "UpperDir": upper, "WorkDir": ""});
    if let (false, Some(map)) = (lower.is_empty(), graph.as_object_mut()) {
        map.insert("LowerDir".into(), lower.into());
    }
    let tagged =
        view.image.status.tagged_at.map_or_else(|| "0001-01-01T00:00:00Z".into(), Timestamp::rfc3339_nano);
    let mut value = json!({
        "Id": spec.id,
        "RepoTags": familiar(&spec.tags),
        "RepoDigests": familiar(&spec.digests),
        "Parent": spec.parent.map(|p| p.to_string()).unwrap_or_default(),
        "Comment": last_comment(image),
        "Created": created(view).map(|c| c.rfc3339_nano()).unwrap_or_default(),
        "DockerVersion": text("docker_version"),
        "Author": text("author"),
        "Config": config(image, version),
        "Architecture": text("architecture"),
        "Os": text("os"),
        "Size": view.image.status.size,
        "GraphDriver": {"Name": "overlay2", "Data": graph},
        "RootFS": {"Type": "layers", "Layers": layers},
        "Metadata": {"LastTagTime": tagged},
    });
    if let Some(map) = value.as_object_mut() {
        if let Some(variant) = image.get("variant").filter(|v| v.as_str().is_some_and(|v| !v.is_empty())) {
            map.insert("Variant".into(), variant.clone());
        }
        if version < ApiVersion::v1(44) {
            map.insert("VirtualSize".into(), view.image.status.size.into());
        }
        if version < ApiVersion::v1(45) {
            map.insert("Container".into(), text("container").into());
            let container = json!({"config": image.get("container_config")});
            map.insert("ContainerConfig".into(), config(&container, version));
        }
    }
    value
}

fn last_comment(image: &Value) -> &str {
    image.pointer("/comment").and_then(Value::as_str).unwrap_or_default()
}
