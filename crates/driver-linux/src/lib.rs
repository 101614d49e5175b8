//! The dataplane made real with Linux bridges, veth pairs, network namespaces and nftables.
//!
//! ```text
//!   sandbox RUN/netns/<id>          host                                    outside
//!   ┌──────────────┐   veth   ┌─────────────┐  routes   ┌───────────────┐
//!   │ eth0 10.1.0.2├──────────┤wfp… │ wfb…  ├───────────┤ any other link│
//!   └──────────────┘          └─────┴───────┘           └───────────────┘
//!                          table inet weft: forward, dnat maps, masquerade
//! ```
//!
//! What is ours is known by its mark: links called `wfb`/`wfp` and 12 hex digits, bridges that people named themselves by
//! their `ifalias`, the tables `inet weft`, `netdev weft`, `weft-policy` and `weft-keep`, names in our own directory of namespaces. Nothing else is ever changed.
//! The `ifalias` also holds the digest of the last complete configuration, and one dump of links, of addresses and of
//! their routes tells whether they are still so, without a visit to each namespace.
//!
//! Two daemons in one network namespace would fight over the table; the daemon's lock on its run directory is what
//! prevents it, this crate does not.

mod anchor;
mod below;
mod branch;
mod consent;
mod direct;
mod driver;
mod error;
mod explain;
mod forget;
mod frame;
mod host;
mod left;
mod limits;
mod links;
mod loopback;
mod mark;
mod observe;
mod policy;
mod publish;
mod reaper;
mod rules;
mod runs;
mod sandbox;
mod source;
mod uplink;
mod watch;

pub use driver::LinuxDriver;
pub use error::LinuxError;
pub use links::bridge_addresses;

/// Our one nftables table, of the `inet` family.
pub const TABLE: &str = "weft";
