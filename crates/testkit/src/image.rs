//! Small images made from this machine's static busybox: a docker-archive needs no network and no Docker.
//!
//! The archive is the one that `docker save` writes (image specification v1.2): `manifest.json`,
//! one configuration named by its sha256, and one `layer.tar` for each layer. Its bytes depend on the
//! spec alone, so that the same spec gives the same image id on every machine with the same busybox.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

/// What an image should hold.
#[derive(Clone, Debug, Default)]
pub struct ImageSpec {
    /// `repository:tag` names.
    pub tags: Vec<String>,
    /// Written to `/etc/weft-image`, so that two images differ.
    pub mark: String,
    /// Size in bytes of a second layer of incompressible bytes; none when 0.
    pub ballast: u64,
    /// More members of the image's `config` object (`Env`, `Cmd`, `ExposedPorts`, …), which replace the defaults.
    pub config: serde_json::Map<String, serde_json::Value>,
}

impl ImageSpec {
    /// One tag, marked with it.
    pub fn tagged(tag: &str) -> Self {
        Self { tags: vec![tag.to_owned()], mark: tag.to_owned(), ..Self::default() }
    }
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbin:x:1:1:bin:/bin:/bin/false\n\
    nobody:x:65534:65534:nobody:/home:/bin/false\npostgres:x:70:70:postgres:/var/lib/postgresql:/bin/sh\n";
const GROUP: &str = "root:x:0:root\nbin:x:1:root,bin\nwheel:x:10:root\nnobody:x:65534:\npostgres:x:70:\n";
const FOLDERS: &[(&str, u32)] = &[
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("usr/sbin", 0o755),
    ("sbin", 0o755),
    ("var", 0o755),
    ("var/opt", 0o755),
    ("var/lib", 0o755),
    ("var/tmp", 0o1777),
];
/// 2020-01-01, so that archives are reproducible.
const MTIME: u64 = 1_577_836_800;

/// Writes the docker-archive of `spec` to `path`.
pub fn busybox_archive(spec: &ImageSpec, path: &Path) -> Result<()> {
    let mut layers = vec![base_layer(&spec.mark)?];
    if spec.ballast > 0 {
        layers.push(ballast_layer(spec.ballast)?);
    }
    let digests: Vec<String> = layers.iter().map(|layer| hex::encode(Sha256::digest(layer))).collect();
    let config = image_config(spec, &digests).to_string();
    let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
    let layer_names: Vec<String> = digests.iter().map(|digest| format!("{digest}/layer.tar")).collect();
    let manifest =
        json!([{ "Config": config_name, "RepoTags": spec.tags, "Layers": layer_names }]).to_string();

    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut archive = tar::Builder::new(file);
    append(&mut archive, &config_name, 0o644, config.as_bytes())?;
    for (name, layer) in layer_names.iter().zip(&layers) {
        append(&mut archive, name, 0o644, layer)?;
    }
    append(&mut archive, "manifest.json", 0o644, manifest.as_bytes())?;
    archive.into_inner()?.flush()?;
    Ok(())
}

fn image_config(spec: &ImageSpec, digests: &[String]) -> serde_json::Value {
    let mut config = json!({
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "Cmd": ["sh"],
        "Labels": null,
    });
    if let Some(members) = config.as_object_mut() {
        members.extend(spec.config.clone());
    }
    let history: Vec<_> = digests
        .iter()
        .map(|_| json!({ "created": "2020-01-01T00:00:00Z", "created_by": "weft-testkit" }))
        .collect();
    json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "created": "2020-01-01T00:00:00Z",
        "config": config,
        "history": history,
        "rootfs": { "type": "layers", "diff_ids": digests.iter().map(|d| format!("sha256:{d}")).collect::<Vec<_>>() },
    })
}

fn base_layer(mark: &str) -> Result<Vec<u8>> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let busybox = busybox.context("no busybox: install the package busybox-static")?;
    let applets = Command::new(busybox).arg("--list").output().context("busybox --list")?;
    let mut layer = tar::Builder::new(Vec::new());
    for (folder, mode) in FOLDERS {
        let mut header = header(tar::EntryType::Directory, *mode, 0);
        layer.append_data(&mut header, format!("{folder}/"), std::io::empty())?;
    }
    append(&mut layer, "bin/busybox", 0o755, &std::fs::read(busybox)?)?;
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|name| *name != "busybox") {
        let mut header = header(tar::EntryType::Link, 0o755, 0);
        layer.append_link(&mut header, format!("bin/{applet}"), "bin/busybox")?;
    }
    append(&mut layer, "etc/passwd", 0o644, PASSWD.as_bytes())?;
    append(&mut layer, "etc/group", 0o644, GROUP.as_bytes())?;
    append(&mut layer, "etc/weft-image", 0o644, mark.as_bytes())?;
    Ok(layer.into_inner()?)
}

fn ballast_layer(size: u64) -> Result<Vec<u8>> {
    // Eight files of random bytes: no compressor helps, as with most real programs.
    let mut layer = tar::Builder::new(Vec::new());
    for index in 0..8_u8 {
        let mut bytes = Vec::new();
        File::open("/dev/urandom")?.take(size / 8).read_to_end(&mut bytes)?;
        append(&mut layer, &format!("var/opt/ballast{index}"), 0o644, &bytes)?;
    }
    Ok(layer.into_inner()?)
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(MTIME);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append<W: Write>(archive: &mut tar::Builder<W>, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let size = u64::try_from(bytes.len())?;
    archive.append_data(&mut header(tar::EntryType::Regular, mode, size), path, bytes)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_names_its_config_and_layers_by_digest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.tar");
        busybox_archive(&ImageSpec::tagged("a:1"), &path).unwrap();
        let mut archive = tar::Archive::new(File::open(&path).unwrap());
        let mut members = std::collections::BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            members.insert(entry.path().unwrap().display().to_string(), bytes);
        }
        let manifest: serde_json::Value = serde_json::from_slice(&members["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], "a:1");
        let config_name = manifest[0]["Config"].as_str().unwrap();
        assert_eq!(config_name, format!("{}.json", hex::encode(Sha256::digest(&members[config_name]))));
        let config: serde_json::Value = serde_json::from_slice(&members[config_name]).unwrap();
        let layer = &members[manifest[0]["Layers"][0].as_str().unwrap()];
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hex::encode(Sha256::digest(layer))));
    }
}
