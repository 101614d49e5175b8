//! What can go wrong with images, in terms a face can turn into its own words and status codes.

use std::path::PathBuf;

use weft_model::Digest;

/// Result with this crate's error.
pub type Result<T, E = ImageError> = std::result::Result<T, E>;

/// Why an image operation was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No image, blob, layer or snapshot of that name.
    #[error("No such {what}: {name}")]
    NotFound {
        /// The noun: `image`, `blob`, `layer`, `snapshot`.
        what: &'static str,
        /// What was asked for.
        name: String,
    },
    /// An id prefix that several images share.
    #[error("invalid reference: image ID prefix {prefix} is ambiguous")]
    Ambiguous {
        /// The prefix.
        prefix: String,
    },
    /// The text is no image reference.
    #[error(transparent)]
    Reference(#[from] weft_model::ReferenceError),
    /// A container needs the image, so it stays. `forced` says that `force` would have helped.
    #[error("{}", in_use_text(*.by_name, .reference, .container, *.running, .image))]
    InUse {
        /// The reference was a name, not an id.
        by_name: bool,
        /// As it was written.
        reference: String,
        /// Short container id.
        container: String,
        /// The container runs.
        running: bool,
        /// The image.
        image: Digest,
    },
    /// Named in several repositories: an id alone does not say which name to take away.
    #[error("conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories", image.short())]
    MultipleNames {
        /// The image.
        image: Digest,
    },
    /// Other images were made from it.
    #[error("conflict: unable to delete {} (cannot be forced) - image has dependent child images", image.short())]
    HasChildren {
        /// The image.
        image: Digest,
    },
    /// The image is made for something else than was asked for.
    #[error(
        "image with reference {reference} was found but its platform ({actual}) does not match the specified platform \
         ({wanted})"
    )]
    WrongPlatform {
        /// As people write it.
        reference: String,
        /// Asked for.
        wanted: String,
        /// Found.
        actual: String,
    },
    /// The same, of an image that should be saved.
    #[error("no suitable export target found for platform {0}")]
    NoExport(String),
    /// Content is not what it says it is, cut short, or not of its format.
    #[error("{what} is corrupt: {why}")]
    Corrupt {
        /// Which content.
        what: String,
        /// How it shows.
        why: String,
    },
    /// Content hashes to something else than its name.
    #[error("digest of {what} is {found}, {expected} was expected")]
    DigestMismatch {
        /// Which content.
        what: String,
        /// The promised digest.
        expected: Digest,
        /// The computed digest.
        found: Digest,
    },
    /// A path in an archive leads out of the image.
    #[error("unsafe path {path:?} in archive: {why}")]
    Unsafe {
        /// The path as written.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Beyond a configured limit.
    #[error("{what} is too large: {size} is over the limit of {limit}")]
    TooLarge {
        /// Which quantity.
        what: String,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// Nothing here knows how to read it.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The file system refused.
    #[error("{doing} {}", path.display())]
    Io {
        /// The verb: `writing`, `opening`, …
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Reading the archive or the peer failed.
    #[error("reading {what}")]
    Read {
        /// What was read.
        what: String,
        /// The reader's answer.
        source: std::io::Error,
    },
    /// A mount failed.
    #[error(transparent)]
    Mount(#[from] weft_sys::mount::MountError),
    /// The store failed.
    #[error("image records")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A worker thread ended without an answer.
    #[error("internal: {0}")]
    Internal(String),
}

fn in_use_text(by_name: bool, reference: &str, container: &str, running: bool, image: &Digest) -> String {
    if by_name {
        return format!(
            "conflict: unable to remove repository reference \"{reference}\" (must force) - container {container} is using its \
             referenced image {}",
            image.short()
        );
    }
    let (force, state) =
        if running { ("cannot be forced", "running") } else { ("must be forced", "stopped") };
    format!(
        "conflict: unable to delete {} ({force}) - image is being used by {state} container {container}",
        image.short()
    )
}

impl ImageError {
    /// An I/O failure while `doing` something to `path`.
    pub fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }

    /// The same for `rustix`'s errors.
    pub fn os(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source: source.into() }
    }

    pub(crate) fn corrupt(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into(), why: why.into() }
    }

    pub(crate) fn store(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Store(Box::new(error))
    }
}

/// Carries one of our errors through an interface that knows only `io::Error`.
pub(crate) fn into_io(error: ImageError) -> std::io::Error {
    std::io::Error::other(error)
}

/// Takes our error back out of an `io::Error`, or says what was being read.
pub(crate) fn from_io(what: &str, error: std::io::Error) -> ImageError {
    if error.get_ref().is_some_and(|e| e.is::<ImageError>()) {
        if let Some(Ok(ours)) = error.into_inner().map(|e| e.downcast::<ImageError>()) {
            return *ours;
        }
        return ImageError::Internal("lost error".into());
    }
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => ImageError::corrupt(what, "it ends too early"),
        std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput => {
            ImageError::corrupt(what, error.to_string())
        }
        _ => ImageError::Read { what: what.to_owned(), source: error },
    }
}
