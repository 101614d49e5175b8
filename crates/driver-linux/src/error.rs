//! What can go wrong below the driver.

use std::io;

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
    /// The thread that deletes links could not be started.
    #[error("starting the thread that deletes links")]
    Reaper(#[source] io::Error),
}
