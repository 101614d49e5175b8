//! Where a face listens: `unix:///path`, `tcp://A:P`, `tls://A:P`, `http://A:P`, `https://A:P`.
//!
//! A listener that gives root away must have TLS; the URI says `?tls=off` where people insist.

use std::{
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use tokio::net::{TcpListener, UnixListener};

use crate::TlsFiles;

/// A parsed listening address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenUri {
    /// A Unix socket, mode 0660.
    Unix(PathBuf),
    /// A TCP socket.
    Tcp {
        /// Host and port as written; names are resolved when it is bound.
        address: String,
        /// Certificate and key; `None` for clear text.
        tls: Option<TlsFiles>,
        /// People said `?tls=off`.
        insecure: bool,
    },
}

/// Why a listener cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The text is no URI of the known forms.
    #[error("listener {uri:?}: {why}")]
    Uri {
        /// The text.
        uri: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Another process accepts on the socket.
    #[error("{0} is in use by a running daemon")]
    InUse(PathBuf),
    /// The system refused.
    #[error("listening on {on}")]
    Bind {
        /// Where.
        on: String,
        /// Why.
        source: std::io::Error,
    },
}

impl FromStr for ListenUri {
    type Err = ListenError;

    fn from_str(uri: &str) -> Result<Self, ListenError> {
        let bad = |why| ListenError::Uri { uri: uri.to_owned(), why };
        let (scheme, rest) =
            uri.split_once("://").ok_or_else(|| bad("a scheme such as unix:// is missing"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if scheme == "unix" {
            if !rest.starts_with('/') {
                return Err(bad("a Unix socket needs an absolute path: unix:///run/weft/docker.sock"));
            }
            return Ok(Self::Unix(rest.into()));
        }
        if rest.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(bad("an address and a port are expected: tcp://127.0.0.1:2375"));
        }
        let mut files = TlsFiles::default();
        let mut insecure = false;
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            match pair.split_once('=') {
                Some(("tls", "off")) => insecure = true,
                Some(("cert", path)) => files.cert = path.into(),
                Some(("key", path)) => files.key = path.into(),
                Some(("ca", path)) => files.client_ca = Some(path.into()),
                _ => return Err(bad("known parameters are tls=off, cert=, key=, ca=")),
            }
        }
        let tls = match scheme {
            "tls" | "https" => {
                if files.cert.as_os_str().is_empty() || files.key.as_os_str().is_empty() {
                    return Err(bad("TLS needs ?cert=FILE&key=FILE"));
                }
                Some(files)
            }
            "tcp" | "http" => None,
            _ => return Err(bad("the scheme must be unix, tcp, tls, http or https")),
        };
        Ok(Self::Tcp { address: rest.to_owned(), tls, insecure })
    }
}

impl ListenUri {
    /// Refuses clear text on TCP unless people said `?tls=off`; for faces that give root.
    pub fn require_tls(&self) -> Result<(), ListenError> {
        match self {
            Self::Tcp { address, tls: None, insecure: false } => Err(ListenError::Uri {
                uri: format!("tcp://{address}"),
                why: "this would give root to anyone who can connect; use tls://, or end the address in ?tls=off",
            }),
            _ => Ok(()),
        }
    }
}

/// A bound socket.
#[derive(Debug)]
pub enum Listener {
    /// Unix.
    Unix(UnixListener),
    /// TCP.
    Tcp(TcpListener),
}

impl Listener {
    /// Binds `uri`; a socket file left by a dead daemon is replaced, a live one is an error.
    pub async fn bind(uri: &ListenUri) -> Result<Self, ListenError> {
        match uri {
            ListenUri::Unix(path) => bind_unix(path).map(Self::Unix),
            ListenUri::Tcp { address, .. } => TcpListener::bind(address)
                .await
                .map(Self::Tcp)
                .map_err(|source| ListenError::Bind { on: address.clone(), source }),
        }
    }

    /// Takes over a listening stream socket that a service manager opened (sd_listen_fds(3)).
    ///
    /// # Errors
    /// It is no listening stream socket of the unix or an internet family.
    pub fn adopt(fd: std::os::fd::OwnedFd) -> std::io::Result<Self> {
        use rustix::net::{AddressFamily, SocketType, sockopt};
        let wrong = |why| Err(std::io::Error::other(why));
        if sockopt::socket_type(&fd)? != SocketType::STREAM || !sockopt::socket_acceptconn(&fd)? {
            return wrong("it is no listening stream socket");
        }
        match sockopt::socket_domain(&fd)? {
            AddressFamily::UNIX => {
                let listener = std::os::unix::net::UnixListener::from(fd);
                listener.set_nonblocking(true)?;
                UnixListener::from_std(listener).map(Self::Unix)
            }
            AddressFamily::INET | AddressFamily::INET6 => {
                let listener = std::net::TcpListener::from(fd);
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Self::Tcp)
            }
            _ => wrong("its family is neither unix nor IP"),
        }
    }

    /// The path of a unix socket.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Unix(unix) => unix.local_addr().ok()?.as_pathname().map(Path::to_owned),
            Self::Tcp(_) => None,
        }
    }

    /// Where it really listens (the port, when 0 was asked for).
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(tcp) => tcp.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

fn bind_unix(path: &Path) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Bind { on: path.display().to_string(), source };
    if let Ok(meta) = std::fs::symlink_metadata(path) {
        if !meta.file_type().is_socket() {
            return Err(failed(std::io::Error::other("a file that is no socket is in the way")));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(ListenError::InUse(path.to_owned()));
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, ok) in [
            ("unix:///a/b", true),
            ("unix://a", false),
            ("tcp://127.0.0.1:1", true),
            ("tcp://127.0.0.1", false),
            ("tcp://127.0.0.1:1?tls=off", true),
            ("tcp://127.0.0.1:1?x=y", false),
            ("tls://0.0.0.0:2376", false),
            ("tls://0.0.0.0:2376?cert=a&key=b&ca=c", true),
            ("https://[::]:1?cert=a&key=b", true),
            ("ftp://a:1", false),
            ("/a", false),
        ] {
            assert_eq!(text.parse::<ListenUri>().is_ok(), ok, "{text}");
        }
    }

    #[test]
    fn clear_text_root_needs_the_magic_words() {
        for (text, ok) in [("tcp://1.2.3.4:1", false), ("tcp://1.2.3.4:1?tls=off", true), ("unix:///x", true)]
        {
            let uri: ListenUri = text.parse().unwrap();
            assert_eq!(uri.require_tls().is_ok(), ok, "{text}");
        }
    }
}
