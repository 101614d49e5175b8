//! The host's resolver configuration (resolv.conf(5)), read again when it changes.
//!
//! Its servers are asked from the host's own namespace, so a resolver on the host's loopback is as good as any: also
//! systemd-resolved's stub (127.0.0.53), which knows the links' own domains. What stands behind the stub
//! (`/run/systemd/resolve/resolv.conf`) is asked after it, for when the stub is away.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;

use crate::{options::Options, server::Server};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Most servers that count (resolv.conf(5) has the same).
pub(crate) const MAX_SERVERS: usize = 3;
/// systemd-resolved's stub listener.
const STUB: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)), 53);
/// Whom Docker asks on a host that names no server.
const PUBLIC: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)), 53),
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(8, 8, 4, 4)), 53),
];

/// The name servers of a `resolv.conf`(5), at most three.
pub(crate) fn parse_resolv_conf(text: &str) -> Vec<Server> {
    let one = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|w| *w == "nameserver").and_then(|_| words.next())?;
        let server = Server::parse(address);
        if server.is_none() {
            tracing::warn!(
                address,
                "the host's resolv.conf names a server that has no such address; it is left out"
            );
        }
        server
    };
    text.lines().filter_map(one).take(MAX_SERVERS).collect()
}

/// What the host's file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostConfig {
    pub(crate) servers: Vec<Server>,
    pub(crate) options: Options,
}

/// The files and what was last read.
pub(crate) struct HostFile {
    main: PathBuf,
    behind_stub: PathBuf,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    looked: Option<Instant>,
    changed: [Option<SystemTime>; 2],
    config: HostConfig,
}

impl HostFile {
    pub(crate) fn new(main: PathBuf, behind_stub: PathBuf) -> Self {
        Self { main, behind_stub, known: Mutex::default() }
    }

    /// The configuration as of some seconds ago at most.
    pub(crate) fn config(&self) -> HostConfig {
        let mut known = self.known.lock();
        if known.looked.is_none_or(|at| at.elapsed() > LOOK) {
            known.looked = Some(Instant::now());
            let changed = [&self.main, &self.behind_stub]
                .map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok());
            if changed[0].is_none() || changed != known.changed {
                known.changed = changed;
                known.config = self.read();
            }
        }
        known.config.clone()
    }

    fn read(&self) -> HostConfig {
        let text = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let main = text(&self.main);
        let mut servers = parse_resolv_conf(&main);
        if servers == [Server::from(STUB)] {
            servers.extend(parse_resolv_conf(&text(&self.behind_stub)));
            servers.truncate(MAX_SERVERS);
        }
        if servers.is_empty() {
            servers = PUBLIC.map(Server::from).to_vec();
        }
        let options = main.lines().filter_map(|line| line.trim().strip_prefix("options"));
        HostConfig { servers, options: Options::parse(options.flat_map(str::split_whitespace)) }
    }

    /// Forgets when it was last looked at.
    #[cfg(test)]
    pub(crate) fn look_again(&self) {
        self.known.lock().looked = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(file: &HostFile) -> Vec<String> {
        file.config().servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_hosts_file_is_read_again_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (main, behind) = (dir.path().join("resolv.conf"), dir.path().join("behind"));
        let text = "# made by hand\nsearch a b\nnameserver 10.0.0.1 \n nameserver\tfe80::1%eth0\noptions ndots:2\n\
                    nameserver 300.1.1.1\nnameserver 10.0.0.3\nnameserver 10.0.0.4";
        std::fs::write(&main, text).unwrap();
        std::fs::write(&behind, "nameserver 10.0.0.9\n").unwrap();
        let file = HostFile::new(main.clone(), behind);
        assert_eq!(show(&file), ["10.0.0.1:53", "[fe80::1%eth0]:53", "10.0.0.3:53"]);
        assert_eq!(file.config().options.dots, Some(true));
        std::fs::remove_file(&main).unwrap();
        file.look_again();
        assert_eq!(show(&file), ["8.8.8.8:53", "8.8.4.4:53"], "as Docker, where the host names none");
        assert_eq!(file.config().options.dots, None);
        std::fs::write(&main, "nameserver 127.0.0.53\noptions edns0 trust-ad\n").unwrap();
        file.look_again();
        assert_eq!(show(&file), ["127.0.0.53:53", "10.0.0.9:53"], "the stub, and what is behind it");
        std::fs::write(&main, "nameserver 127.0.0.1\n").unwrap();
        file.look_again();
        assert_eq!(show(&file), ["127.0.0.1:53"]);
    }
}
