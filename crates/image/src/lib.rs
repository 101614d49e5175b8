//! Images: content by digest, layers unpacked once and shared, writable trees for containers, archives in and out.
//!
//! - [`ContentStore`]: immutable blobs, verified while they are written.
//! - [`Snapshots`]: layers as directories, containers' trees over them by overlayfs.
//! - [`tar`]: the archive format, read defensively; unpacking resolves every path inside the layer.
//!
//! Everything below [`ImageStore`] blocks; its async methods move the work off the runtime's threads.
//! Refused: following any name out of an image, keeping a byte that does not match its digest.

mod archive;
mod compose;
pub mod config;
mod content;
mod decompress;
mod diff;
mod error;
#[cfg(test)]
mod fuzz_tests;
mod idmap;
pub mod instructions;
mod layer;
mod names;
mod pins;
mod register;
pub mod registry;
mod snapshot;
mod stack;
mod store;
pub mod tar;
mod target;
mod tree;
mod unpack;
mod usage;

pub use archive::LoadProgress;
pub use compose::{CommitRequest, ImportRequest};
pub use config::ImageConfig;
pub use content::{ContentStore, Freed, Ingest};
pub use decompress::Compression;
pub use diff::{Change, ChangeKind};
pub use error::{ImageError, Result};
pub use idmap::IdMap;
pub use layer::{LayerWriter, StagedLayer};
pub use names::{ImageUse, RemoveOptions, Removed, familiar};
pub use pins::Pin;
pub use register::NewImage;
pub use snapshot::{Driver, InUse, LayerRef, Snapshots, View, chain_ids, layer_refs};
pub use store::{ByteStream, ImageStore, Options};
pub use target::Target;
pub use unpack::{Limits, Merge};
pub use usage::{DiskUsage, HistoryItem, PruneFilter};
