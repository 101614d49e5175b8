//! `cargo xtask layers`: proves the table of layers (docs: ARCHITECTURE.md) against Cargo's metadata.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

/// Crate and what of ours it may depend on, directly. `testkit` and `conformance` may be anybody's dev-dependency.
const TABLE: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("model", &["base"]),
    ("sys", &["base"]),
    ("store", &["base", "model"]),
    ("store-etcd", &["base", "store"]),
    ("dataplane", &["base", "model"]),
    ("image", &["base", "model", "sys", "store"]),
    ("engine", &["base", "model", "sys", "store", "image"]),
    ("net", &["base", "model", "store", "dataplane"]),
    ("dns", &["base", "model", "store"]),
    ("driver-linux", &["base", "model", "dataplane", "sys"]),
    ("cloud", &["base", "model", "store", "image", "engine", "net", "dns"]),
    ("api-kit", &["base", "model", "cloud"]),
    ("api-docker", &["base", "model", "cloud", "api-kit"]),
    ("api-native", &["base", "model", "cloud", "api-kit"]),
    (
        "daemon",
        &[
            "base",
            "model",
            "sys",
            "store",
            "store-etcd",
            "dataplane",
            "image",
            "engine",
            "net",
            "dns",
            "driver-linux",
            "cloud",
            "api-kit",
            "api-docker",
            "api-native",
        ],
    ),
    ("cli", &["base", "model", "sys", "store", "engine", "daemon", "api-docker"]),
    ("testkit", &["base"]),
    ("conformance", &["testkit"]),
    ("bench", &["testkit"]),
];

/// Reads the metadata and compares.
pub fn run() -> Result<()> {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--locked"])
        .output()
        .context("running cargo metadata")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let table: BTreeMap<&str, BTreeSet<&str>> =
        TABLE.iter().map(|(name, may)| (*name, may.iter().copied().collect())).collect();
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let Some(name) = package["name"].as_str().and_then(|n| n.strip_prefix("weft-")) else { continue };
        let Some(may) = table.get(name) else {
            wrong.push(format!("{name} is not in the table"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let other = dependency["name"].as_str().and_then(|n| n.strip_prefix("weft-"));
            let side = dependency["kind"] == "dev";
            if let Some(other) = other.filter(|o| !may.contains(o) && !side) {
                wrong.push(format!("{name} must not depend on {other}"));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("layers are broken:\n  {}", wrong.join("\n  "));
    }
    println!("layers hold: {} crates", table.len());
    Ok(())
}
