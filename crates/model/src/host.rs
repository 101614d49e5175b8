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

/// Which of the cluster's hosts this one is; one record, in the host's own store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The host's id.
    pub id: HostId,
}

impl Resource for Identity {
    const KIND: &'static str = "self";
    const SCOPE: Scope = Scope::Host;
    fn key(&self) -> String {
        "host".to_owned()
    }
}

/// Says that a host's daemon was heard of lately: it lies under a short lease, and goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// The host.
    pub host: HostId,
}

impl Resource for Alive {
    const KIND: &'static str = "alive";
    const SCOPE: Scope = Scope::Cluster;
    fn key(&self) -> String {
        self.host.to_string()
    }
}

impl Resource for Host {
    const KIND: &'static str = "host";
    const SCOPE: Scope = Scope::Cluster;
    fn key(&self) -> String {
        self.spec.id.to_string()
    }
}
