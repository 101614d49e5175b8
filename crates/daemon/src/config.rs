//! Everything that can be configured, resolved once at the start.
//!
//! Sources, each overriding the one before: defaults, `--config FILE` (TOML), `--docker-config FILE`
//! (Docker's `daemon.json`), the command line.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use ipnet::IpNet;
use serde::Deserialize;
use weft_model::{CgroupNs, IpcMode, PublishPolicy};

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("reading {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not of its format.
    #[error("{path}: {why}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with its place.
        why: String,
    },
    /// A value makes no sense.
    #[error("{key}: {why}")]
    Value {
        /// The setting.
        key: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The default bridge and the pools of networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Make the default bridge at all.
    pub default_bridge: bool,
    /// Address and subnet of the default bridge.
    pub bip: Option<IpNet>,
    /// Range of automatic addresses on it.
    pub fixed_cidr: Option<IpNet>,
    /// IPv6 subnet of it.
    pub fixed_cidr_v6: Option<IpNet>,
    /// Pools that networks without a subnet take theirs from, with the size of each subnet.
    pub pools: Vec<(IpNet, u8)>,
    /// Bytes.
    pub mtu: Option<u32>,
    /// Containers on the default bridge may talk to one another.
    pub icc: bool,
    /// Address and IPv6 subnet of the default bridge.
    pub bip6: Option<IpNet>,
    /// A bridge that is there already, to be used as the default one and left as it is.
    pub bridge: Option<String>,
    /// Default route of containers on the default bridge, instead of the bridge.
    pub gateway: Option<IpAddr>,
    /// The same for IPv6.
    pub gateway_v6: Option<IpAddr>,
    /// The host is made to forward packets.
    pub ip_forward: bool,
    /// Options for networks that name none themselves, by driver.
    pub options: BTreeMap<String, BTreeMap<String, String>>,
    /// Masquerade what leaves.
    pub ip_masq: bool,
    /// IPv6 on the default bridge.
    pub ipv6: bool,
    /// Where published ports listen by default.
    pub publish_ip: Option<IpAddr>,
    /// What `host-gateway` means in `--add-host`.
    pub host_gateway: Vec<IpAddr>,
    /// Who from outside reaches published ports.
    pub publish_policy: PublishPolicy,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            default_bridge: true,
            bip: None,
            fixed_cidr: None,
            fixed_cidr_v6: None,
            bip6: None,
            bridge: None,
            gateway: None,
            gateway_v6: None,
            ip_forward: true,
            options: BTreeMap::new(),
            pools: Vec::new(),
            mtu: None,
            icc: true,
            ip_masq: true,
            ipv6: false,
            publish_ip: None,
            host_gateway: Vec::new(),
            publish_policy: PublishPolicy::default(),
        }
    }
}

/// A limit on processes given to every container that has none of its own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DefaultUlimit {
    /// Lower-case name without `RLIMIT_`.
    #[serde(default)]
    pub name: String,
    /// Soft limit.
    #[serde(default)]
    pub soft: i64,
    /// Hard limit.
    #[serde(default)]
    pub hard: i64,
}

/// What containers get when they say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerDefaults {
    /// Log driver; `json-file` when absent.
    pub log_driver: Option<String>,
    /// Its options.
    pub log_opts: BTreeMap<String, String>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// Process limits.
    pub ulimits: Vec<DefaultUlimit>,
    /// Bytes of `/dev/shm`; 0 for 64 MiB.
    pub shm_size: i64,
    /// Small init as process 1.
    pub init: bool,
    /// `no_new_privs`.
    pub no_new_privileges: bool,
    /// Parent cgroup.
    pub cgroup_parent: String,
    /// Runtime; the built-in one when absent.
    pub runtime: Option<String>,
    /// Further runtimes: name to path.
    pub runtimes: BTreeMap<String, PathBuf>,
    /// `user[:group]` or `default` whose subordinate ids containers are shifted to.
    pub userns_remap: Option<String>,
    /// Cgroup namespace where a container says nothing.
    pub cgroup: CgroupNs,
    /// IPC namespace where a container says nothing; `Private` or `Shareable`.
    pub ipc: IpcMode,
    /// The file of the seccomp profile, `unconfined`, or the built-in one when absent.
    pub seccomp: Option<String>,
}

/// How registries are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Mirrors of Docker Hub, as URLs.
    pub mirrors: Vec<String>,
    /// Registries reached over plain HTTP or with unknown certificates: `host[:port]` or a CIDR.
    pub insecure: Vec<String>,
    /// Layers downloaded at a time.
    pub downloads: usize,
    /// Layers uploaded at a time.
    pub uploads: usize,
    /// Tries of a transfer before it is given up.
    pub attempts: u32,
    /// Proxies; the environment's when nothing is said.
    pub proxies: Proxies,
}

/// Proxies on the way to registries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http`.
    pub http: String,
    /// For `https`.
    pub https: String,
    /// What is reached without one, separated by commas.
    pub none: String,
}

