//! Telling whoever started the daemon how it is: a line on standard error, and the service manager's socket
//! (sd_notify(3)).

use std::{
    os::unix::{ffi::OsStrExt, net::UnixDatagram},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

/// Nobody listens at the socket: the variable came from whoever started us, and its service is over.
static DEAF: AtomicBool = AtomicBool::new(false);

/// Every listener accepts.
pub(crate) fn ready() {
    #[expect(clippy::print_stderr, reason = "this line is the contract with scripts and `--detach`")]
    {
        eprintln!("ready");
    }
    tell("READY=1");
}

/// The configuration is being read again.
pub(crate) fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1_000));
}

/// It was read.
pub(crate) fn reloaded() {
    tell("READY=1");
}

/// The daemon is about to end.
pub(crate) fn stopping() {
    tell("STOPPING=1");
}

fn tell(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|_| !DEAF.load(Relaxed)) else { return };
    let sent = UnixDatagram::unbound().and_then(|socket| match path.as_bytes().strip_prefix(b"@") {
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            socket.send_to_addr(state.as_bytes(), &address)
        }
        None => socket.send_to(state.as_bytes(), &path),
    });
    if let Err(error) = sent {
        DEAF.store(true, Relaxed);
        tracing::debug!(%error, "no service manager listens at NOTIFY_SOCKET");
    }
}
