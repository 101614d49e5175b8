//! Containers, execs, volumes, logs, events, restarts, health; the shim.
//!
//! ```text
//!   cloud ── spec.run, wake ──▶ actor (one for each container that is busy)
//!                                 │ plan(record, what is so) ─▶ steps      pure
//!                                 ▼ apply                                  dull
//!                     images · volumes · NetGate · OCI builder · shim
//! ```
//!
//! The engine writes only a container's `status`, and only through the store's compare-and-swap. It holds no lock
//! while it asks the kernel, the runtime or a shim: a container that hangs blocks nobody but who waits for it.
//! What a shim holds (streams, log, exit) outlives the daemon; what the engine holds in memory may be lost at any
//! moment (see `plan`).
//!
//! It refuses to know: networks (a [`NetGate`] says when a sandbox is ready), names that people type, who may do what.

pub mod attach;
pub mod cgroup;
mod close;
pub mod detach;
pub mod disk;
pub mod error;
pub mod events;
pub mod logs;
pub mod netfiles;
pub mod oci;
pub mod plan;
pub mod shim;
pub mod signal;
pub mod stats;
pub mod top;
pub mod types;
pub mod volumes;

mod actor;
mod apply;
mod archive;
mod baseline;
mod cell;
mod control;
mod dress;
mod engine;
mod exec;
mod facts;
mod health;
mod journal;
mod links;
mod provision;
mod reconcile;
mod records;
mod start;
mod tell;

pub use archive::{ArchiveStat, PutOptions};
pub use attach::{Attachment, Left};
pub use control::Waiter;
pub use disk::ByteStream;
pub use engine::{Engine, keep_private};
pub use error::{EngineError, Result};
pub use events::{EventLog, Feed};
pub use logs::reader::{LogQuery, LogReader};
pub use reconcile::{Unrecorded, unrecorded};
pub use stats::{InterfaceUsage, Pair, Sample, StatsStream};
pub use types::*;
pub use volumes::{Volumes, check_options as check_volume_options};
