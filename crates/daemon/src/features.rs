//! The parts of the daemon that can be on or off, and what they need of each other. Pure but for the file.
//!
//! ```text
//!   docker, native ─▶ containers ─▶ images          dns ─▶ networks          metrics
//!                └──────────┴─────▶ networks
//! ```
//!
//! Enabling brings what is needed; disabling what others need is refused, with their names. What is on is kept in
//! `ROOT/features.json`, which a daemon reads when it starts and writes when it is told to change.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// A part of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Feature {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// What it needs.
    pub needs: &'static [&'static str],
    /// On where nobody has said otherwise.
    pub default: bool,
    /// Always on: what the daemon itself stands on.
    pub fixed: bool,
}

/// All there are today.
pub const FEATURES: &[Feature] = &[
    Feature {
        name: "images",
        about: "content store, snapshots, registries",
        needs: &[],
        default: true,
        fixed: true,
    },
    Feature {
        name: "networks",
        about: "bridges, addresses, published ports",
        needs: &[],
        default: true,
        fixed: true,
    },
    Feature {
        name: "containers",
        about: "containers, execs, volumes, logs, health",
        needs: &["images", "networks"],
        default: true,
        fixed: true,
    },
    Feature {
        name: "dns",
        about: "names of containers, at 127.0.0.11",
        needs: &["networks"],
        default: true,
        fixed: false,
    },
    Feature {
        name: "docker",
        about: "the Docker API",
        needs: &["containers", "images", "networks"],
        default: true,
        fixed: false,
    },
    Feature {
        name: "native",
        about: "Weft's own API: limits, policies, explanations",
        needs: &["containers", "networks"],
        default: true,
        fixed: false,
    },
    Feature {
        name: "metrics",
        about: "figures in Prometheus' format",
        needs: &[],
        default: true,
        fixed: false,
    },
];

/// Why a change is refused.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    /// There is no such feature.
    #[error("no such feature: {name}; there are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// Others need it.
    #[error("{name} is needed by {by}: disable these first")]
    Needed {
        /// What was to be disabled.
        name: String,
        /// Who needs it and is on.
        by: String,
    },
    /// The daemon cannot be without it.
    #[error("{name} cannot be disabled: the daemon stands on it")]
    Fixed {
        /// What was to be disabled.
        name: &'static str,
    },
    /// The file cannot be read or written.
    #[error("{doing} {path}")]
    File {
        /// Reading or writing.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not of its format.
    #[error("reading {path}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    enabled: BTreeSet<String>,
    /// What there was to be on or off when this was written; others are as by default.
    #[serde(default)]
    known: BTreeSet<String>,
}

/// Features that were there before files said which.
const FIRST: [&str; 6] = ["images", "networks", "containers", "dns", "docker", "metrics"];

/// Which features are on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features {
    on: BTreeSet<&'static str>,
}

impl Default for Features {
    fn default() -> Self {
        Self { on: FEATURES.iter().filter(|f| f.default).map(|f| f.name).collect() }
    }
}

/// The feature called `name`.
///
/// # Errors
/// [`FeatureError::Unknown`].
pub fn find(name: &str) -> Result<&'static Feature, FeatureError> {
    FEATURES.iter().find(|f| f.name == name).ok_or_else(|| FeatureError::Unknown {
        name: name.to_owned(),
        known: FEATURES.iter().map(|f| f.name).collect::<Vec<_>>().join(", "),
    })
}

