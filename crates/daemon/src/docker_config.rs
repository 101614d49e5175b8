//! Docker's `daemon.json`: the keys that mean something here are taken over, the others are named, so that a
//! host moves to Weft by changing one unit file.

use std::{net::IpAddr, path::Path};

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::{Config, ConfigError, DefaultUlimit};

/// Keys that a daemon which is not a swarm node, has no plugins and uses nftables has no use for. They are
/// accepted, and named in the log.
const MEANINGLESS: &[&str] = &[
    "allow-nondistributable-artifacts",
    "api-cors-header",
    "authorization-plugins",
    "bridge",
    "cluster-advertise",
    "cluster-store",
    "cluster-store-opts",
    "containerd",
    "containerd-namespace",
    "containerd-plugin-namespace",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "data-root-mode",
    "default-cgroupns-mode",
    "default-gateway",
    "default-gateway-v6",
    "default-ipc-mode",
    "default-network-opts",
    "exec-opts",
    "exec-root",
    "experimental",
    "features",
    "group",
    "http-proxy",
    "https-proxy",
    "ip-forward",
    "ip6tables",
    "iptables",
    "live-restore",
    "max-download-attempts",
    "metrics-addr",
    "network-control-plane-mtu",
    "no-proxy",
    "node-generic-resources",
    "oom-score-adjust",
    "pidfile",
    "proxies",
    "raw-logs",
    "seccomp-profile",
    "selinux-enabled",
    "storage-driver",
    "storage-opts",
    "swarm-default-advertise-addr",
    "tls",
    "tlscacert",
    "tlscert",
    "tlskey",
    "tlsverify",
    "userland-proxy",
    "userland-proxy-path",
];

/// Reads the file at `path` into `config`.
pub fn read(config: &mut Config, path: &Path) -> Result<(), ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    if text.trim().is_empty() {
        return Ok(());
    }
    let value: Value = serde_json::from_str(&text)
        .map_err(|e| ConfigError::Syntax { path: path.to_owned(), why: e.to_string() })?;
    apply(config, &value)
}

/// Takes over what `value` (the content of a `daemon.json`) says.
pub fn apply(config: &mut Config, value: &Value) -> Result<(), ConfigError> {
    let Some(map) = value.as_object() else {
        return Err(ConfigError::Value { key: "daemon.json".into(), why: "an object is expected".into() });
    };
    for (key, value) in map {
        one(config, key, value)?;
    }
    Ok(())
}

fn take<T: DeserializeOwned>(key: &str, value: &Value) -> Result<T, ConfigError> {
    T::deserialize(value).map_err(|e| ConfigError::Value { key: key.to_owned(), why: e.to_string() })
}

fn one(config: &mut Config, key: &str, value: &Value) -> Result<(), ConfigError> {
    match key {
        "debug" => config.debug = take(key, value)?,
        "log-level" => config.debug = take::<String>(key, value)? == "debug",
        "data-root" | "graph" => config.root = take(key, value)?,
        "hosts" => hosts(config, &take::<Vec<String>>(key, value)?)?,
        "labels" => config.labels = take(key, value)?,
        "shutdown-timeout" => config.shutdown_timeout = take(key, value)?,
        "registry-mirrors" => config.registry.mirrors = take(key, value)?,
        "insecure-registries" => config.registry.insecure = take(key, value)?,
        "max-concurrent-downloads" => config.registry.downloads = take::<usize>(key, value)?.max(1),
        "max-concurrent-uploads" => config.registry.uploads = take::<usize>(key, value)?.max(1),
        _ if network(config, key, value)? || containers(config, key, value)? => {}
        _ if MEANINGLESS.contains(&key) => config.ignored.push(key.to_owned()),
        _ => {
            let why = "unknown key; it is none of Docker's daemon.json";
            return Err(ConfigError::Value { key: key.to_owned(), why: why.into() });
        }
    }
    Ok(())
}

/// Docker's listeners become listeners of the docker face. Clear-text TCP stays refused unless the address
/// itself says `?tls=off`.
fn hosts(config: &mut Config, hosts: &[String]) -> Result<(), ConfigError> {
    for host in hosts {
        if host.starts_with("fd://") {
            continue; // Sockets of the service manager are taken over anyway.
        }
        config.add_listener(&format!("docker={host}"))?;
    }
    Ok(())
}

fn network(config: &mut Config, key: &str, value: &Value) -> Result<bool, ConfigError> {
    let network = &mut config.network;
    match key {
        "bip" => network.bip = optional(key, value)?,
        "fixed-cidr" => network.fixed_cidr = optional(key, value)?,
        "fixed-cidr-v6" => network.fixed_cidr_v6 = optional(key, value)?,
        "default-address-pools" => network.pools = pools(key, value)?,
        "mtu" => network.mtu = Some(take::<u32>(key, value)?).filter(|m| *m > 0),
        "icc" => network.icc = take(key, value)?,
        "ip-masq" => network.ip_masq = take(key, value)?,
        "ipv6" => network.ipv6 = take(key, value)?,
        "ip" => network.publish_ip = optional(key, value)?,
        "host-gateway-ip" => network.host_gateway = vec![take::<IpAddr>(key, value)?],
        "host-gateway-ips" => network.host_gateway = take(key, value)?,
        "bridge" if value == "none" => network.default_bridge = false,
        _ => return Ok(false),
    }
    Ok(true)
}

