//! `etcd://A:2379,B:2379[/prefix][?option=value&…]`: where the cluster is and how it is entered.
//!
//! Parsing looks at the text only; [`Config::check`] looks at the files it names. Secrets are never part of the address:
//! it is shown in process lists, logs and `weft status`.

use std::{
    collections::BTreeMap,
    fmt,
    net::Ipv6Addr,
    path::{Path, PathBuf},
};

use percent_encoding::percent_decode_str;

/// The port where an endpoint names none.
const PORT: u16 = 2379;
const OPTIONS: &str = "ca, cert, key, password-file, server-name, tls, user";

/// One member's client address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How the servers' certificates are judged and who we are to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates (PEM) of the authorities that are believed; the system's when absent.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key (PEM).
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that must stand in the servers' certificates, instead of each endpoint's own.
    pub server_name: Option<String>,
}

/// A user of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The file with the password; read at each login, so that it may change. A line break at its end is not part of it.
    pub password_file: PathBuf,
}

/// A cluster and a place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The members, at least one.
    pub endpoints: Vec<Endpoint>,
    /// What stands before all keys: empty, or `/a/b` without a slash at the end.
    pub prefix: String,
    /// TLS, if it is spoken.
    pub tls: Option<Tls>,
    /// The user, if the cluster wants one.
    pub login: Option<Login>,
}

/// The address without its options.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<_> = self.endpoints.iter().map(ToString::to_string).collect();
        write!(f, "etcd://{}{}", endpoints.join(","), self.prefix)
    }
}

