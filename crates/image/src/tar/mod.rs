//! The tar format as images use it: POSIX ustar and pax, GNU long names and sparse files, old v7.
//!
//! An own reader rather than a library's, because these bytes are foreign: every length is bounded, sparse files of all
//! four kinds are understood, extended attributes and nanoseconds are kept, and file data is handed out of the reader's buffer
//! without a copy. Format: POSIX.1-2017 `pax`, GNU tar manual "Basic Tar Format" and "Sparse Formats".

mod number;
mod pax;
mod read;
mod sparse;
mod write;

pub use read::{TarReader, looks_like_tar};
pub use write::TarWriter;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file with data.
    File,
    /// Another name of an earlier entry.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A directory.
    Dir,
    /// A named pipe.
    Fifo,
    /// A type that no file system knows.
    Other(u8),
}

/// One entry's header, extensions applied. Names are raw bytes as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path.
    pub path: Vec<u8>,
    /// Target of a symbolic or hard link.
    pub link: Vec<u8>,
    /// Its kind.
    pub kind: Kind,
    /// Permission bits with set-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of data that follow in the archive.
    pub size: u64,
    /// Modification time: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Device numbers, major and minor.
    pub device: (u32, u32),
    /// Extended attributes by full name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data belongs in a file with holes.
    pub sparse: Option<Sparse>,
}

/// The map of a file with holes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sparse {
    /// Extents of data as (offset, length), ascending; their lengths sum up to the entry's size.
    pub extents: Vec<(u64, u64)>,
    /// The file's length with holes.
    pub length: u64,
}

impl Entry {
    /// A directory of mode 755 owned by root; the other kinds start from it.
    #[must_use]
    pub fn new(path: impl Into<Vec<u8>>, kind: Kind) -> Self {
        Self {
            path: path.into(),
            link: Vec::new(),
            kind,
            mode: if kind == Kind::Dir { 0o755 } else { 0o644 },
            uid: 0,
            gid: 0,
            size: 0,
            mtime: (0, 0),
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
        }
    }

    /// Length of the file when unpacked.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.sparse.as_ref().map_or(self.size, |s| s.length)
    }
}

const BLOCK: usize = 512;
