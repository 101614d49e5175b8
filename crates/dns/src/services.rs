//! Names of services for SRV (RFC 2782), from IANA's registry of service names and port numbers.
//!
//! A container says which ports it serves (`EXPOSE`, `--expose`, `--publish`), not what they are for, so a service
//! is found by its registered port: `_http._tcp.web` is `web`'s port 80 where it declares that. A number does
//! as well: `_8080._tcp.web`.

use weft_model::Protocol;

/// Registered names of what people run in containers; a name may have several ports.
const REGISTERED: &[(&str, u16)] = &[
    ("ftp", 21),
    ("ssh", 22),
    ("smtp", 25),
    ("domain", 53),
    ("http", 80),
    ("kerberos", 88),
    ("pop3", 110),
    ("ntp", 123),
    ("imap", 143),
    ("snmp", 161),
    ("ldap", 389),
    ("https", 443),
    ("submissions", 465),
    ("syslog", 514),
    ("submission", 587),
    ("ldaps", 636),
    ("domain-s", 853),
    ("imaps", 993),
    ("pop3s", 995),
    ("ms-sql-s", 1433),
    ("mqtt", 1883),
    ("radius", 1812),
    ("nfs", 2049),
    ("docker", 2375),
    ("docker-s", 2376),
    ("etcd-client", 2379),
    ("etcd-server", 2380),
    ("mysql", 3306),
    ("stun", 3478),
    ("turn", 3478),
    ("sip", 5060),
    ("sips", 5061),
    ("xmpp-client", 5222),
    ("xmpp-server", 5269),
    ("postgresql", 5432),
    ("amqps", 5671),
    ("amqp", 5672),
    ("redis", 6379),
    ("http-alt", 8080),
    ("secure-mqtt", 8883),
    ("memcache", 11211),
    ("mongodb", 27017),
];

/// What `_service._protocol.host` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Service<'a> {
    /// `http`, `8080`.
    name: &'a str,
    protocol: Protocol,
    /// The rest of the name.
    pub(crate) host: &'a str,
}

impl<'a> Service<'a> {
    /// Takes a name (lower case) apart; `None` when it is not of that form.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (name, rest) = text.strip_prefix('_')?.split_once("._")?;
        let (protocol, host) = rest.split_once('.')?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return None,
        };
        Some(Self { name, protocol, host })
    }

    /// Whether a declared port is this service.
    pub(crate) fn is(&self, protocol: Protocol, port: u16) -> bool {
        protocol == self.protocol
            && (self.name.parse() == Ok(port) || REGISTERED.contains(&(self.name, port)))
    }
}

/// The host below labels that begin with `_`, where there are any: such a name belongs to its host.
pub(crate) fn host_of(text: &str) -> Option<&str> {
    let mut rest = text;
    while rest.starts_with('_') {
        rest = rest.split_once('.')?.1;
    }
    (rest.len() < text.len()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names() {
        let http = Service::parse("_http._tcp.web.app").unwrap();
        assert_eq!(http.host, "web.app");
        assert!(http.is(Protocol::Tcp, 80) && !http.is(Protocol::Udp, 80) && !http.is(Protocol::Tcp, 81));
        assert!(Service::parse("_81._tcp.web").unwrap().is(Protocol::Tcp, 81));
        for other in ["web", "_http.web", "_http._tcp", "http._tcp.web", "_http._xyz.web", ""] {
            assert_eq!(Service::parse(other), None, "{other}");
        }
        assert_eq!(host_of("_a._b.web.app"), Some("web.app"));
        assert_eq!((host_of("web"), host_of("_a"), host_of("")), (None, None, None));
    }
}
