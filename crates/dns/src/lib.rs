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
//! Forwarded queries leave from the daemon's namespace, also for a container with its own `--dns` servers
//! (the host's loopback resolvers work, and no rule of the container can be in the way). Containers that
//! are only on internal networks get no forwarding at all. Names of this host's containers never leave it.

mod answer;
mod error;
#[cfg(test)]
mod fuzz_tests;
mod names;
mod reconcile;
mod serve;
mod sockets;
mod upstream;

#[cfg(test)]
mod fixtures;

pub use answer::{Decision, Transport, decide, failure};
pub use error::DnsError;
pub use names::{Answer, Names};
pub use reconcile::{Dns, DnsStats};
pub use sockets::{RESOLVER, SandboxSockets, Sockets, open_here};
pub use upstream::{UpstreamConfig, parse_resolv_conf};
