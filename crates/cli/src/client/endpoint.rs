//! Which daemon to talk to: `--host`, else `--run`, else `WEFT_HOST`, else `DOCKER_HOST`, else the default socket.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::failure::usage;

/// Where a daemon keeps its sockets unless told otherwise.
pub const DEFAULT_RUN: &str = "/run/weft";

/// A daemon's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// `host:port`, clear text.
    Tcp(String),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl Endpoint {
    /// Chooses by what was typed and by the environment (`env` looks a variable up).
    pub fn choose(
        host: Option<&str>,
        run: Option<&Path>,
        env: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        if let Some(host) = host {
            return Self::parse(host);
        }
        if let Some(run) = run {
            return Ok(Self::Unix(run.join("docker.sock")));
        }
        for variable in ["WEFT_HOST", "DOCKER_HOST"] {
            if let Some(value) = env(variable).filter(|v| !v.is_empty()) {
                return Self::parse(&value).map_err(|e| usage(format!("{variable}: {e}")));
            }
        }
        Ok(Self::Unix(Path::new(DEFAULT_RUN).join("docker.sock")))
    }

    /// Reads `unix:///path`, `tcp://host:port`, `http://host:port`.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None if text.starts_with('/') => ("unix", text),
            None => ("tcp", text),
        };
        let rest = rest.split('?').next().unwrap_or(rest).trim_end_matches('/');
        match scheme {
            "unix" if rest.is_empty() => Err(usage(format!("{text:?} names no socket"))),
            "unix" => Ok(Self::Unix(rest.into())),
            "tcp" | "http" if rest.is_empty() => Err(usage(format!("{text:?} names no host"))),
            "tcp" | "http" if rest.contains('/') => {
                Err(usage(format!("{text:?}: a path is not possible here")))
            }
            "tcp" | "http" => Ok(Self::Tcp(with_port(rest))),
            "tls" | "https" => Err(usage(format!(
                "{text:?}: this client speaks no TLS yet; use the unix socket, or tcp:// through an SSH tunnel"
            ))),
            _ => Err(usage(format!("{text:?}: unix:///path or tcp://host:port is expected"))),
        }
    }

    /// The daemon's run directory, if its socket is a file: where the socket lies.
    #[must_use]
    pub fn run_dir(&self) -> Option<PathBuf> {
        match self {
            Self::Unix(path) => path.parent().map(Path::to_owned),
            Self::Tcp(_) => None,
        }
    }
}

fn with_port(host: &str) -> String {
    let after_bracket = host.rsplit(']').next().unwrap_or(host);
    if after_bracket.contains(':') { host.to_owned() } else { format!("{host}:2375") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused() {
        for (text, expected) in [
            ("unix:///a/b.sock", "unix:///a/b.sock"),
            ("/a/b.sock", "unix:///a/b.sock"),
            ("tcp://h:1", "tcp://h:1"),
            ("tcp://h:1?tls=off", "tcp://h:1"),
            ("http://h:1/", "tcp://h:1"),
            ("tcp://h", "tcp://h:2375"),
            ("tcp://[::1]", "tcp://[::1]:2375"),
            ("tcp://[::1]:7", "tcp://[::1]:7"),
            ("h:2", "tcp://h:2"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), expected, "{text}");
        }
        for text in ["unix://", "tcp://", "tls://h:1", "ssh://h", "tcp://h:1/x"] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_typed_comes_before_the_environment() {
        let env = |name: &str| match name {
            "WEFT_HOST" => Some("unix:///w".to_owned()),
            "DOCKER_HOST" => Some("unix:///d".to_owned()),
            _ => None,
        };
        let docker = |name: &str| if name == "WEFT_HOST" { Some(String::new()) } else { env(name) };
        let run = Some(Path::new("/r"));
        let text = |e: anyhow::Result<Endpoint>| e.unwrap().to_string();
        assert_eq!(text(Endpoint::choose(Some("unix:///h"), run, env)), "unix:///h");
        assert_eq!(text(Endpoint::choose(None, run, env)), "unix:///r/docker.sock");
        assert_eq!(text(Endpoint::choose(None, None, env)), "unix:///w");
        assert_eq!(text(Endpoint::choose(None, None, docker)), "unix:///d");
        assert_eq!(text(Endpoint::choose(None, None, |_| None)), "unix:///run/weft/docker.sock");
    }
}
