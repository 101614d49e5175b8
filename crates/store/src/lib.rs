//! What Weft remembers, and how its parts hear of changes.
//!
//! Layers, each usable without the one above:
//!
//! - [`Kv`]: the seam. `get`, `range`, `txn`, `watch`, `lease`; revisions are global and only grow. Its
//!   meaning is etcd v3's, so that one etcd cluster or one file serves the same code. [`Embedded`] is the
//!   file; the `contract` module is the suite that every backend passes.
//! - [`Stores`]: the two scopes, what a host keeps alone and what all hosts share; one store on a single host.
//! - [`Replica`]: the same seam over a shared store, answered from memory, that goes on without it.
//! - [`Table`] and [`Txn`]: kinds of `weft-model` as typed records under `/weft/v1/<kind>/<key>`, unique names
//!   in an index beside them, several kinds changed in one transaction.
//! - [`Keeper`]: a lease that is kept alive, and a word when it is lost.
//! - [`reconcile::Loop`]: runs one function over the whole on change and on a timer.
//!
//! A reader lists, then watches from the revision of the list; a watch misses nothing or says
//! [`StoreError::Compacted`], and then the reader lists again.
//!
//! What is refused here: history (only watches see the past, for a bounded while), consensus (etcd's work),
//! and any word of a domain.

mod check;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod embedded;
mod error;
mod keeper;
mod kv;
pub mod reconcile;
mod replica;
mod stores;
mod table;

pub use check::{Condition, Dumped, Report, check, dump};
pub use embedded::{Embedded, FILE_VERSION, Options};
pub use error::{Conflict, StoreError};
pub use keeper::{Hold, Keeper};
pub use kv::{
    Batch, Cmp, Compare, Event, Figures, Item, Kv, LeaseId, MAX_KEY, MAX_OPS, MAX_VALUE, Op, OpResult, Range,
    Reached, Request, Response, Target, Watch,
};
pub use replica::{Replica, ReplicaOptions, Standing};
pub use stores::{Mark, Stores, prefixes};
pub use table::{Change, Changes, IndexKey, PREFIX, Stored, Table, Txn};
