//! `GET /version`.

use axum::{Extension, extract::State, response::Response};
use serde_json::json;
use weft_cloud::Caller;

use crate::{Face, MAXIMUM, MINIMUM, error::Result, respond};

/// `SystemVersion`.
pub(super) async fn version(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
) -> Result<Response> {
    let host = face.cloud.host(&caller)?;
    let built = face.facts.built.clone();
    let arch = goarch(&host.machine);
    respond::ok(&json!({
        "Platform": {"Name": format!("Weft {}", host.version)},
        "Components": [{
            "Name": "Engine",
            "Version": host.version,
            "Details": {
                "ApiVersion": MAXIMUM.to_string(),
                "Arch": arch,
                "BuildTime": built,
                "Experimental": "false",
                "GitCommit": face.facts.commit,
                "GoVersion": "none (Rust)",
                "KernelVersion": host.kernel,
                "MinAPIVersion": MINIMUM.to_string(),
                "Os": "linux",
            },
        }],
        "Version": host.version,
        "ApiVersion": MAXIMUM.to_string(),
        "MinAPIVersion": MINIMUM.to_string(),
        "GitCommit": face.facts.commit,
        "GoVersion": "none (Rust)",
        "Os": "linux",
        "Arch": arch,
        "KernelVersion": host.kernel,
        "BuildTime": built,
    }))
}

/// The architecture in Go's words.
pub(super) fn goarch(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
