//! A name server as people write it: an address, perhaps with a port, perhaps with the scope that a link-local address
//! has a meaning in (RFC 4007 section 11: `fe80::1%eth0`).

use std::{
    fmt, io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::AsFd,
    sync::Arc,
};

/// A name server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    at: SocketAddr,
    /// An interface by name, or its number. Which one is meant depends on the namespace that asks.
    scope: Option<Arc<str>>,
}

impl Server {
    /// Reads `10.0.0.1`, `10.0.0.1:53`, `fe80::1%eth0` or `[fe80::1%eth0]:53`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let Some((before, behind)) = text.split_once('%') else {
            let plain = text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53));
            return plain.or_else(|| text.parse().ok()).map(Self::from);
        };
        let (ip, scope, port) = match before.strip_prefix('[') {
            Some(ip) => {
                let (scope, port) = behind.split_once("]:")?;
                (ip, scope, port.parse().ok()?)
            }
            None => (before, behind, 53),
        };
        let ip: Ipv6Addr = ip.parse().ok()?;
        (!scope.is_empty()).then(|| Self { at: SocketAddr::new(ip.into(), port), scope: Some(scope.into()) })
    }

    /// Whether its address is of IPv6.
    pub(crate) fn is_ipv6(&self) -> bool {
        self.at.is_ipv6()
    }

    /// Its address as the kernel wants it from `socket`, in whose namespace the scope is looked up (netdevice(7)).
    ///
    /// # Errors
    /// There is no such interface.
    pub(crate) fn reached_by(&self, socket: impl AsFd) -> io::Result<SocketAddr> {
        let mut at = self.at;
        if let (SocketAddr::V6(at), Some(scope)) = (&mut at, &self.scope) {
            at.set_scope_id(match scope.parse() {
                Ok(index) => index,
                Err(_) => rustix::net::netdevice::name_to_index(socket, scope)?,
            });
        }
        Ok(at)
    }
}

impl From<SocketAddr> for Server {
    fn from(at: SocketAddr) -> Self {
        Self { at, scope: None }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Some(scope) => write!(f, "[{}%{scope}]:{}", self.at.ip(), self.at.port()),
            None => self.at.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_write_them() {
        for (text, wanted) in [
            ("10.0.0.1", Some("10.0.0.1:53")),
            ("10.0.0.1:5353", Some("10.0.0.1:5353")),
            ("::1", Some("[::1]:53")),
            ("[::1]:54", Some("[::1]:54")),
            ("fe80::1%eth0", Some("[fe80::1%eth0]:53")),
            ("[fe80::1%3]:54", Some("[fe80::1%3]:54")),
            ("fe80::1%", None),
            ("10.0.0.1%eth0", None),
            ("[fe80::1%eth0]", None),
            ("300.1.1.1", None),
            ("", None),
        ] {
            assert_eq!(Server::parse(text).map(|s| s.to_string()).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn scopes_are_interfaces_of_the_namespace_that_asks() {
        let socket = std::net::UdpSocket::bind("[::1]:0").unwrap();
        let scope = |text| match Server::parse(text).unwrap().reached_by(&socket) {
            Ok(SocketAddr::V6(at)) => Some(at.scope_id()),
            _ => None,
        };
        let lo = rustix::net::netdevice::name_to_index(&socket, "lo").unwrap();
        assert_eq!(scope("fe80::1%lo"), Some(lo));
        assert_eq!(scope("fe80::1%77"), Some(77));
        assert_eq!(scope("fe80::1"), Some(0));
        assert_eq!(scope("fe80::1%nosuch0"), None);
    }
}
