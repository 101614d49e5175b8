//! The resolver at 127.0.0.11 of containers on user-defined networks.
//!
//! ```text
//!  store ──watch──▶ Names (in memory, shared) ◀──────────────┐ lookup
//!                                                            │
//!  container ──UDP, TCP 127.0.0.11:53──▶ socket made inside ─┤ decide(bytes) ─▶ Reply ─▶ back at once
//!              its namespace, held by the daemon             └──────────────▶ Forward ─▶ upstream, from the
//!                                                                              daemon's own namespace
//! ```
//!
//! There are no rules and no process inside the container: the sockets are simply bound there. `answer` and
//! `names` do no I/O; `serve` and `upstream` are thin loops around them.
//!
//! Queries to the host's servers leave from the daemon's namespace (the host's loopback resolvers work, and no rule of
//! the container can be in the way), those to a container's own `--dns` servers from its own. Containers that
//! are only on internal networks get no forwarding at all. Names of this host's containers never leave it.

mod answer;
mod arpa;
mod batch;
mod cache;
mod counters;
mod edns;
mod error;
mod exchange;
#[cfg(test)]
mod fuzz_tests;
mod hostfile;
mod names;
mod options;
mod ours;
mod quick;
mod quota;
mod reconcile;
mod reply;
mod serve;
mod server;
mod services;
mod sockets;
mod tcp;
mod upstream;
mod wire;

#[cfg(test)]
mod fixtures;

pub use answer::{Asker, Decision, Transport, decide};
pub use counters::{DnsStats, KINDS};
pub use error::DnsError;
pub use names::{Answer, Names};
pub use reconcile::Dns;
pub use reply::failure;
pub use server::Server;
pub use sockets::{RESOLVER, SandboxSockets, Sockets, namespace_at, open_here, outward_here};
pub use upstream::UpstreamConfig;
