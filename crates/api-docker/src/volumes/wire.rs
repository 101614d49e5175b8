//! `Volume` as Docker's clients read it.

use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use weft_cloud::VolumeView;

/// Body of `POST /volumes/create`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct CreateBody {
    pub name: String,
    pub driver: String,
    pub driver_opts: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub cluster_volume_spec: Option<Value>,
}

/// A volume; its usage only where it was asked for (`system df`).
pub(crate) fn render(view: &VolumeView) -> Value {
    let (meta, spec) = (&view.volume.meta, &view.volume.spec);
    let or_null = |map: &BTreeMap<String, String>| if map.is_empty() { Value::Null } else { json!(map) };
    let mut value = json!({
        "CreatedAt": meta.created.to_string(),
        "Driver": spec.driver,
        "Labels": or_null(&meta.labels),
        "Mountpoint": view.mountpoint,
        "Name": spec.name,
        "Options": or_null(&spec.options),
        "Scope": "local",
    });
    if let (Some(usage), Some(map)) = (view.usage, value.as_object_mut()) {
        map.insert("UsageData".into(), json!({"RefCount": usage.users, "Size": usage.bytes}));
    }
    value
}
