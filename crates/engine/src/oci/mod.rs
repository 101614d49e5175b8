//! From a container's spec to an OCI runtime configuration, as Docker makes it.
//!
//! Three steps, so that the middle one is a pure function of values:
//!
//! ```text
//! validate(spec, host)            when a container is made: refuse, or warn, in Docker's words
//! gather:  HostFacts::detect()    once: what this daemon may grant (capabilities, limits, cgroups, kernel)
//!          user::resolve()        before each start: who the process is, read beneath the root file system
//!          devices::gather()      before each start: numbers of device nodes
//! bundle(spec, facts)             the configuration, and what of the wishes was not granted
//! ```
//!
//! What the host cannot grant (Weft may run without some capabilities itself) is left out and said in a
//! warning; what makes no sense is an [`OciError`].

pub mod caps;
pub mod devices;
pub mod host;
pub mod init;
pub mod seccomp;
pub mod types;
pub mod user;
pub mod validate;

mod build;
mod error;
mod limits;
mod mounts;
mod namespaces;
mod process;
mod resources;

pub use build::bundle;
pub use error::OciError;
pub use host::{CgroupVersion, HostFacts, require_cgroups};
pub use mounts::check_propagation;
pub(crate) use mounts::clean;
pub use oci_spec::runtime::Capability;
pub use process::exec_process;
pub use resources::{Limits, limits};
pub use types::{Built, BundleFacts, IdMap, MountSource, ResolvedMount, UserNamespace};
pub use user::{ResolvedUser, UserError};
pub use validate::{Invalid, granted, validate, validate_resources};

#[cfg(test)]
pub(crate) mod tests;
