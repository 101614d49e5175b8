//! Networks and ports: from wishes to resolved records, and from records to one value for the driver.
//!
//! ```text
//!  NetworkDraft ──resolve_network──▶ NetworkSpec ┐
//!                                                ├─ (cloud writes) ─▶ store ─▶ compile ─▶ Desired ─▶ driver
//!  ContainerSpec ──build_ports────▶ [PortSpec]   ┘                        ◀── status ── reconciler (Net)
//! ```
//!
//! Everything but [`Net`] is pure or takes its one question to the kernel through a seam ([`HostSockets`]).
//! There is no record of given-out addresses or host ports beside the Port objects; requests take turns at
//! choosing ([`Hints::turn`]). The caller that writes specs is `weft-cloud`; this crate writes only status.
//!
//! Refused here: any word of a foreign API (drivers' option keys are shown again, never read), any kernel
//! call about links, addresses or rules (drivers'), names (`weft-dns`).

mod dhcp;
mod driver;
mod error;
mod grow;
mod holder;
mod insight;
mod ipam;
mod ledger;
mod limits;
mod parent;
mod plan;
mod policy;
mod pools;
mod ports;
mod predefined;
mod publish;
mod reconcile;
mod refit;
mod report;
mod resolve;
mod routes;
mod stats;
mod subnets;
mod turn;
mod types;
mod uplink;

#[cfg(test)]
mod fixtures;

pub use dhcp::{LeaseSocket, LeaseSockets};
pub use error::{BindFailure, ErrorClass, NetError, PublishError};
pub use grow::{NetworkChange, grow_network, regrow_ports};
pub use insight::{Watch, port_link};
pub use ipam::{Cursors, Family, Ipam};
pub use plan::{Compiled, DEFAULT_MTU, HostDefaults, bridge_link, compile};
pub use pools::Pools;
pub use ports::{PortContext, build_ports, connect_port};
pub use predefined::{DEFAULT_BRIDGE_LINK, ensure_predefined};
pub use publish::{HostPorts, HostSockets, KernelSockets, WildcardV6};
pub use reconcile::{Net, NetConfig};
pub use refit::{Refit, refit_default_bridge};
pub use resolve::{check_bridge_name, resolve_network};
pub use routes::in_use;
pub use stats::{Counters, interface_counters, parse_net_dev};
pub use subnets::warn_of_routes;
pub use turn::{Hints, Hold, Turn};
pub use types::{IpamDraft, NetworkDraft, ParentDraft, PredefinedConfig};
pub use uplink::disconnect_ports;
/// The words in which the data plane is looked into.
pub use weft_dataplane::insight as seen;
