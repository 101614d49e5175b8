//! A container in a user namespace of its own, on a network that the daemon made.
//!
//! Once inside the new user namespace, a process may neither enter the daemon's network namespace nor mount its sysfs:
//! both belong to the host's root. So the helper, still the host's root, does both first, in a mount namespace of its
//! own from which the container's is copied: nothing of it shows elsewhere, and nothing is left.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};
use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use super::types::Fault;

/// Where the network's sysfs is mounted, under the shim's directory.
pub(super) const SYS: &str = "sys";

/// What is done before the user namespace is made.
pub(super) struct Network {
    path: PathBuf,
    sysctls: Vec<(String, String)>,
}

/// Takes the network namespace out of a specification that makes a user namespace, and has `/sys` bound from `sys`.
/// `None` where the runtime can do it all by itself.
pub(super) fn take_network(oci: &mut Spec, sys: &Path) -> Option<Network> {
    let mut linux = oci.linux().clone()?;
    let mut namespaces = linux.namespaces().clone()?;
    let makes_user = namespaces.iter().any(|n| n.typ() == LinuxNamespaceType::User && n.path().is_none());
    let at = namespaces.iter().position(|n| n.typ() == LinuxNamespaceType::Network && n.path().is_some())?;
    if !makes_user {
        return None;
    }
    let path = namespaces.remove(at).path().clone()?;
    let mut kept = linux.sysctl().clone().unwrap_or_default();
    let ours = |name: &String| name.starts_with("net.");
    let sysctls = kept.iter().filter(|(n, _)| ours(n)).map(|(n, v)| (n.clone(), v.clone())).collect();
    kept.retain(|name, _| !ours(name));
    linux.set_sysctl(Some(kept));
    linux.set_namespaces(Some(namespaces));
    oci.set_linux(Some(linux));
    let mut mounts = oci.mounts().clone().unwrap_or_default();
    for mount in mounts.iter_mut().filter(|m| m.typ().as_deref() == Some("sysfs")) {
        bind_instead(mount, sys);
    }
    oci.set_mounts(Some(mounts));
    Some(Network { path, sysctls })
}

fn bind_instead(mount: &mut Mount, sys: &Path) {
    let mut options = mount.options().clone().unwrap_or_default();
    options.push("rbind".to_owned());
    mount.set_typ(Some("bind".to_owned())).set_source(Some(sys.to_owned())).set_options(Some(options));
}

/// Enters the network namespace, sets its parameters and mounts its sysfs at `sys`.
pub(super) fn enter_network(net: &Network, sys: &Path) -> Result<(), Fault> {
    let fault = |doing: &str| {
        let doing = format!("{doing} {}", net.path.display());
        move |e: io::Error| Fault::because(&doing, &e)
    };
    File::open(&net.path)
        .and_then(|file| setns(file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from))
        .map_err(fault("entering the network namespace"))?;
    for (name, value) in &net.sysctls {
        weft_sys::sysctl::write(name, value)
            .map_err(|e| Fault::because(&format!("write sysctl key {name}"), &e))?;
    }
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| fault("a mount namespace for")(e.into()))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .map_err(|e| fault("cutting mounts off for")(e.into()))?;
    fs::create_dir_all(sys).map_err(fault("a directory for the sysfs of"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    mount(Some("sysfs"), sys, Some("sysfs"), flags, none)
        .map_err(|e| fault("mounting the sysfs of")(e.into()))
}
