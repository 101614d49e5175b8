//! The seam to the kernel: sockets made inside a container's network namespace.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use weft_model::ContainerId;

/// Where the resolver listens inside each container.
pub const RESOLVER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 53));

/// The resolver's sockets in one container.
#[derive(Debug)]
pub struct Sockets {
    /// Bound to the wanted address.
    pub udp: UdpSocket,
    /// Listening there, when it was asked for.
    pub tcp: Option<TcpListener>,
}

/// Makes sockets inside network namespaces.
///
/// The real one enters the container's namespace on a thread kept for that (`weft-sys`) and calls
/// [`open_here`] there.
pub trait SandboxSockets: Send + Sync + 'static {
    /// Opens the sockets at `at` in the namespace of `container`. Blocks for some hundred microseconds.
    ///
    /// # Errors
    /// `NotFound` while there is no namespace yet; the kernel's refusal to bind.
    fn open(&self, container: ContainerId, at: SocketAddr, tcp: bool) -> io::Result<Sockets>;
}

/// Opens the sockets in the namespace of the calling thread.
///
/// Both have `SO_REUSEADDR` and `SO_REUSEPORT`: a name server that people run in the container binds
/// `0.0.0.0:53`, which the kernel refuses beside a socket without them. Packets to the resolver's own address
/// still come here, as the more exact match.
///
/// # Errors
/// The kernel's refusal.
pub fn open_here(at: SocketAddr, tcp: bool) -> io::Result<Sockets> {
    let udp = bound(at, SocketType::DGRAM)?.into();
    if !tcp {
        return Ok(Sockets { udp, tcp: None });
    }
    let listener = bound(at, SocketType::STREAM)?;
    rustix::net::listen(&listener, 128)?;
    Ok(Sockets { udp, tcp: Some(listener.into()) })
}

fn bound(at: SocketAddr, kind: SocketType) -> io::Result<std::os::fd::OwnedFd> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &at)?;
    Ok(socket)
}
