//! What can fail around the resolver. A failing query is an answer (SERVFAIL), never an error here.

use weft_model::ContainerId;
use weft_store::StoreError;

/// A failure of the resolver's set-up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// The sockets inside a container's namespace cannot be had.
    #[error("cannot listen on {} inside container {container}", crate::RESOLVER)]
    Listen {
        /// The container.
        container: ContainerId,
        /// The kernel's reason.
        #[source]
        source: std::io::Error,
    },
    /// The store failed.
    #[error("the names cannot be read")]
    Store(#[from] StoreError),
}
