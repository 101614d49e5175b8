//! Which host ports a container gets: those it names, the first free of a range, or any.
//!
//! Two things can stand in the way: another container's port (known from the Port objects, there is no other
//! record) and a process of the host (asked of the kernel through [`HostSockets`] by binding and closing at
//! once). No socket is kept: the packet filter takes the packets before the host's own sockets see them.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering},
};

use weft_model::{ContainerId, PortOwner, PortRange, PortSpec, Protocol, PublishBinding, PublishSpec};

use crate::error::{BindFailure, PublishError};

/// Tells whether a socket of the host could listen at an address.
pub trait HostSockets: Send + Sync + 'static {
    /// Binds and closes again.
    ///
    /// # Errors
    /// The kernel's refusal, such as `AddrInUse`.
    fn probe(&self, protocol: Protocol, at: SocketAddr) -> io::Result<()>;

    /// Who is in the way there, for people.
    fn holder(&self, _protocol: Protocol, _at: SocketAddr) -> Option<String> {
        None
    }
}

/// The kernel's sockets, in the network namespace of the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelSockets;

impl HostSockets for KernelSockets {
    fn probe(&self, protocol: Protocol, at: SocketAddr) -> io::Result<()> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
        let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let (kind, number) = match protocol {
            Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
            Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
            Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
        };
        let socket = match rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(number)) {
            Ok(socket) => socket,
            // Without the protocol in the kernel (SCTP module, disabled IPv6) nobody can listen either.
            Err(rustix::io::Errno::PROTONOSUPPORT | rustix::io::Errno::AFNOSUPPORT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if at.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        if protocol == Protocol::Tcp {
            // As listeners do: connections in TIME-WAIT are nobody's.
            sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        rustix::net::bind(&socket, &at)?;
        Ok(())
    }

    fn holder(&self, protocol: Protocol, at: SocketAddr) -> Option<String> {
        crate::holder::holder(protocol, at)
    }
}

/// When a wildcard publication is made on IPv6, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WildcardV6 {
    /// Where the container has an IPv6 address there: what is listed works.
    #[default]
    WhenAddressed,
    /// Never.
    Never,
}

/// Chooses host ports beside those that exist.
pub struct HostPorts<'a> {
    /// By protocol, so that thousands of rows are not all looked at for each of thousands of ports.
    taken: HashMap<Protocol, BTreeMap<u16, Vec<(PublishBinding, ContainerId)>>>,
    name_of: &'a dyn Fn(ContainerId) -> Option<String>,
    sockets: &'a dyn HostSockets,
    /// Where random ports come from.
    dynamic: PortRange,
    cursor: &'a AtomicU32,
}

