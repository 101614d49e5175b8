//! Volumes: named directories that outlive the containers that mount them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weft_base::Name;

use crate::{Resource, Scope, Volume};

/// A volume of the local driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Unique name on this host.
    pub name: Name,
    /// Driver; `local` is the only one that Weft has.
    pub driver: String,
    /// Mount options of the local driver: `type`, `o`, `device`; empty for a plain directory.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Made for a container without a name of its own; goes with the container on `rm -v`.
    #[serde(default)]
    pub anonymous: bool,
}

/// What is known of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// The image's content at the mount point was copied into it (done at most once).
    #[serde(default)]
    pub populated: bool,
}

impl Resource for Volume {
    const KIND: &'static str = "volume";
    const SCOPE: Scope = Scope::Host;
    fn key(&self) -> String {
        self.spec.name.to_string()
    }
}
