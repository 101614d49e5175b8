//! What can go wrong below the driver.

use std::{io, path::PathBuf};

use weft_sys::{netlink::NetlinkError, netns::NetnsError, sysctl::SysctlError};

/// A failure of one kernel facility.
#[derive(Debug, thiserror::Error)]
pub enum LinuxError {
    /// Links, addresses, routes, rules or connections.
    #[error("the kernel refused")]
    Netlink(#[from] NetlinkError),
    /// Namespaces.
    #[error("network namespace")]
    Netns(#[from] NetnsError),
    /// Kernel parameters.
    #[error("kernel parameter")]
    Sysctl(#[from] SysctlError),
    /// The kernel does not tell whose a namespace is.
    #[error("asking for the user namespace of {}", path.display())]
    Owner {
        /// The namespace.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A sandbox was to share a user namespace where there is none.
    #[error("{} has no user namespace of its own", path.display())]
    NoOwner {
        /// The namespace.
        path: PathBuf,
    },
    /// A link that we just made is not there.
    #[error("link {name} is not there")]
    NoLink {
        /// Its name.
        name: String,
    },
    /// A link without our mark has the name we need; it is left alone.
    #[error("{name} exists and is not ours")]
    Foreign {
        /// Its name.
        name: String,
    },
    /// A bridge that was to be used as it is cannot be.
    #[error("bridge {name} {why}")]
    Borrowed {
        /// Its name.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// The thread that deletes links could not be started.
    #[error("starting the thread that deletes links")]
    Reaper(#[source] io::Error),
    /// The thread that hears of changes could not be started.
    #[error("starting the thread that hears of changes by others")]
    Watcher(#[source] io::Error),
}
