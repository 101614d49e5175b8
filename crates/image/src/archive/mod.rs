//! Images as archives: `load` and `save` (docker-archive and OCI layout, in one tar), `import` of a root file system.

pub(crate) mod load;
pub(crate) mod manifest;
pub(crate) mod save;

/// What a load tells while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// The member of the archive.
    pub member: String,
    /// Bytes read of it.
    pub current: u64,
    /// Its size.
    pub total: u64,
}
