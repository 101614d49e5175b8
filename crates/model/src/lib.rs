//! Every resource of Weft: what is wanted (spec), what is so (status), who owns it, what it refers to.
//!
//! Plain values only. No I/O, no async, and no word of a foreign API: Docker's JSON, Neutron's and YANG
//! live in their faces, which translate into these types at the door and back at the exit. Each resource
//! is an [`Object`] of a spec that only `weft-cloud` writes and a status that only the owning reconciler
//! writes.

mod container;
mod digest;
mod event;
mod gateway;
mod host;
mod ids;
mod image;
mod limit;
mod meta;
mod network;
mod parent;
mod policy;
mod port;
mod project;
mod volume;

pub use container::*;
pub use digest::{Digest, DigestError};
pub use event::{Event, EventKind};
pub use gateway::{GatewayMode, Gateways};
pub use host::{Alive, HostSpec, HostStatus, Identity};
pub use ids::*;
pub use image::{ImageSpec, ImageStatus, NameTag, Reference, ReferenceError};
pub use limit::{EGRESS_LABEL, INGRESS_LABEL, Rate, RateError, RateLimit};
pub use meta::{Labels, Meta, Object, Resource, Scope};
pub use network::{
    DriverOptions, HostBinding, HostSource, Isolation, NetworkKind, NetworkSpec, NetworkStatus, SubnetSpec,
    resolve_pool,
};
pub use parent::{Branch, IpvlanFlag, IpvlanMode, MacvlanMode, ParentSpec};
pub use policy::{PolicyAction, PolicyProtocol, PolicySpec, PolicyStatus, Selector, SelectorError};
pub use port::{
    DhcpWish, Lease, MacAddr, MacError, PortAddress, PortOwner, PortRange, PortSpec, PortStatus, Protocol,
    PublishBinding, PublishPolicy,
};
pub use project::{ProjectSpec, ProjectStatus};
pub use volume::{VolumeSpec, VolumeStatus};

/// A container and its state.
pub type Container = Object<ContainerSpec, ContainerStatus>;
/// An isolated layer-2 segment with subnets.
pub type Network = Object<NetworkSpec, NetworkStatus>;
/// One attachment to a network.
pub type Port = Object<PortSpec, PortStatus>;
/// What may pass between endpoints.
pub type Policy = Object<PolicySpec, PolicyStatus>;
/// A named directory that outlives containers.
pub type Volume = Object<VolumeSpec, VolumeStatus>;
/// An image in the content store with the names that refer to it.
pub type Image = Object<ImageSpec, ImageStatus>;
/// A tenant: everything belongs to one.
pub type Project = Object<ProjectSpec, ProjectStatus>;
/// A machine that runs Weft.
pub type Host = Object<HostSpec, HostStatus>;