fn optional<T: std::str::FromStr<Err: std::fmt::Display>>(
    key: &str,
    value: &Value,
) -> Result<Option<T>, ConfigError> {
    let text: String = take(key, value)?;
    if text.is_empty() {
        return Ok(None);
    }
    let why = |e: T::Err| ConfigError::Value { key: key.to_owned(), why: format!("{text:?}: {e}") };
    text.parse().map(Some).map_err(why)
}

fn pools(key: &str, value: &Value) -> Result<Vec<(IpNet, u8)>, ConfigError> {
    #[derive(serde::Deserialize)]
    struct Pool {
        base: IpNet,
        size: u8,
    }
    let pools: Vec<Pool> = take(key, value)?;
    pools
        .into_iter()
        .map(|p| {
            if p.size < p.base.prefix_len() || p.size > p.base.max_prefix_len() {
                let why = format!("size {} does not fit into {}", p.size, p.base);
                return Err(ConfigError::Value { key: key.to_owned(), why });
            }
            Ok((p.base.trunc(), p.size))
        })
        .collect()
}

fn containers(config: &mut Config, key: &str, value: &Value) -> Result<bool, ConfigError> {
    let defaults = &mut config.defaults;
    match key {
        "log-driver" => defaults.log_driver = take(key, value)?,
        "log-opts" => {
            let options: std::collections::BTreeMap<String, Value> = take(key, value)?;
            let text = |v: Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
            defaults.log_opts = options.into_iter().map(|(k, v)| (k, text(v))).collect();
        }
        "dns" => defaults.dns = take(key, value)?,
        "dns-search" => defaults.dns_search = take(key, value)?,
        "dns-opts" | "dns-opt" => defaults.dns_options = take(key, value)?,
        "default-ulimits" => {
            let limits: std::collections::BTreeMap<String, DefaultUlimit> = take(key, value)?;
            defaults.ulimits = limits.into_iter().map(|(name, l)| DefaultUlimit { name, ..l }).collect();
        }
        "default-shm-size" => {
            defaults.shm_size = match value.as_i64() {
                Some(bytes) => bytes,
                None => size(key, &take::<String>(key, value)?)?,
            }
        }
        "init" => defaults.init = take(key, value)?,
        "init-path" => config.ignored.push(key.to_owned()),
        "no-new-privileges" => defaults.no_new_privileges = take(key, value)?,
        "cgroup-parent" => defaults.cgroup_parent = take(key, value)?,
        "default-runtime" => defaults.runtime = Some(take(key, value)?),
        "runtimes" => {
            let map: std::collections::BTreeMap<String, Value> = take(key, value)?;
            for (name, runtime) in map {
                let path = runtime.get("path").and_then(Value::as_str).ok_or_else(|| ConfigError::Value {
                    key: format!("runtimes.{name}"),
                    why: "a path is expected; containerd runtime types are not supported".into(),
                })?;
                defaults.runtimes.insert(name, path.into());
            }
        }
        "userns-remap" => defaults.userns_remap = Some(take::<String>(key, value)?).filter(|s| !s.is_empty()),
        _ => return Ok(false),
    }
    Ok(true)
}

/// `64M`, `1g`, `1024`.
fn size(key: &str, text: &str) -> Result<i64, ConfigError> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: i64 = match lower[digits.len()..].trim_end_matches("ib").trim_end_matches('b') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => 0,
    };
    match digits.parse::<i64>() {
        Ok(number) if factor > 0 => Ok(number.saturating_mul(factor)),
        _ => Err(ConfigError::Value { key: key.to_owned(), why: format!("invalid size: '{text}'") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn known_keys_are_taken_and_meaningless_ones_named() {
        let mut config = Config::default();
        apply(
            &mut config,
            &json!({
                "bip": "10.9.0.1/24", "default-address-pools": [{"base": "10.10.0.0/16", "size": 24}],
                "registry-mirrors": ["http://127.0.0.1:5000"], "log-opts": {"max-size": "1m", "max-file": 3},
                "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 10, "Hard": 20}},
                "default-shm-size": "64M", "hosts": ["unix:///x.sock", "fd://"], "storage-driver": "overlay2"
            }),
        )
        .unwrap();
        assert_eq!(config.network.bip.map(|b| b.to_string()).as_deref(), Some("10.9.0.1/24"));
        assert_eq!(config.network.pools, [("10.10.0.0/16".parse().unwrap(), 24)]);
        assert_eq!(config.defaults.log_opts["max-file"], "3");
        assert_eq!(config.defaults.ulimits[0].hard, 20);
        assert_eq!(config.defaults.shm_size, 64 << 20);
        assert_eq!(config.listen, [("docker".to_owned(), "unix:///x.sock".to_owned())]);
        assert_eq!(config.ignored, ["storage-driver"]);
    }

    #[test]
    fn wrong_values_name_their_key() {
        for (value, key) in [
            (json!({"bip": "x"}), "bip"),
            (json!({"no-such-key": 1}), "no-such-key"),
            (
                json!({"default-address-pools": [{"base": "10.0.0.0/24", "size": 16}]}),
                "default-address-pools",
            ),
            (json!({"default-shm-size": "1x"}), "default-shm-size"),
            (json!({"runtimes": {"a": {}}}), "runtimes.a"),
        ] {
            let error = apply(&mut Config::default(), &value).unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        }
    }
}