impl Features {
    /// Whether a feature is on.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        self.on.contains(name)
    }

    /// Turns a feature on with all that it needs; returns what was turned on, needs first.
    ///
    /// # Errors
    /// [`FeatureError::Unknown`]; nothing is changed then.
    pub fn enable(&mut self, name: &str) -> Result<Vec<&'static str>, FeatureError> {
        let feature = find(name)?;
        let mut brought = Vec::new();
        if !self.on.contains(feature.name) {
            for need in feature.needs {
                brought.extend(self.enable(need)?);
            }
            self.on.insert(feature.name);
            brought.push(feature.name);
        }
        Ok(brought)
    }

    /// Turns a feature off; `false` when it was off.
    ///
    /// # Errors
    /// [`FeatureError::Needed`] with the names of those that need it, directly or not; [`FeatureError::Fixed`].
    pub fn disable(&mut self, name: &str) -> Result<bool, FeatureError> {
        let feature = find(name)?;
        let by: Vec<&str> = FEATURES
            .iter()
            .filter(|f| self.on.contains(f.name) && f.name != feature.name && reaches(f, feature.name))
            .map(|f| f.name)
            .collect();
        if self.on.contains(feature.name) && !by.is_empty() {
            return Err(FeatureError::Needed { name: name.to_owned(), by: by.join(", ") });
        }
        if feature.fixed {
            return Err(FeatureError::Fixed { name: feature.name });
        }
        Ok(self.on.remove(feature.name))
    }

    /// What is on under `root`; the defaults where nothing was ever changed. Features of a newer Weft are left out.
    ///
    /// # Errors
    /// The file is there but cannot be read.
    pub fn load(root: &Path) -> Result<Self, FeatureError> {
        let path = file(root);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(FeatureError::File { doing: "reading", path, source }),
        };
        let kept: Kept =
            serde_json::from_slice(&bytes).map_err(|source| FeatureError::Syntax { path, source })?;
        let mut features = Self { on: FEATURES.iter().filter(|f| f.fixed).map(|f| f.name).collect() };
        let said = |name: &str| FIRST.contains(&name) || kept.known.contains(name);
        let new = FEATURES.iter().filter(|f| f.default && !said(f.name)).map(|f| f.name);
        for name in kept.enabled.iter().map(String::as_str).chain(new).filter(|n| find(n).is_ok()) {
            features.enable(name)?;
        }
        Ok(features)
    }

    /// Keeps it under `root`, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, root: &Path) -> Result<(), FeatureError> {
        let path = file(root);
        let kept = Kept {
            version: 1,
            enabled: self.on.iter().map(|n| (*n).to_owned()).collect(),
            known: FEATURES.iter().map(|f| f.name.to_owned()).collect(),
        };
        let partial = path.with_extension("json.new");
        let written = fs::create_dir_all(root)
            .and_then(|()| serde_json::to_vec_pretty(&kept).map_err(Into::into))
            .and_then(|text| fs::write(&partial, text))
            .and_then(|()| fs::rename(&partial, &path));
        written.map_err(|source| FeatureError::File { doing: "writing", path, source })
    }
}

fn file(root: &Path) -> PathBuf {
    root.join("features.json")
}

/// Whether `feature` needs the one called `name`, directly or not.
fn reaches(feature: &Feature, name: &str) -> bool {
    feature.needs.iter().any(|need| *need == name || find(need).is_ok_and(|f| reaches(f, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Features {
        Features { on: BTreeSet::new() }
    }

    #[test]
    fn needs_exist_and_have_no_circles() {
        for feature in FEATURES {
            assert!(!reaches(feature, feature.name), "{}", feature.name);
            feature.needs.iter().for_each(|need| assert!(find(need).is_ok(), "{need}"));
        }
    }

    #[test]
    fn enabling_brings_what_is_needed() {
        let mut features = none();
        assert_eq!(features.enable("dns").unwrap(), ["networks", "dns"]);
        assert_eq!(features.enable("docker").unwrap(), ["images", "containers", "docker"]);
        assert!(features.enable("docker").unwrap().is_empty());
        assert!(features.enable("magic").is_err());
    }

    #[test]
    fn disabling_what_others_need_is_refused_with_their_names() {
        let mut features = Features::default();
        let error = features.disable("networks").unwrap_err().to_string();
        assert!(error.contains("containers, dns, docker, native"), "{error}");
        assert!(features.disable("dns").unwrap());
        assert!(!features.disable("dns").unwrap());
        assert!(features.disable("docker").unwrap() && features.disable("native").unwrap());
        let error = features.disable("containers").unwrap_err().to_string();
        assert_eq!(error, "containers cannot be disabled: the daemon stands on it");
    }

    #[test]
    fn what_is_on_is_kept() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Features::load(root.path()).unwrap(), Features::default());
        let mut features = Features::default();
        features.disable("dns").unwrap();
        features.save(root.path()).unwrap();
        assert_eq!(Features::load(root.path()).unwrap(), features);
        fs::write(file(root.path()), r#"{"version": 1, "enabled": ["dns", "from-the-future"]}"#).unwrap();
        let loaded = Features::load(root.path()).unwrap();
        assert!(loaded.is_on("dns") && loaded.is_on("networks") && !loaded.is_on("docker"));
        assert!(loaded.is_on("native"), "a file of before it was there says nothing of it");
        features.disable("native").unwrap();
        features.save(root.path()).unwrap();
        assert!(!Features::load(root.path()).unwrap().is_on("native"));
        fs::write(file(root.path()), "nonsense").unwrap();
        assert!(Features::load(root.path()).is_err());
    }
}
