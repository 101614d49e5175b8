//! What can go wrong between a desired value and a machine.

use std::{error::Error as StdError, fmt};

use weft_model::{NetworkId, PortId};

use crate::{Publish, SandboxId, Step};

/// A desired value that contradicts itself. The planner's fault, never the machine's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A name the kernel would refuse.
    #[error("{name:?} is no valid name of a network interface")]
    LinkName {
        /// The name.
        name: String,
    },
    /// Two segments or ports have one kernel name.
    #[error("two links would be called {name}")]
    LinkTwice {
        /// The name.
        name: String,
    },
    /// Two ports have one name inside one sandbox.
    #[error("two interfaces of {sandbox} would be called {name}")]
    InterfaceTwice {
        /// The sandbox.
        sandbox: SandboxId,
        /// The name.
        name: String,
    },
    /// A port on a segment that is not there.
    #[error("port {port} is on segment {segment}, which is not there")]
    NoSegment {
        /// The port.
        port: PortId,
        /// Its segment.
        segment: NetworkId,
    },
    /// A port in a sandbox that is not there.
    #[error("port {port} is in sandbox {sandbox}, which is not there")]
    NoSandbox {
        /// The port.
        port: PortId,
        /// Its sandbox.
        sandbox: SandboxId,
    },
    /// Two publishes of one listening port.
    #[error("{}/{} on {} is published twice", publish.host_ports, publish.protocol.as_str(), publish.host_ip)]
    PublishTwice {
        /// The one that comes second.
        publish: Publish,
    },
    /// Families differ, or a range is empty or runs past 65535.
    #[error("publishing {}/{} on {} to {} port {} is malformed", publish.host_ports, publish.protocol.as_str(), publish.host_ip, publish.target_ip, publish.target_port)]
    Publish {
        /// The publish.
        publish: Publish,
    },
}

/// A feature this driver, or the kernel under it, does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{feature} is not supported here: {why}")]
pub struct Unsupported {
    /// What was asked for, in the dataplane's words.
    pub feature: String,
    /// What is missing.
    pub why: String,
}

/// Why sub-interfaces of a link cannot be had. The words are those that Docker's users know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParentFault {
    /// No such link.
    #[error("-o parent interface was not found on the host: {link}")]
    Missing {
        /// Its name.
        link: String,
    },
    /// The parent is the loopback interface.
    #[error("loopback interface is not a valid {kind} parent link")]
    Loopback {
        /// Kind of the sub-interfaces.
        kind: &'static str,
    },
    /// The kernel does not know the kind of link.
    #[error("failed to create {link} {kind} link: operation not supported: this kernel has no {module}")]
    Kernel {
        /// What would have been made.
        link: String,
        /// Its kind.
        kind: &'static str,
        /// The kernel's module that is missing.
        module: &'static str,
    },
    /// The parent already serves another kind of sub-interface, or is a port of a bridge.
    #[error("parent interface {link} is already in use as {by}")]
    Busy {
        /// The parent.
        link: String,
        /// What it is.
        by: String,
    },
}

/// A driver's failure. The source says what the kernel or switch answered.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The desired value contradicts itself.
    #[error("the desired network is inconsistent")]
    Invalid(#[from] Invalid),
    /// Something asked for cannot be had.
    #[error("the desired network asks for too much")]
    Unsupported(#[from] Unsupported),
    /// An older value came after a newer one.
    #[error("generation {offered} of the network comes after generation {held}")]
    Stale {
        /// What was offered.
        offered: u64,
        /// What is held.
        held: u64,
    },
    /// The machine could not be read.
    #[error("cannot observe {what}")]
    Observe {
        /// Which part.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// One step failed; the others are independent of it or will fail of themselves.
    #[error("cannot {step}")]
    Step {
        /// Which step, in words.
        step: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Something that does not carry our mark is in the way; it is left alone.
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
}

impl DriverError {
    /// A failed step.
    pub fn step(step: &Step, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Step { step: step.to_string(), source: source.into() }
    }

    /// A failed observation.
    pub fn observe(what: impl fmt::Display, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Observe { what: what.to_string(), source: source.into() }
    }
}
