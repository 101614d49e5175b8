//! Listeners that a service manager opened before it started us (systemd's socket activation).
//!
//! Which face one is for is said by its name (`FileDescriptorName=docker`); a name that is no face means docker, as
//! dockerd takes whatever it is given.

use std::os::fd::OwnedFd;

use anyhow::{Context, bail};
use weft_api_kit::Listener;

/// One of them. The descriptor is kept, so that a face can be closed and opened again.
pub(crate) struct Adopted {
    pub face: &'static str,
    fd: OwnedFd,
}

impl Adopted {
    /// A listener on it.
    pub(crate) fn listener(&self) -> anyhow::Result<Listener> {
        let fd = self.fd.try_clone().context("duplicating a socket of the service manager")?;
        Listener::adopt(fd).context("taking over a socket of the service manager")
    }
}

/// Everything that was handed to this process. Needs the runtime.
pub(crate) fn adopt() -> anyhow::Result<Vec<Adopted>> {
    let passed = weft_sys::activation::take().context("taking over the service manager's sockets")?;
    passed.into_iter().map(|p| of(&p.name, p.fd)).collect()
}

fn of(name: &str, fd: OwnedFd) -> anyhow::Result<Adopted> {
    let face = if name == "metrics" { "metrics" } else { "docker" };
    let adopted = Adopted { face, fd };
    let listener = adopted.listener().with_context(|| format!("socket {name:?}"))?;
    if face == "docker" && matches!(listener, Listener::Tcp(_)) {
        bail!(
            "socket {name:?}: clear text on TCP would give root to anyone who can connect; use --listen docker=tls://…"
        );
    }
    Ok(adopted)
}
