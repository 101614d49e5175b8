//! `POST /v1/networks/{name}/set`: larger and further subnets, and other ranges, for a network in use.
//!
//! ```json
//! {"subnet": "10.1.0.0/23", "ranges": ["10.1.1.0/24"], "add": [{"subnet": "10.9.0.0/24", "gateway": "10.9.0.254", "range": "", "reserved": {"a": "10.9.0.9"}}]}
//! ```
//! All parts are optional; each range is for the subnet around it. The answer is the network as `GET /v1/networks/{name}` shows it.

use std::collections::BTreeMap;

use axum::{
    Extension, Json, Router,
    extract::{Path, State, rejection::JsonRejection},
    routing::post,
};
use serde::Deserialize;
use serde_json::Value;
use weft_cloud::{Caller, IpamDraft, NetworkChange};

use crate::{Face, error::Result, networks::rendered};

pub(crate) fn routes() -> Router<Face> {
    Router::new().route("/v1/networks/{name}/set", post(set))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default)]
    subnet: Option<String>,
    #[serde(default)]
    ranges: Vec<String>,
    #[serde(default)]
    add: Vec<Subnet>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subnet {
    subnet: String,
    #[serde(default)]
    gateway: String,
    #[serde(default)]
    range: String,
    #[serde(default)]
    reserved: BTreeMap<String, String>,
}

impl From<Body> for NetworkChange {
    fn from(body: Body) -> Self {
        let draft =
            |s: Subnet| IpamDraft { subnet: s.subnet, range: s.range, gateway: s.gateway, aux: s.reserved };
        Self { subnet: body.subnet, ranges: body.ranges, add: body.add.into_iter().map(draft).collect() }
    }
}

async fn set(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: std::result::Result<Json<Body>, JsonRejection>,
) -> Result<Json<Value>> {
    let Json(body) = body?;
    Ok(Json(rendered(&face.cloud.network_set(&caller, &name, &body.into()).await?)))
}
