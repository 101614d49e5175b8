//! The machines that run Weft.

use serde::{Deserialize, Serialize};
use weft_base::Timestamp;

use crate::{Host, HostId, Resource, Scope};

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSpec {
    /// Identity, made at the first start in a root directory.
    pub id: HostId,
    /// Name, from `--name` or the hostname.
    pub name: String,
}

/// What the host's daemon last said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Version of Weft.
    pub version: String,
    /// When the daemon last became ready.
    pub ready_at: Option<Timestamp>,
}

impl Resource for Host {
    const KIND: &'static str = "host";
    const SCOPE: Scope = Scope::Cluster;
    fn key(&self) -> String {
        self.spec.id.to_string()
    }
}