impl<'a> HostPorts<'a> {
    /// A chooser beside the ports that exist. `cursor` remembers where the last search for a random port
    /// ended (a hint, as [`crate::Cursors`]).
    pub fn new<'p>(
        existing: impl IntoIterator<Item = &'p PortSpec>,
        sockets: &'a dyn HostSockets,
        dynamic: PortRange,
        cursor: &'a AtomicU32,
    ) -> Self {
        let mut ports = Self { taken: HashMap::new(), name_of: &|_| None, sockets, dynamic, cursor };
        for port in existing {
            let PortOwner::Container(owner) = port.owner;
            port.publish.iter().for_each(|b| ports.note(*b, owner));
        }
        ports
    }

    /// Says what containers are called.
    #[must_use]
    pub fn naming(mut self, name_of: &'a dyn Fn(ContainerId) -> Option<String>) -> Self {
        self.name_of = name_of;
        self
    }

    fn note(&mut self, row: PublishBinding, owner: ContainerId) {
        let rows = self.taken.entry(row.protocol).or_default();
        row.each().for_each(|b| rows.entry(b.host_port).or_default().push((row, owner)));
    }

    /// Resolves one wish of `owner` to listening addresses, all with the same host port.
    ///
    /// # Errors
    /// The named port is taken by a container or a process; the range is exhausted.
    pub fn allocate(
        &mut self,
        owner: ContainerId,
        wish: &PublishSpec,
        addresses: &[IpAddr],
    ) -> Result<Vec<PublishBinding>, PublishError> {
        let port = match wish.host_port {
            Some(range) if range.start == range.end && range.start != 0 => {
                self.check(wish.protocol, addresses, range.start).map_err(|e| self.name(e))?;
                range.start
            }
            Some(range) if range.start != 0 => {
                let free =
                    (range.start..=range.end).find(|p| self.check(wish.protocol, addresses, *p).is_ok());
                free.ok_or(PublishError::Exhausted)?
            }
            _ => self.any(wish.protocol, addresses)?,
        };
        let bindings: Vec<_> = addresses
            .iter()
            .map(|ip| PublishBinding {
                protocol: wish.protocol,
                host_ip: *ip,
                host_port: port,
                container_port: wish.container_port,
                more: 0,
            })
            .collect();
        bindings.iter().for_each(|b| self.note(*b, owner));
        Ok(bindings)
    }

    fn any(&self, protocol: Protocol, addresses: &[IpAddr]) -> Result<u16, PublishError> {
        let (start, size) = (self.dynamic.start, u32::from(self.dynamic.end - self.dynamic.start) + 1);
        for _ in 0..size {
            let step = self.cursor.fetch_add(1, Ordering::Relaxed) % size;
            let port = start + u16::try_from(step).unwrap_or(0);
            if self.check(protocol, addresses, port).is_ok() {
                return Ok(port);
            }
        }
        Err(PublishError::Exhausted)
    }

    fn check(&self, protocol: Protocol, addresses: &[IpAddr], port: u16) -> Result<(), PublishError> {
        let rows = self.taken.get(&protocol).and_then(|rows| rows.get(&port));
        for ip in addresses {
            let mut rows = rows.into_iter().flatten();
            if let Some((_, owner)) = rows.find(|(b, _)| same_listener(b.host_ip, *ip)) {
                return Err(PublishError::Allocated { ip: *ip, port, owner: *owner, name: None });
            }
        }
        for ip in addresses {
            let probe = self.sockets.probe(protocol, SocketAddr::new(*ip, port));
            let failed = |error| PublishError::Bind {
                ip: *ip,
                port,
                protocol,
                source: BindFailure { error, holder: None },
            };
            probe.map_err(failed)?;
        }
        Ok(())
    }

    /// Adds who is in the way: looked up for the one refusal that is told, not for each port that is tried.
    fn name(&self, refusal: PublishError) -> PublishError {
        match refusal {
            PublishError::Allocated { ip, port, owner, .. } => {
                PublishError::Allocated { ip, port, owner, name: (self.name_of)(owner) }
            }
            PublishError::Bind { ip, port, protocol, mut source }
                if source.error.kind() == io::ErrorKind::AddrInUse =>
            {
                source.holder = self.sockets.holder(protocol, SocketAddr::new(ip, port));
                PublishError::Bind { ip, port, protocol, source }
            }
            other => other,
        }
    }
}

/// Two listeners get in each other's way: one address, or one of them all addresses of the family.
fn same_listener(a: IpAddr, b: IpAddr) -> bool {
    a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
}

