//! The image configuration as Docker writes it: the OCI image configuration with Docker's additions (health check,
//! `ONBUILD`, shell, …). Reading is tolerant: unknown members are ignored, `null` means absent. The blob itself is kept byte
//! for byte, since its digest is the image's id; this type is for reading and for making new ones.
//!
//! Source: OCI image specification `config.md`; moby `image/image.go`, `api/types/container/config.go`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use weft_base::Timestamp;
use weft_model::Digest;

use crate::error::{ImageError, Result};

fn null_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(d).map(Option::unwrap_or_default)
}

/// The configuration of an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// Architecture in Go's words: `amd64`, `arm64`.
    #[serde(deserialize_with = "null_default")]
    pub architecture: String,
    /// Variant such as `v7`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// `linux`.
    #[serde(deserialize_with = "null_default")]
    pub os: String,
    /// Version of the system (Windows only).
    #[serde(
        rename = "os.version",
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub os_version: String,
    /// When it was made, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// Message of the commit.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Version of the engine that made it.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub docker_version: String,
    /// Id of the container it was committed from.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub container: String,
    /// Configuration of that container, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_config: Option<serde_json::Value>,
    /// Defaults for containers.
    #[serde(deserialize_with = "null_default")]
    pub config: RunConfig,
    /// Layers.
    #[serde(deserialize_with = "null_default")]
    pub rootfs: RootFs,
    /// How it was made, lowest first.
    #[serde(deserialize_with = "null_default")]
    pub history: Vec<History>,
}

/// What an image says of the containers made from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RunConfig {
    /// Host name (old images).
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// User, `name`, `uid`, `name:group`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Declared ports, `80/tcp`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    /// Environment.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Entry point; absent and empty differ.
    #[serde(deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Command.
    #[serde(deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Health>,
    /// Windows only.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    /// Declared volumes.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    /// Working directory.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Build steps for images made from this one.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// Labels.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Signal that stops it.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Seconds between the stop signal and the kill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Shell for the shell forms.
    #[serde(deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// A health check as images write it; times in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Health {
    /// `[]` inherit, `["NONE"]`, `["CMD", …]`, `["CMD-SHELL", line]`.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two probes.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// The longest a probe may take.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Failures do not count so long after start.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between probes during that time.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// The layers, by diff id, lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the plain archives.
    #[serde(default, deserialize_with = "null_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".into(), diff_ids: Vec::new() }
    }
}

/// One step of how an image was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// By whom.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// Message.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// No layer came of it.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// A list of words, one word alone (old images), or nothing.
fn words<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(Option::<Words>::deserialize(d)?.map(|w| match w {
        Words::One(word) => vec![word],
        Words::Many(words) => words,
    }))
}

impl ImageConfig {
    /// Reads the blob.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        // The derived reader would take a list for an object whose members are all absent.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(ImageError::corrupt("image configuration", "it is no JSON object"));
        }
        serde_json::from_slice(bytes).map_err(|e| ImageError::corrupt("image configuration", e.to_string()))
    }

    /// The text of a new blob.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| ImageError::Internal(e.to_string()))
    }

    /// When it was made, if it says so in RFC 3339.
    #[must_use]
    pub fn created_at(&self) -> Option<Timestamp> {
        Timestamp::parse_rfc3339(self.created.as_deref()?)
    }

    /// An image of this machine's kind without layers.
    #[must_use]
    pub fn for_this_machine(created: Timestamp) -> Self {
        Self {
            architecture: architecture().to_owned(),
            os: "linux".to_owned(),
            created: Some(created.rfc3339_nano()),
            ..Self::default()
        }
    }
}

/// This machine's architecture in Go's words.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_and_odd_configurations_are_read() {
        let text = br#"{"architecture":"amd64","os":"linux","created":"2024-01-02T03:04:05.6Z","history":null,
            "config":{"Hostname":"","Cmd":"sh","Env":null,"ExposedPorts":{"80/tcp":{}},"Labels":null,"Shell":["/bin/ash"],
            "Healthcheck":{"Test":["CMD","x"],"Interval":5},"Tty":false,"Entrypoint":null},
            "rootfs":{"type":"layers","diff_ids":null},"moby.buildkit.cache.v0":"x"}"#;
        let config = ImageConfig::parse(text).unwrap();
        assert_eq!(config.config.cmd, Some(vec!["sh".to_owned()]));
        assert_eq!(config.config.entrypoint, None);
        assert_eq!(config.config.healthcheck.as_ref().unwrap().interval, 5);
        assert_eq!(ImageConfig::parse(&config.to_bytes().unwrap()).unwrap(), config);
        for text in ["{}", r#"{"config":null,"rootfs":null}"#] {
            assert!(ImageConfig::parse(text.as_bytes()).is_ok());
        }
        for text in ["", "[]", r#"{"rootfs":{"type":"layers","diff_ids":["sha256:zz"]}}"#] {
            assert!(ImageConfig::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
