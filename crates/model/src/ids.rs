//! One identifier type for each kind of resource.

use weft_base::{Id, IdKind};

macro_rules! ids {
    ($($(#[$doc:meta])* $alias:ident, $marker:ident, $noun:literal;)*) => {$(
        #[doc = concat!("Marks identifiers of a ", $noun, ".")]
        #[derive(Clone, Copy, Debug)]
        pub enum $marker {}
        impl IdKind for $marker {
            const NOUN: &'static str = $noun;
        }
        $(#[$doc])*
        pub type $alias = Id<$marker>;
    )*};
}

ids! {
    /// Identifies a container.
    ContainerId, ContainerKind, "container";
    /// Identifies a network.
    NetworkId, NetworkIdKind, "network";
    /// Identifies a port.
    PortId, PortIdKind, "port";
    /// Identifies a policy.
    PolicyId, PolicyIdKind, "policy";
    /// Identifies one exec in a container.
    ExecId, ExecIdKind, "exec";
    /// Identifies a project.
    ProjectId, ProjectIdKind, "project";
    /// Identifies a host.
    HostId, HostIdKind, "host";
}

/// The project of a host that has no identity service: 32 zero bytes.
#[must_use]
pub fn default_project() -> ProjectId {
    ProjectId::from_bytes([0; 32])
}
