//! Manifests and indexes, OCI's and Docker's, told apart and checked. Pure.
//!
//! Sources: OCI image specification `manifest.md`, `image-index.md`; distribution `docs/spec/manifest-v2-2.md`.

use serde::{Deserialize, Serialize};
use weft_model::Digest;

use super::{
    error::{RegistryError, Result},
    platform::Platform,
};

pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(super) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(super) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub(super) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What we understand, for `Accept`.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1, application/json;q=0.1";

/// Points at a blob or manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    #[serde(default)]
    pub size: u64,
    pub digest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// A manifest of one image.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageManifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub config: Descriptor,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

/// A manifest or a list of them.
#[derive(Clone, Debug)]
pub(super) enum Document {
    Index(Vec<Descriptor>),
    Image(ImageManifest),
}

/// Reads `bytes`; `name` is for messages. Also tells the document's media type.
pub(super) fn parse(bytes: &[u8], content_type: &str, name: &str) -> Result<(Document, String)> {
    let bad =
        |e: serde_json::Error| RegistryError::Unexpected(format!("manifest of {name} cannot be read: {e}"));
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(bad)?;
    let own = value.get("mediaType").and_then(|t| t.as_str()).unwrap_or("");
    let sent = content_type.split(';').next().unwrap_or("").trim();
    let has = |key: &str| value.get(key).is_some();
    // A document that could be read both ways is refused (CVE-2021-41190).
    if has("manifests") && (has("layers") || has("config")) {
        return Err(RegistryError::Unexpected(format!(
            "manifest of {name} is ambiguous: both index and image"
        )));
    }
    let version = value.get("schemaVersion").and_then(serde_json::Value::as_u64);
    if version == Some(1) || has("fsLayers") {
        return Err(RegistryError::SchemaOne(name.to_owned()));
    }
    if has("manifests") {
        let kind =
            [own, sent].into_iter().find(|t| matches!(*t, OCI_INDEX | DOCKER_LIST)).unwrap_or(OCI_INDEX);
        let index: Index = serde_json::from_value(value.clone()).map_err(bad)?;
        return Ok((Document::Index(index.manifests), kind.to_owned()));
    }
    if has("config") {
        let kind = [own, sent]
            .into_iter()
            .find(|t| matches!(*t, OCI_MANIFEST | DOCKER_MANIFEST))
            .unwrap_or(OCI_MANIFEST);
        let manifest: ImageManifest = serde_json::from_value(value.clone()).map_err(bad)?;
        return Ok((Document::Image(manifest), kind.to_owned()));
    }
    let kind = if own.is_empty() { sent } else { own };
    Err(RegistryError::Unsupported(format!(
        "unsupported manifest media type and no default available: {kind}"
    )))
}

/// The entry of an index for `platform`.
pub(super) fn choose<'a>(entries: &'a [Descriptor], platform: &Platform) -> Result<&'a Descriptor> {
    let known = |d: &&Descriptor| {
        matches!(d.media_type.as_str(), "" | OCI_MANIFEST | DOCKER_MANIFEST | OCI_INDEX | DOCKER_LIST)
    };
    let entries: Vec<&Descriptor> = entries.iter().filter(known).collect();
    let offers: Vec<_> = entries.iter().map(|d| d.platform.clone()).collect();
    match platform.pick(&offers) {
        Some(at) => Ok(entries[at]),
        // An entry that does not say for what it is may be anything, unless others do say.
        None => match entries[..] {
            [one] if one.platform.is_none() => Ok(one),
            _ => Err(RegistryError::NoPlatform(platform.clone())),
        },
    }
}

/// Refuses what is no image of a file system (charts, signatures, …), or not one we can fetch.
pub(super) fn check(manifest: &ImageManifest, name: &str) -> Result<()> {
    let kind = manifest.config.media_type.as_str();
    if !matches!(kind, "" | OCI_CONFIG | DOCKER_CONFIG | "application/octet-stream" | "text/html") {
        return Err(RegistryError::Unsupported(format!(
            "Encountered remote {kind:?}(unknown) when fetching"
        )));
    }
    for layer in &manifest.layers {
        let kind = layer.media_type.as_str();
        if kind.contains("foreign") || kind.contains("nondistributable") {
            return Err(RegistryError::Unsupported(format!(
                "layer {} of {name} is not distributed by registries",
                layer.digest
            )));
        }
        if kind.contains("encrypted") {
            return Err(RegistryError::Unsupported(format!(
                "layer {} of {name} is encrypted, which",
                layer.digest
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(n: u8) -> String {
        format!("sha256:{}", format!("{n:02x}").repeat(32))
    }

    #[test]
    fn kinds_are_told_apart() {
        let image = format!(r#"{{"schemaVersion":2,"config":{{"digest":"{}"}},"layers":[]}}"#, d(1));
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        for (text, sent, expected) in [
            (
                image.as_str(),
                "application/vnd.docker.distribution.manifest.v2+json; charset=utf-8",
                Ok(DOCKER_MANIFEST),
            ),
            (image.as_str(), "application/json", Ok(OCI_MANIFEST)),
            (index, DOCKER_LIST, Ok(DOCKER_LIST)),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, "", Err("schema 1")),
            (r#"{"schemaVersion":2,"manifests":[],"config":{}}"#, "", Err("ambiguous")),
            (r#"{"schemaVersion":2}"#, "a/b", Err("unsupported manifest media type")),
            ("[", "", Err("cannot be read")),
            (r#"{"manifests":[{"digest":"sha256:0"}]}"#, "", Err("cannot be read")),
        ] {
            match (parse(text.as_bytes(), sent, "x"), expected) {
                (Ok((_, kind)), Ok(wanted)) => assert_eq!(kind, wanted),
                (Err(error), Err(wanted)) => assert!(error.to_string().contains(wanted), "{error}"),
                (found, wanted) => panic!("{text}: {found:?}, wanted {wanted:?}"),
            }
        }
    }

    #[test]
    fn what_fits_nowhere_is_said() {
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"digest":"{}","platform":{{"os":"linux","architecture":"s390x"}}}}]}}"#,
            d(1)
        );
        let (Document::Index(entries), _) = parse(text.as_bytes(), "", "x").unwrap() else { panic!() };
        assert!(choose(&entries, &"linux/s390x".parse().unwrap()).is_ok());
        assert_eq!(
            choose(&entries, &"linux/arm64".parse().unwrap()).unwrap_err().to_string(),
            "no matching manifest for linux/arm64 in the manifest list entries"
        );
    }
}
