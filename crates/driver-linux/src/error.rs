//! What can go wrong below the driver.

use std::{io, path::PathBuf};

use weft_dataplane::ParentFault;
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
    /// A container asked for a parameter of its interface that there is not.
    #[error("{} is not a sysctl file", path.display())]
    NoParameter {
        /// Where it would be.
        path: PathBuf,
    },
    /// The kernel does not take what a container asked for.
    #[error("unable to write to '{}'", path.display())]
    Parameter {
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
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
    /// What was to be used as a bridge is none.
    #[error("existing interface {name} is not a bridge")]
    NoBridge {
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
    /// The tables of sockets.
    #[error("reading which sockets wait")]
    Sockets(#[source] io::Error),
    /// A packet that does not exist cannot be traced.
    #[error("there is no packet to trace: {what}")]
    NothingToTrace {
        /// What was asked for.
        what: String,
    },
    /// A bandwidth limit needs what this kernel was built without.
    #[error("bandwidth limits need {what}, which this kernel does not have")]
    Lacking {
        /// What.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        source: NetlinkError,
    },
    /// Policy within a bridge needs `br_netfilter`.
    #[error(
        "policy between containers needs the kernel module br_netfilter, which is not loaded: modprobe br_netfilter"
    )]
    NoFilter,
    /// More limited ports than a queue has classes.
    #[error("queue {name} has no class left")]
    Full {
        /// Its name.
        name: String,
    },
    /// Nothing can hang on this parent.
    #[error(transparent)]
    Parent(ParentFault),
    /// The note of a port could not be written or removed.
    #[error("the note {}", path.display())]
    Note {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The thread that deletes links could not be started.
    #[error("starting the thread that deletes links")]
    Reaper(#[source] io::Error),
    /// The thread that hears of changes could not be started.
    #[error("starting the thread that hears of changes by others")]
    Watcher(#[source] io::Error),
}
