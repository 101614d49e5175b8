//! Rename and update.

use axum::{
    Extension,
    extract::{Path, State},
    response::Response,
};
use serde::{Deserialize, de::Error as _};
use serde_json::{Value, json};
use weft_cloud::{Caller, ContainerUpdate};

use super::{
    parse,
    wire::{ResourcesWire, RestartPolicyWire},
};
use crate::{
    ApiError, Face,
    error::Result,
    fold,
    query::Params,
    respond::{self, JsonBody},
};

pub(super) async fn rename(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response> {
    let Some(name) = params.text("name") else {
        return Err(ApiError::bad_request("Neither old nor new names may be empty".into()));
    };
    face.cloud.container_rename(&caller, &id, name.trim_start_matches('/')).await?;
    respond::no_content()
}

/// Body of an update: limits and, optionally, a restart policy.
#[derive(Debug, Default)]
pub(super) struct Body {
    resources: ResourcesWire,
    restart: RestartPolicyWire,
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Rest {
            #[serde(rename = "RestartPolicy")]
            restart: RestartPolicyWire,
        }
        let body = Value::deserialize(deserializer)?;
        let Rest { restart } = fold::from_value(body.clone()).map_err(D::Error::custom)?;
        Ok(Self {
            resources: fold::from_value(body).map_err(|e| D::Error::custom(e.embedded_in("UpdateConfig")))?,
            restart,
        })
    }
}

pub(super) async fn update(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<Body>,
) -> Result<Response> {
    let restart = match body.restart.name.as_str() {
        "" => None,
        _ => Some(parse::restart_policy(&body.restart, false)?),
    };
    let change = ContainerUpdate { resources: parse::limits(&body.resources)?, restart };
    let warnings = face.cloud.container_update(&caller, &id, change).await?;
    respond::ok(&json!({"Warnings": warnings}))
}
