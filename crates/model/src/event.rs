//! Events: what happened to which resource, for people and programs that watch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weft_base::Timestamp;

use crate::ProjectId;

/// The kind of resource that an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A container or an exec in one.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
    /// The daemon itself.
    Daemon,
    /// Cached build steps.
    Builder,
}

impl EventKind {
    /// The lower-case noun.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Daemon => "daemon",
            Self::Builder => "builder",
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// About what kind of resource.
    pub kind: EventKind,
    /// What happened: `create`, `start`, `die`, `exec_start: ls`, `health_status: healthy`, …
    pub action: String,
    /// The resource's id or name.
    pub id: String,
    /// Facts about it: `name`, `image`, `exitCode`, `signal` and the resource's labels.
    pub attributes: BTreeMap<String, String>,
    /// Whose resource it is.
    pub project: ProjectId,
}
