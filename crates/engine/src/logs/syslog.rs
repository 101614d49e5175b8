//! Lines to a syslog server: the local one (`/dev/log`), a Unix socket, UDP or TCP.
//!
//! Formats: the local form, RFC 3164, RFC 5424 (also with microseconds). TLS (`tcp+tls`) is refused: the
//! shim carries no TLS library.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::{TcpStream, UdpSocket},
    os::unix::net::{UnixDatagram, UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use weft_base::Timestamp;

use super::{
    attrs,
    lines::Line,
    options::LogOptionError,
    types::{LogFacts, Stream},
    writer::{Driver, invalid},
};

/// Options of this driver beside the common ones.
pub(super) const OPTIONS: [&str; 7] = [
    "syslog-address",
    "syslog-facility",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
    "syslog-format",
];

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "",
    "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
const DAEMON: u8 = 3;
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
const DEFAULT_TAG: &str = "{{.ID}}";

#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    Local,
    Unix(PathBuf),
    Udp(String),
    Tcp(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Unix,
    Rfc3164,
    Rfc5424 { micros: bool },
}

/// Where and how lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    address: Address,
    facility: u8,
    format: Format,
}

impl Target {
    /// Reads the options; texts of errors are Docker's.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, LogOptionError> {
        let option = |name: &str| options.get(name).map_or("", String::as_str);
        let value = |text: String| LogOptionError::Value(text);
        let facility = match option("syslog-facility") {
            "" => Some(usize::from(DAEMON)),
            word => {
                FACILITIES.iter().position(|f| *f == word).or_else(|| word.parse().ok().filter(|n| *n < 24))
            }
        }
        .and_then(|n| u8::try_from(n).ok())
        .ok_or_else(|| value("invalid syslog facility".into()))?;
        let format = match option("syslog-format") {
            "" => Format::Unix,
            "rfc3164" => Format::Rfc3164,
            "rfc5424" => Format::Rfc5424 { micros: false },
            "rfc5424micro" => Format::Rfc5424 { micros: true },
            _ => return Err(value("Invalid syslog format".into())),
        };
        Ok(Self { address: parse_address(option("syslog-address")).map_err(value)?, facility, format })
    }
}

fn parse_address(text: &str) -> Result<Address, String> {
    if text.is_empty() {
        return Ok(Address::Local);
    }
    let (scheme, rest) = text.split_once("://").ok_or_else(|| "unsupported scheme: ''".to_owned())?;
    let with_port = |host: &str| {
        let has_port =
            host.rsplit_once(':').is_some_and(|(h, p)| !h.ends_with(':') && p.parse::<u16>().is_ok());
        if has_port { host.to_owned() } else { format!("{host}:514") }
    };
    match scheme {
        "unix" | "unixgram" if Path::new(rest).exists() => Ok(Address::Unix(rest.into())),
        "unix" | "unixgram" => Err(format!("stat {rest}: no such file or directory")),
        "udp" => Ok(Address::Udp(with_port(rest))),
        "tcp" => Ok(Address::Tcp(with_port(rest))),
        "tcp+tls" => Err("syslog over TLS (tcp+tls) is not supported by Weft".to_owned()),
        other => Err(format!("unsupported scheme: '{other}'")),
    }
}

#[derive(Debug)]
enum Connection {
    Datagram(UnixDatagram),
    Stream(UnixStream),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Connection {
    fn open(address: &Address) -> io::Result<Self> {
        match address {
            Address::Local => LOCAL
                .iter()
                .find_map(|path| Self::unix(Path::new(path)).ok())
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "Unix syslog delivery error")),
            Address::Unix(path) => Self::unix(path),
            Address::Udp(to) => {
                let socket = UdpSocket::bind("[::]:0").or_else(|_| UdpSocket::bind("0.0.0.0:0"))?;
                socket.connect(to.as_str())?;
                Ok(Self::Udp(socket))
            }
            Address::Tcp(to) => {
                let stream = TcpStream::connect(to.as_str())?;
                // A server that does not read must not stop the container for long.
                stream.set_write_timeout(Some(Duration::from_secs(5)))?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    fn unix(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        match socket.connect(path) {
            Ok(()) => Ok(Self::Datagram(socket)),
            Err(_) => Ok(Self::Stream(UnixStream::connect(path)?)),
        }
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Datagram(s) => s.send(message).map(drop),
            Self::Stream(s) => s.write_all(message),
            Self::Udp(s) => s.send(message).map(drop),
            Self::Tcp(s) => s.write_all(message),
        }
    }
}

/// A connection to a syslog server, made again when it breaks.
#[derive(Debug)]
pub(super) struct Syslog {
    target: Target,
    connection: Option<Connection>,
    hostname: String,
    tag: String,
}

impl Syslog {
    pub fn open(options: &BTreeMap<String, String>, facts: &LogFacts) -> io::Result<Self> {
        let target = Target::parse(options).map_err(invalid)?;
        let tag = attrs::tag(options, facts, DEFAULT_TAG).map_err(invalid)?;
        let connection = Some(Connection::open(&target.address)?);
        Ok(Self { target, connection, hostname: facts.hostname.clone(), tag })
    }

