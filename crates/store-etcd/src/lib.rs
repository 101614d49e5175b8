//! The store's seam ([`weft_store::Kv`]) on an existing etcd v3 cluster (3.4 and later).
//!
//! The seam's meaning is etcd's, so most of this is translation (`convert`, `keys`). What remains is to be exact about what
//! a network takes away:
//!
//! - Every call ends within [`Options::request`], whatever the cluster does; what a lost answer means is told by its
//!   error (`store`, `fault`).
//! - A connection is used only after its member has proved to hold the store that was opened (`open`, `pool`).
//! - A watch outlives connections: it is asked for again from the revision after the last one that was handed on, on
//!   whichever member, so it misses nothing, or says that the history was compacted (`watch`).
//!
//! What it refuses to do: keep copies (that is for whoever wants to read without the cluster), compact by itself or
//! change the cluster's members (that is its operator's), and touch a key outside its prefix.

mod conn;
mod convert;
mod fault;
mod keys;
mod open;
mod pool;
mod proto;
mod store;
mod uri;
mod watch;

use std::time::Duration;

pub use self::{
    open::{SCHEMA, SCHEMA_KEY},
    store::{Etcd, Reach},
    uri::{Config, Endpoint, Login, Tls, UriError},
};

/// How long things may take.
#[derive(Clone, Debug)]
pub struct Options {
    /// A call, from asking to its answer or error. Longer than an election takes (etcd: a second).
    pub request: Duration,
    /// One attempt of a call that may be made again, on one member.
    pub attempt: Duration,
    /// Dialling a member.
    pub connect: Duration,
    /// How often a silent connection with a watch is asked for a sign of life; the answer may take one `attempt`. etcd
    /// ends connections that ask more than every five seconds.
    pub ping: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self { request: s(6), attempt: s(3), connect: s(2), ping: s(10) }
    }
}
