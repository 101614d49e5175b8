//! Why a use case was refused or failed, typed so that each face can say it in its own words.

use weft_base::chain;

/// The kinds of things that people name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A container.
    Container,
    /// An exec.
    Exec,
    /// A host of the cluster.
    Host,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
}

impl Kind {
    /// The lower-case noun.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Exec => "exec instance",
            Self::Host => "host",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
        }
    }
}

/// A use case's failure. Texts follow those that Docker's users know, which serve other faces as well.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// Nothing has that name or id.
    #[error("{}", not_found(*.kind, .name))]
    NotFound {
        /// What was looked for.
        kind: Kind,
        /// What was written.
        name: String,
    },
    /// An id prefix fits several.
    #[error("multiple IDs found with provided prefix: {name}")]
    Ambiguous {
        /// What was written.
        name: String,
    },
    /// The container name is taken.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{by}\". You have to remove \
         (or rename) that container to be able to reuse that name."
    )]
    NameInUse {
        /// The name.
        name: String,
        /// Who has it.
        by: String,
    },
    /// A container is up, so it is not removed.
    #[error("cannot remove container \"{name}\": {}", in_use(.state))]
    InUse {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// `running`, `paused` or `restarting`.
        state: &'static str,
    },
    /// The present state does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A path inside a container, or another thing without a kind of its own, is not there.
    #[error("{0}")]
    Missing(String),
    /// It is so already.
    #[error("not modified")]
    NotModified,
    /// The caller may not.
    #[error("{0}")]
    Forbidden(String),
    /// Something it needs is not there now.
    #[error("{0}")]
    Unavailable(String),
    /// Weft, this machine or this driver cannot do it.
    #[error("{0}")]
    Unsupported(String),
    /// Credentials were refused by a registry.
    #[error("{0}")]
    Unauthorized(String),
    /// The container was made but its process could not be started.
    #[error("{message}")]
    StartFailed {
        /// What the runtime said.
        message: String,
        /// 126, 127 or 128, as `docker run` exits with.
        code: i64,
    },
    /// Our own fault, or the machine's; the whole chain of causes.
    #[error("{0}")]
    Internal(String),
}

fn not_found(kind: Kind, name: &str) -> String {
    match kind {
        Kind::Container => format!("No such container: {name}"),
        Kind::Exec => format!("No such exec instance: {name}"),
        Kind::Image => format!("No such image: {name}"),
        Kind::Host => format!("No such host: {name}"),
        Kind::Network => format!("network {name} not found"),
        Kind::Volume => format!("get {name}: no such volume"),
    }
}

fn in_use(state: &str) -> String {
    match state {
        "paused" => "container is paused and must be unpaused first".into(),
        _ => format!("container is {state}: stop the container before removing or force remove"),
    }
}

impl CloudError {
    /// Wraps an error that the caller did not cause.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Internal(chain(error))
    }

    /// Nothing of `kind` is called `name`.
    pub fn not_found(kind: Kind, name: impl Into<String>) -> Self {
        Self::NotFound { kind, name: name.into() }
    }
}

/// Shorthand of this crate.
pub type Result<T, E = CloudError> = std::result::Result<T, E>;
