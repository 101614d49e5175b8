//! The ground every other crate stands on: identifiers, names, time, retry pacing, undo, task
//! supervision and the printing of error chains.
//!
//! Nothing here knows a word of the domain (container, network, image): such a word belongs in
//! `weft-model` or above. Nothing here does I/O but reading the clock and the system's random source.

mod backoff;
mod chain;
mod clock;
mod id;
pub mod metrics;
mod name;
mod tasks;
mod undo;

pub use backoff::Backoff;
pub use chain::chain;
pub use clock::{Clock, FakeClock, SystemClock, Timestamp};
pub use id::{Id, IdError, IdKind};
pub use name::{FreeName, FreeNameError, Name, NameError};
pub use tasks::Tasks;
pub use undo::Undo;