/// TLS in the words of `daemon.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DockerTls {
    /// `tls`, or `tlsverify`.
    pub on: bool,
    /// Clients must have a certificate.
    pub verify: bool,
    /// Authority of clients.
    pub ca: PathBuf,
    /// Ours.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The daemon's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where everything that must survive a reboot lies.
    pub root: PathBuf,
    /// Where everything else lies.
    pub run: PathBuf,
    /// This host's name.
    pub name: String,
    /// `embedded`, or an `etcd://` URI.
    pub store: String,
    /// The address that other hosts reach this one at.
    pub underlay: Option<IpAddr>,
    /// Faces and where they listen: `docker=unix:///run/weft/docker.sock`.
    pub listen: Vec<(String, String)>,
    /// Features to enable.
    pub features: Vec<String>,
    /// Log more.
    pub debug: bool,
    /// The least that is logged, where not more is: `info`, `warn` or `error`.
    pub log_level: &'static str,
    /// Log JSON objects, whatever the command line says.
    pub log_json: bool,
    /// Labels of the daemon, shown by `info`.
    pub labels: Vec<String>,
    /// Networks.
    pub network: NetworkConfig,
    /// Containers.
    pub defaults: ContainerDefaults,
    /// Registries.
    pub registry: RegistryConfig,
    /// Group of the docker face's unix sockets, by name or number; root's when absent.
    pub group: Option<String>,
    /// `fd://`: a socket of the service manager is expected.
    pub wants_passed: bool,
    /// Certificates for docker listeners on TCP that `daemon.json` names.
    pub tls: DockerTls,
    /// Containers are stopped with the daemon; they go on otherwise.
    pub stop_containers: bool,
    /// Seconds they are waited for then, if none has more patience; negative for ever.
    pub shutdown_timeout: i64,
    /// Keys of `daemon.json` that are not acted upon and why, named at the start.
    pub ignored: Vec<(String, &'static str)>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: "/var/lib/weft".into(),
            run: "/run/weft".into(),
            name: hostname(),
            store: "embedded".into(),
            underlay: None,
            listen: Vec::new(),
            features: Vec::new(),
            debug: false,
            log_level: "info",
            log_json: false,
            labels: Vec::new(),
            network: NetworkConfig::default(),
            defaults: ContainerDefaults::default(),
            registry: RegistryConfig { downloads: 3, uploads: 5, attempts: 5, ..RegistryConfig::default() },
            group: None,
            wants_passed: false,
            tls: DockerTls::default(),
            stop_containers: false,
            // dockerd's.
            shutdown_timeout: 15,
            ignored: Vec::new(),
        }
    }
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The part of the configuration that the TOML file may set, in the words of the command line.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct FileConfig {
    root: Option<PathBuf>,
    run: Option<PathBuf>,
    name: Option<String>,
    store: Option<String>,
    underlay: Option<IpAddr>,
    listen: Vec<String>,
    feature: Vec<String>,
    publish_policy: Option<PublishPolicy>,
    debug: bool,
    /// The keys of Docker's `daemon.json`, for those who want one file.
    docker: Option<serde_json::Value>,
}

impl Config {
    /// Adds what the TOML file at `path` says.
    pub fn read_toml(&mut self, path: &std::path::Path) -> Result<(), ConfigError> {
        let syntax = |why: String| ConfigError::Syntax { path: path.to_owned(), why };
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let file: FileConfig = toml::from_str(&text).map_err(|e| syntax(e.to_string()))?;
        let take = |slot: &mut String, value: Option<String>| {
            if let Some(value) = value {
                *slot = value;
            }
        };
        take(&mut self.name, file.name);
        take(&mut self.store, file.store);
        self.root = file.root.unwrap_or_else(|| std::mem::take(&mut self.root));
        self.run = file.run.unwrap_or_else(|| std::mem::take(&mut self.run));
        self.underlay = file.underlay.or(self.underlay);
        self.features.extend(file.feature);
        self.debug |= file.debug;
        self.network.publish_policy = file.publish_policy.unwrap_or(self.network.publish_policy);
        for listen in &file.listen {
            self.add_listener(listen)?;
        }
        if let Some(docker) = file.docker {
            crate::docker_config::apply(self, &docker)?;
        }
        Ok(())
    }

    /// Adds `FACE=URI`.
    pub fn add_listener(&mut self, text: &str) -> Result<(), ConfigError> {
        let (face, uri) = text.split_once('=').ok_or_else(|| ConfigError::Value {
            key: "listen".into(),
            why: format!("{text:?} is not of the form FACE=URI, such as docker=unix:///run/weft/docker.sock"),
        })?;
        self.listen.push((face.to_owned(), uri.to_owned()));
        Ok(())
    }

    /// The listeners, with the default one where none was configured.
    #[must_use]
    pub fn listeners(&self) -> Vec<(String, String)> {
        let mut all = self.listen.clone();
        if self.docker_is_default() {
            all.insert(0, ("docker".into(), format!("unix://{}", self.run.join("docker.sock").display())));
        }
        all
    }

    /// Nobody said where the docker face listens.
    #[must_use]
    pub fn docker_is_default(&self) -> bool {
        !self.listen.iter().any(|(face, _)| face == "docker")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weft.toml");
        std::fs::write(&path, text).unwrap();
        let mut config = Config::default();
        config.read_toml(&path).map(|()| config)
    }

    #[test]
    fn file_sets_what_it_names_and_refuses_what_it_does_not_know() {
        let config = read(
            "root = '/r'\nlisten = ['docker=unix:///s']\npublish-policy = 'deny'\n[docker]\nmtu = 1400\n",
        )
        .unwrap();
        assert_eq!(config.root, PathBuf::from("/r"));
        assert_eq!(config.run, PathBuf::from("/run/weft"));
        assert_eq!(config.listeners(), [("docker".to_owned(), "unix:///s".to_owned())]);
        assert_eq!(config.network.mtu, Some(1400));
        assert_eq!(config.network.publish_policy, PublishPolicy::Deny);
        for bad in [
            "rot = '/r'",
            "publish-policy = 'closed'",
            "root = ",
            "listen = ['docker']",
            "[docker]\nmtu = 'x'",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
