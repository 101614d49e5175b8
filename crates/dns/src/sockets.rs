//! The seam to the kernel: sockets made inside a container's network namespace.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket},
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::Path,
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
    /// The namespace they are in: the kernel's number of it, which is no other's for as long as they are open.
    pub namespace: u64,
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

    /// The number of the namespace that `container` has now.
    ///
    /// # Errors
    /// `NotFound` while there is none.
    fn namespace(&self, container: ContainerId) -> io::Result<u64>;

    /// Makes a socket, not yet bound, for a query that leaves from the namespace of `container`: what
    /// [`outward_here`] makes there. Blocks likewise.
    ///
    /// # Errors
    /// `NotFound` while there is no namespace; the kernel's refusal.
    fn outward(&self, container: ContainerId, v6: bool, tcp: bool) -> io::Result<OwnedFd>;
}

/// A socket of the calling thread's namespace for one query to a server.
///
/// # Errors
/// The kernel's refusal.
pub fn outward_here(v6: bool, tcp: bool) -> io::Result<OwnedFd> {
    let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let kind = if tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(family, kind, flags, None)?)
}

/// The number of the namespace whose file that is (`ioctl_ns`(2): a namespace is known by its inode).
///
/// # Errors
/// There is none.
pub fn namespace_at(path: &Path) -> io::Result<u64> {
    Ok(std::fs::metadata(path)?.ino())
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
    let namespace = namespace_at(Path::new("/proc/thread-self/ns/net"))?;
    if !tcp {
        return Ok(Sockets { udp, tcp: None, namespace });
    }
    let listener = bound(at, SocketType::STREAM)?;
    rustix::net::listen(&listener, 128)?;
    Ok(Sockets { udp, tcp: Some(listener.into()), namespace })
}

fn bound(at: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &at)?;
    Ok(socket)
}