/// The addresses that a wish listens at: its own, else the network's default, else all.
///
/// # Errors
/// The written address is none.
pub(crate) fn listen_at(
    wish: &PublishSpec,
    default: Option<IpAddr>,
    has: (bool, bool),
) -> Result<Vec<IpAddr>, PublishError> {
    let written = wish.host_ip.trim_start_matches('[').trim_end_matches(']');
    let all4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let all6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    if !written.is_empty() {
        let ip: IpAddr = written.parse().map_err(|_| PublishError::BadAddress(wish.host_ip.clone()))?;
        // `::ffff:192.0.2.1` is the IPv4 address (RFC 4291, 2.5.5.2), as Go reads it.
        return Ok(vec![ip.to_canonical()]);
    }
    Ok(match default {
        Some(ip) => vec![ip],
        None => {
            [(has.0, all4), (has.1, all6)].into_iter().filter(|(yes, _)| *yes).map(|(_, ip)| ip).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{network, port};

    struct Host(Vec<SocketAddr>);
    impl HostSockets for Host {
        fn probe(&self, _: Protocol, at: SocketAddr) -> io::Result<()> {
            if self.0.contains(&at) { Err(io::ErrorKind::AddrInUse.into()) } else { Ok(()) }
        }
        fn holder(&self, _: Protocol, at: SocketAddr) -> Option<String> {
            (at.port() == 8002).then(|| "nginx, process 7".to_owned())
        }
    }

    fn wish(range: Option<(u16, u16)>) -> PublishSpec {
        let host_port = range.map(|(start, end)| PortRange { start, end });
        PublishSpec { protocol: Protocol::Tcp, container_port: 80, host_ip: String::new(), host_port }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn check(range: Option<(u16, u16)>, at: &str, wanted: &str) {
        let net = network("n", vec![]);
        let mut other = port(&net, &[]);
        let binding = |host_ip: &str, host_port| PublishBinding {
            protocol: Protocol::Tcp,
            host_ip: ip(host_ip),
            host_port,
            container_port: 80,
            more: 0,
        };
        let row = PublishBinding { more: 99, ..binding("0.0.0.0", 9000) };
        other.publish =
            vec![binding("0.0.0.0", 8000), binding("127.0.0.1", 8001), binding("0.0.0.0", 40000), row];
        let host = Host(vec!["0.0.0.0:8002".parse().unwrap(), "0.0.0.0:40001".parse().unwrap()]);
        let cursor = AtomicU32::new(0);
        let dynamic = PortRange { start: 40000, end: 40002 };
        let name_of = |_| Some("web".to_owned());
        let mut ports = HostPorts::new([&other], &host, dynamic, &cursor).naming(&name_of);
        let got = match ports.allocate(ContainerId::new(), &wish(range), &[ip(at)]) {
            Ok(b) => b[0].host_port.to_string(),
            Err(e) => weft_base::chain(&e),
        };
        assert_eq!(got, wanted, "{range:?} at {at}");
    }

    #[test]
    fn taken_by_containers_or_by_the_host() {
        check(Some((80, 80)), "0.0.0.0", "80");
        check(
            Some((8000, 8000)),
            "0.0.0.0",
            "Bind for 0.0.0.0:8000 failed: port is already allocated (by container web)",
        );
        check(
            Some((8000, 8000)),
            "10.0.0.1",
            "Bind for 10.0.0.1:8000 failed: port is already allocated (by container web)",
        );
        check(Some((8000, 8000)), "::", "8000");
        check(Some((8001, 8001)), "10.0.0.1", "8001");
        check(
            Some((8001, 8001)),
            "0.0.0.0",
            "Bind for 0.0.0.0:8001 failed: port is already allocated (by container web)",
        );
        let host = "failed to bind host port 0.0.0.0:8002/tcp: address already in use (by nginx, process 7)";
        check(Some((8002, 8002)), "0.0.0.0", host);
        check(Some((8000, 8005)), "0.0.0.0", "8003");
        check(Some((8000, 8002)), "0.0.0.0", "all ports are allocated");
        check(Some((9099, 9100)), "0.0.0.0", "9100");
        check(None, "0.0.0.0", "40002");
    }

    #[test]
    fn where_a_wish_listens() {
        let at = |written: &str, default: Option<&str>, v6| {
            let wish = PublishSpec { host_ip: written.into(), ..wish(None) };
            let ips = listen_at(&wish, default.map(ip), (true, v6)).map_err(|e| e.to_string());
            ips.map(|ips| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(at("", None, true).unwrap(), "0.0.0.0 ::");
        assert_eq!(at("", None, false).unwrap(), "0.0.0.0");
        assert_eq!(at("", Some("127.0.0.1"), true).unwrap(), "127.0.0.1");
        assert_eq!(at("[::1]", Some("127.0.0.1"), true).unwrap(), "::1");
        assert!(at("localhost", None, true).is_err());
    }

    #[test]
    fn the_kernel_says_who_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        assert_eq!(KernelSockets.probe(Protocol::Tcp, at).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        KernelSockets.probe(Protocol::Tcp, at).unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        assert_eq!(KernelSockets.probe(Protocol::Udp, at).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn an_address_is_listened_at_as_go_reads_it() {
        let at = |host_ip: &str| {
            listen_at(&PublishSpec { host_ip: host_ip.into(), ..wish(None) }, None, (true, true))
        };
        assert_eq!(at("::ffff:192.0.2.1").unwrap(), [ip("192.0.2.1")]);
        assert_eq!(at("[fd00::1]").unwrap(), [ip("fd00::1")]);
        assert_eq!(at("").unwrap(), [ip("0.0.0.0"), ip("::")]);
        assert!(at("nonsense").is_err());
    }
}