/// What is wrong with an address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// Not `etcd://`.
    #[error("{0:?} does not begin with etcd://")]
    Scheme(String),
    /// Nothing, or nothing between two commas.
    #[error("an endpoint is empty in {0:?}; endpoints are HOST:PORT, with commas between them")]
    EmptyEndpoint(String),
    /// A host that is none.
    #[error("{host:?} is not a host: {reason}")]
    Host {
        /// What stands there.
        host: String,
        /// Why not.
        reason: &'static str,
    },
    /// A port that is none.
    #[error("{port:?} is not a port of {host}: it must be a number from 1 to 65535")]
    Port {
        /// The host.
        host: String,
        /// What stands there.
        port: String,
    },
    /// One endpoint twice.
    #[error("the endpoint {0} is named twice")]
    Twice(Endpoint),
    /// `user:password@`.
    #[error("a login does not belong into the address: use ?user=NAME&password-file=FILE")]
    Credentials,
    /// A prefix that cannot be one.
    #[error("{prefix:?} is not a prefix of keys: {reason}")]
    Prefix {
        /// What stands there.
        prefix: String,
        /// Why not.
        reason: &'static str,
    },
    /// An option nobody knows.
    #[error("unknown option {name:?}; there are {OPTIONS}")]
    Option {
        /// Its name.
        name: String,
    },
    /// An option without a value, twice, or with a value that it does not take.
    #[error("option {name}: {reason}")]
    Value {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A file cannot be used.
    #[error("option {option}: cannot use {}: {reason}", path.display())]
    File {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl std::str::FromStr for Config {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let rest = text.strip_prefix("etcd://").ok_or_else(|| UriError::Scheme(text.to_owned()))?;
        let (place, options) = rest.split_once('?').map_or((rest, ""), |(p, o)| (p, o));
        let (members, prefix) = place.find('/').map_or((place, ""), |at| place.split_at(at));
        if members.contains('@') {
            return Err(UriError::Credentials);
        }
        let mut endpoints = Vec::new();
        for member in members.split(',') {
            if member.is_empty() {
                return Err(UriError::EmptyEndpoint(text.to_owned()));
            }
            let endpoint = endpoint(member)?;
            if endpoints.contains(&endpoint) {
                return Err(UriError::Twice(endpoint));
            }
            endpoints.push(endpoint);
        }
        let mut options = split_options(options)?;
        let tls = tls(&mut options)?;
        let login = login(&mut options)?;
        if let Some(name) = options.into_keys().next() {
            return Err(UriError::Option { name });
        }
        Ok(Self { endpoints, prefix: key_prefix(prefix)?, tls, login })
    }
}

fn endpoint(text: &str) -> Result<Endpoint, UriError> {
    let bad = |reason| UriError::Host { host: text.to_owned(), reason };
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or_else(|| bad("a bracket is not closed"))?;
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(bad("between brackets stands an IPv6 address"));
        }
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port),
            None if after.is_empty() => None,
            None => return Err(bad("after the bracket comes :PORT")),
        };
        (host, port)
    } else {
        match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(bad("an IPv6 address stands in brackets: [::1]:2379"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if host.is_empty() {
        return Err(bad("there is nothing before the port"));
    }
    let letter = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if !host.chars().all(letter) || host.starts_with(['-', '.']) {
        return Err(bad("it has letters, digits, dots and hyphens"));
    }
    let port = match port {
        None => PORT,
        Some(text) => match text.parse() {
            Ok(port) if port > 0 && !text.starts_with('+') => port,
            _ => return Err(UriError::Port { host: host.to_owned(), port: text.to_owned() }),
        },
    };
    Ok(Endpoint { host: host.to_owned(), port })
}

fn key_prefix(text: &str) -> Result<String, UriError> {
    let bad = |reason| UriError::Prefix { prefix: text.to_owned(), reason };
    let prefix = percent_decode_str(text.trim_end_matches('/'))
        .decode_utf8()
        .map_err(|_| bad("it is not UTF-8"))?
        .into_owned();
    if prefix.contains("//") {
        return Err(bad("a part of it is empty"));
    }
    if prefix.chars().any(char::is_control) {
        return Err(bad("it has control characters"));
    }
    // Keys have their own limit; the cluster takes longer ones, but people do not.
    if prefix.len() > 255 {
        return Err(bad("it has more than 255 bytes"));
    }
    Ok(prefix)
}

type Options = BTreeMap<String, String>;

fn split_options(text: &str) -> Result<Options, UriError> {
    let mut options = Options::new();
    for pair in text.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let wrong = |reason: &str| UriError::Value { name: name.to_owned(), reason: reason.to_owned() };
        if !OPTIONS.split(", ").any(|known| known == name) {
            return Err(UriError::Option { name: name.to_owned() });
        }
        if value.is_empty() {
            return Err(wrong("it has no value"));
        }
        let value = percent_decode_str(value).decode_utf8().map_err(|_| wrong("it is not UTF-8"))?;
        if options.insert(name.to_owned(), value.into_owned()).is_some() {
            return Err(wrong("it is given twice"));
        }
    }
    Ok(options)
}

fn needs(name: &str, other: &str) -> UriError {
    UriError::Value { name: name.to_owned(), reason: format!("it needs {other} beside it") }
}

fn tls(options: &mut Options) -> Result<Option<Tls>, UriError> {
    let on = match options.remove("tls").as_deref() {
        None => None,
        Some("on") => Some(true),
        Some("off") => Some(false),
        Some(other) => {
            let reason = format!("{other:?} is neither on nor off");
            return Err(UriError::Value { name: "tls".into(), reason });
        }
    };
    let ca = options.remove("ca").map(PathBuf::from);
    let identity = match (options.remove("cert"), options.remove("key")) {
        (Some(cert), Some(key)) => Some((cert.into(), key.into())),
        (None, None) => None,
        (Some(_), None) => return Err(needs("cert", "key")),
        (None, Some(_)) => return Err(needs("key", "cert")),
    };
    let server_name = options.remove("server-name");
    let tls = Tls { ca, identity, server_name };
    match (on, tls == Tls::default()) {
        (Some(true), _) | (None, false) => Ok(Some(tls)),
        (None | Some(false), true) => Ok(None),
        (Some(false), false) => {
            let reason = "off, and yet there are options of TLS".to_owned();
            Err(UriError::Value { name: "tls".into(), reason })
        }
    }
}

fn login(options: &mut Options) -> Result<Option<Login>, UriError> {
    match (options.remove("user"), options.remove("password-file")) {
        (Some(user), Some(file)) => Ok(Some(Login { user, password_file: file.into() })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(needs("user", "password-file")),
        (None, Some(_)) => Err(needs("password-file", "user")),
    }
}

impl Config {
    /// Looks at the files that the address names.
    ///
    /// # Errors
    /// [`UriError::File`]: unreadable, or not what the option wants.
    pub fn check(&self) -> Result<(), UriError> {
        if let Some(tls) = &self.tls {
            if let Some(ca) = &tls.ca {
                pem("ca", ca, "CERTIFICATE-----")?;
            }
            if let Some((cert, key)) = &tls.identity {
                pem("cert", cert, "CERTIFICATE-----")?;
                pem("key", key, "PRIVATE KEY-----")?;
            }
        }
        if let Some(login) = &self.login {
            login.password()?;
        }
        Ok(())
    }
}

impl Login {
    /// The password as the file has it now.
    pub(crate) fn password(&self) -> Result<String, UriError> {
        let text = read("password-file", &self.password_file)?;
        let password = text.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            return Err(unusable("password-file", &self.password_file, "it is empty"));
        }
        Ok(password.to_owned())
    }
}

/// A PEM file with at least one block of the kind that is wanted.
pub(crate) fn pem(option: &'static str, path: &Path, wanted: &str) -> Result<String, UriError> {
    let text = read(option, path)?;
    let begins = |line: &str| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(wanted);
    if text.lines().any(begins) {
        return Ok(text);
    }
    let what = if wanted.contains("KEY") {
        "there is no private key in it (PEM)"
    } else {
        "there is no certificate in it (PEM)"
    };
    Err(unusable(option, path, what))
}

fn read(option: &'static str, path: &Path) -> Result<String, UriError> {
    std::fs::read_to_string(path).map_err(|e| unusable(option, path, &e.to_string()))
}

fn unusable(option: &'static str, path: &Path, reason: &str) -> UriError {
    UriError::File { option, path: path.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Config {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    fn refused(text: &str) -> String {
        match text.parse::<Config>() {
            Ok(config) => panic!("{text} was taken as {config:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn addresses_that_are_right() {
        let shown = [
            ("etcd://a:2379", "etcd://a:2379"),
            ("etcd://a", "etcd://a:2379"),
            ("etcd://a/", "etcd://a:2379"),
            ("etcd://a:1,b:65535/weft/prod/", "etcd://a:1,b:65535/weft/prod"),
            ("etcd://10.0.0.1:2379,[::1]:2380,[fe80::1]", "etcd://10.0.0.1:2379,[::1]:2380,[fe80::1]:2379"),
            ("etcd://a/x%20y?tls=off", "etcd://a:2379/x y"),
            ("etcd://a?ca=/c%26d&user=u&password-file=/p", "etcd://a:2379"),
        ];
        for (text, expected) in shown {
            assert_eq!(parsed(text).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn options_are_read() {
        let config = parsed("etcd://a?ca=/c%26d&cert=/e&key=/k&server-name=n&user=u&password-file=/p");
        let tls = Tls {
            ca: Some("/c&d".into()),
            identity: Some(("/e".into(), "/k".into())),
            server_name: Some("n".into()),
        };
        assert_eq!(config.tls, Some(tls));
        assert_eq!(config.login, Some(Login { user: "u".into(), password_file: "/p".into() }));
        assert_eq!(parsed("etcd://a?tls=on").tls, Some(Tls::default()));
        assert_eq!(parsed("etcd://a").tls, None);
    }

    #[test]
    fn each_mistake_has_its_own_words() {
        let cases = [
            ("http://a:2379", "does not begin with etcd://"),
            ("etcd:a", "does not begin with etcd://"),
            ("etcd://", "an endpoint is empty"),
            ("etcd:///prefix", "an endpoint is empty"),
            ("etcd://a:1,,b:1", "an endpoint is empty"),
            ("etcd://a:1,", "an endpoint is empty"),
            ("etcd://:2379", "nothing before the port"),
            ("etcd://a:0", "\"0\" is not a port of a"),
            ("etcd://a:65536", "\"65536\" is not a port of a"),
            ("etcd://a:+1", "\"+1\" is not a port of a"),
            ("etcd://a:", "\"\" is not a port of a"),
            ("etcd://a:x", "\"x\" is not a port of a"),
            ("etcd://::1:2379", "stands in brackets"),
            ("etcd://[::1", "a bracket is not closed"),
            ("etcd://[a]:1", "between brackets stands an IPv6 address"),
            ("etcd://[::1]2379", "after the bracket comes :PORT"),
            ("etcd://a b", "letters, digits"),
            ("etcd://a:1,a:1", "the endpoint a:1 is named twice"),
            ("etcd://a,a:2379", "the endpoint a:2379 is named twice"),
            ("etcd://u:p@a", "a login does not belong into the address"),
            ("etcd://a//b", "a part of it is empty"),
            ("etcd://a/%00", "control characters"),
            ("etcd://a/%ff", "not UTF-8"),
            ("etcd://a?password=x", "unknown option \"password\"; there are ca,"),
            ("etcd://a?ca", "option ca: it has no value"),
            ("etcd://a?ca=/x&ca=/y", "option ca: it is given twice"),
            ("etcd://a?cert=/x", "option cert: it needs key beside it"),
            ("etcd://a?key=/x", "option key: it needs cert beside it"),
            ("etcd://a?user=x", "option user: it needs password-file beside it"),
            ("etcd://a?password-file=x", "option password-file: it needs user beside it"),
            ("etcd://a?tls=yes", "option tls: \"yes\" is neither on nor off"),
            ("etcd://a?tls=off&ca=/x", "option tls: off, and yet"),
        ];
        for (text, expected) in cases {
            let told = refused(text);
            assert!(told.contains(expected), "{text}: {told}");
        }
        let long = format!("etcd://a/{}", "x".repeat(256));
        assert!(refused(&long).contains("more than 255 bytes"));
    }

    #[test]
    fn files_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let cert = file("cert", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n");
        let key = file("key", "-----BEGIN EC PRIVATE KEY-----\n-----END EC PRIVATE KEY-----\n");
        let (empty, password) = (file("empty", "\n"), file("password", "secret\n"));
        let told =
            |options: &str| parsed(&format!("etcd://a?{options}")).check().err().map(|e| e.to_string());
        assert_eq!(told(&format!("ca={cert}&cert={cert}&key={key}&user=u&password-file={password}")), None);
        let wrong = [
            (format!("ca={}/none", dir.path().display()), "No such file"),
            (format!("ca={}", dir.path().display()), "Is a directory"),
            (format!("ca={key}"), "no certificate in it"),
            (format!("cert={cert}&key={cert}"), "no private key in it"),
            (format!("user=u&password-file={empty}"), "it is empty"),
        ];
        for (options, expected) in wrong {
            let told = told(&options).unwrap_or_default();
            assert!(told.contains(expected) && told.contains("cannot use"), "{options}: {told}");
        }
        let login = parsed(&format!("etcd://a?user=u&password-file={password}")).login.unwrap();
        assert_eq!(login.password().unwrap(), "secret");
    }
}