    fn message(&self, line: &Line<'_>) -> Vec<u8> {
        let severity = if line.stream == Stream::Stderr { 3 } else { 6 };
        let priority = u32::from(self.target.facility) * 8 + severity;
        let (tag, host, pid) = (&self.tag, &self.hostname, std::process::id());
        let head = match self.target.format {
            Format::Unix => format!("<{priority}>{} {tag}[{pid}]: ", stamp(line.at)),
            Format::Rfc3164 => format!("<{priority}>{} {host} {tag}[{pid}]: ", stamp(line.at)),
            Format::Rfc5424 { micros } => {
                let text = line.at.rfc3339_nano();
                let whole = text.get(..19).unwrap_or(&text);
                let fraction = line.at.unix_nanos().rem_euclid(1_000_000_000) / 1000;
                let time = if micros { format!("{whole}.{fraction:06}Z") } else { format!("{whole}Z") };
                format!("<{priority}>1 {time} {host} {tag} {pid} {tag} - ")
            }
        };
        let mut message = head.into_bytes();
        message.extend_from_slice(line.text);
        message.push(b'\n');
        message
    }
}

/// `Jan _2 15:04:05`.
fn stamp(at: Timestamp) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = at.rfc3339_nano();
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or("0");
    let month = part(5..7).parse::<usize>().unwrap_or(1).clamp(1, 12);
    let day: u32 = part(8..10).parse().unwrap_or(1);
    format!("{} {day:>2} {}", MONTHS[month - 1], part(11..19))
}

impl Driver for Syslog {
    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        if line.text.is_empty() {
            return Ok(());
        }
        let message = self.message(line);
        if let Some(connection) = &mut self.connection
            && connection.send(&message).is_ok()
        {
            return Ok(());
        }
        self.connection = None;
        let mut fresh = Connection::open(&self.target.address)?;
        fresh.send(&message)?;
        self.connection = Some(fresh);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn targets() {
        for (pairs, expected) in [
            (&[][..], Ok((Address::Local, 3, Format::Unix))),
            (
                &[("syslog-address", "udp://h"), ("syslog-facility", "local7"), ("syslog-format", "rfc5424")],
                Ok((Address::Udp("h:514".into()), 23, Format::Rfc5424 { micros: false })),
            ),
            (
                &[("syslog-address", "tcp://[::1]:99"), ("syslog-facility", "5")],
                Ok((Address::Tcp("[::1]:99".into()), 5, Format::Unix)),
            ),
            (&[("syslog-address", "foo://h")], Err("unsupported scheme: 'foo'")),
            (
                &[("syslog-address", "unix:///nonexistent")],
                Err("stat /nonexistent: no such file or directory"),
            ),
            (&[("syslog-facility", "24")], Err("invalid syslog facility")),
            (&[("syslog-format", "x")], Err("Invalid syslog format")),
        ] {
            let got = Target::parse(&options(pairs));
            let got = got.map(|t| (t.address, t.facility, t.format)).map_err(|e| e.to_string());
            assert_eq!(got, expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn messages_reach_udp_and_unix_servers_in_each_format() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let unix = UnixDatagram::bind(&path).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = Timestamp::from_unix(1_700_000_000, 1_500_000).unwrap();
        let line = Line { stream: Stream::Stderr, at, text: b"hi", part: None };
        let facts = LogFacts { hostname: "box".into(), ..LogFacts::default() };
        let mut buffer = [0; 512];
        let pid = std::process::id();

        let to = format!("udp://{}", udp.local_addr().unwrap());
        let opts = options(&[("syslog-address", &to), ("tag", "t"), ("syslog-format", "rfc5424micro")]);
        Syslog::open(&opts, &facts).unwrap().line(&line).unwrap();
        let n = udp.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
        assert_eq!(text, format!("<27>1 2023-11-14T22:13:20.001500Z box t {pid} t - hi\n"));

        let to = format!("unix://{}", path.display());
        let opts = options(&[("syslog-address", &to), ("tag", "t")]);
        Syslog::open(&opts, &facts).unwrap().line(&line).unwrap();
        let n = unix.recv(&mut buffer).unwrap();
        assert_eq!(String::from_utf8_lossy(&buffer[..n]), format!("<27>Nov 14 22:13:20 t[{pid}]: hi\n"));
    }
}
