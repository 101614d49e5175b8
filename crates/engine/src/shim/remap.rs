//! A container in a user namespace of its own, on a network that the daemon made.
//!
//! Whoever is root in a user namespace is root over the network namespaces that belong to it, and over no others. So the
//! daemon makes a container's network namespace in a new user namespace, and the container is started in that one: the
//! runtime, any runtime, joins it instead of making another. The kernel tells whose a network namespace is; nothing else
//! keeps the user namespace, so nothing else is left of it.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::PathBuf,
};

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::types::Fault;

/// Has a specification that would make a user namespace join the one that its network namespace belongs to, if that is
/// not the host's. What is returned must stay open until the runtime has created the container.
pub(super) fn join_owner(oci: &mut Spec) -> Result<Option<OwnedFd>, Fault> {
    let Some(mut linux) = oci.linux().clone() else { return Ok(None) };
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    let network = namespaces.iter().find(|n| n.typ() == LinuxNamespaceType::Network);
    let Some(path) = network.and_then(|n| n.path().clone()) else { return Ok(None) };
    let makes = |n: &&mut oci_spec::runtime::LinuxNamespace| {
        n.typ() == LinuxNamespaceType::User && n.path().is_none()
    };
    let Some(users) = namespaces.iter_mut().find(makes) else { return Ok(None) };
    let fault = |e: io::Error| Fault::because(&format!("the owner of {}", path.display()), &e);
    let network = File::open(&path).map_err(fault)?;
    let Some(owner) = weft_sys::process::owner(network.as_fd()).map_err(fault)? else { return Ok(None) };
    let at = format!("/proc/{}/fd/{}", std::process::id(), owner.as_raw_fd());
    users.set_path(Some(PathBuf::from(at)));
    linux.set_namespaces(Some(namespaces));
    oci.set_linux(Some(linux));
    Ok(Some(owner))
}
