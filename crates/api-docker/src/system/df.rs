//! `GET /system/df`.

use axum::{Extension, extract::State, response::Response};
use serde_json::{Value, json};
use weft_base::{Clock, SystemClock};
use weft_cloud::{Caller, UsageKinds};

use crate::{ApiError, ApiVersion, Face, containers, error::Result, images, query::Params, respond, volumes};

pub(super) async fn df(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    params: Params,
) -> Result<Response> {
    let mut kinds = UsageKinds::default();
    // Kinds could be chosen from 1.42 on.
    let chosen = || params.all("type").filter(|_| version >= ApiVersion::v1(42));
    for kind in chosen() {
        match kind {
            "container" => kinds.containers = true,
            "image" => kinds.images = true,
            "volume" => kinds.volumes = true,
            "build-cache" => {}
            other => return Err(ApiError::bad_request(format!("unknown object type: {other}"))),
        }
    }
    if chosen().next().is_none() {
        kinds = UsageKinds { containers: true, images: true, volumes: true };
    }
    let usage = face.cloud.disk_usage(&caller, kinds).await?;
    let now = SystemClock.now();
    let containers: Vec<Value> =
        usage.containers.iter().map(|c| containers::summary(c, now, version)).collect::<Result<_>>()?;
    let images: Vec<Value> = usage.images.iter().map(|i| images::summary(i, version)).collect();
    let volumes: Vec<Value> = usage.volumes.iter().map(volumes::render).collect();
    let mut answer = json!({
        "LayersSize": usage.layers,
        "Images": if kinds.images { json!(images) } else { Value::Null },
        "Containers": if kinds.containers { json!(containers) } else { Value::Null },
        "Volumes": if kinds.volumes { json!(volumes) } else { Value::Null },
        "BuildCache": [],
    });
    if let Some(map) = answer.as_object_mut()
        && version < ApiVersion::v1(42)
    {
        map.insert("BuilderSize".into(), 0.into());
    }
    respond::ok(&answer)
}
