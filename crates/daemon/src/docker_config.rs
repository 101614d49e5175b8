//! Docker's `daemon.json`: the keys that mean something here are taken over, the others are named, so that a
//! host moves to Weft by changing one unit file.

use std::{net::IpAddr, path::Path};

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde_json::Value;
use weft_model::{CgroupNs, IpcMode, PublishPolicy};

use crate::{
    config::{Config, ConfigError, DefaultUlimit},
    docker_inert::{self, Inert},
};

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
    agree(config)?;
    name_idle(config);
    secure(config)
}

/// What may not be said together.
fn agree(config: &Config) -> Result<(), ConfigError> {
    let network = &config.network;
    if network.bridge.is_some() && (network.bip.is_some() || network.bip6.is_some()) {
        // dockerd's words.
        let why = "You specified -b & --bip, mutually exclusive options. Please specify only one";
        return Err(ConfigError::Value { key: "bridge".into(), why: why.into() });
    }
    let address = |net: Option<IpNet>| net.map(|net| net.addr());
    for (key, written, v4) in [
        ("bip", address(network.bip), true),
        ("bip6", address(network.bip6), false),
        ("fixed-cidr", address(network.fixed_cidr), true),
        ("fixed-cidr-v6", address(network.fixed_cidr_v6), false),
        ("default-gateway", network.gateway, true),
        ("default-gateway-v6", network.gateway_v6, false),
    ] {
        if written.is_some_and(|ip| ip.is_ipv4() != v4) {
            let why = match key {
                // dockerd's words.
                "bip" => "bridge has no IPv4 address configured".to_owned(),
                _ => format!("an IPv{} address is expected", if v4 { 4 } else { 6 }),
            };
            return Err(ConfigError::Value { key: key.into(), why });
        }
    }
    Ok(())
}

/// What is said of a family that the default bridge does not have: nothing comes of it, as with dockerd.
fn name_idle(config: &mut Config) {
    let network = &config.network;
    let said = [
        ("bip6", network.bip6.is_some()),
        ("fixed-cidr-v6", network.fixed_cidr_v6.is_some()),
        ("default-gateway-v6", network.gateway_v6.is_some()),
    ];
    for (key, _) in said.into_iter().filter(|(_, said)| *said && !network.ipv6) {
        config.ignored.push((key.to_owned(), "the default bridge has no IPv6 without \"ipv6\": true"));
    }
}

fn take<T: DeserializeOwned>(key: &str, value: &Value) -> Result<T, ConfigError> {
    T::deserialize(value).map_err(|e| ConfigError::Value { key: key.to_owned(), why: e.to_string() })
}

fn one(config: &mut Config, key: &str, value: &Value) -> Result<(), ConfigError> {
    match key {
        "debug" => config.debug = take(key, value)?,
        "log-level" => {
            let levels = ["debug", "info", "warn", "error"].map(|level| (level, level));
            let known = [&levels[..], &[("fatal", "error")]].concat();
            let level = choice(key, value, &known)?;
            config.debug |= level == "debug";
            config.log_level = if level == "debug" { "info" } else { level };
        }
        "log-format" => config.log_json = choice(key, value, &[("text", false), ("json", true)])?,
        "data-root" | "graph" => config.root = take(key, value)?,
        "hosts" => hosts(config, &take::<Vec<String>>(key, value)?)?,
        "labels" => config.labels = take(key, value)?,
        "group" => config.group = Some(take::<String>(key, value)?).filter(|g| !g.is_empty()),
        "metrics-addr" => config.add_listener(&format!("metrics=http://{}", take::<String>(key, value)?))?,
        "live-restore" => config.stop_containers = !take::<bool>(key, value)?,
        "shutdown-timeout" => config.shutdown_timeout = take(key, value)?,
        "registry-mirrors" => config.registry.mirrors = take(key, value)?,
        "insecure-registries" => config.registry.insecure = take(key, value)?,
        "max-concurrent-downloads" => config.registry.downloads = take::<usize>(key, value)?.max(1),
        "max-concurrent-uploads" => config.registry.uploads = take::<usize>(key, value)?.max(1),
        "max-download-attempts" => config.registry.attempts = take::<u32>(key, value)?.max(1),
        "tls" => config.tls.on |= take::<bool>(key, value)?,
        "tlsverify" => {
            config.tls.verify = take(key, value)?;
            config.tls.on |= config.tls.verify;
        }
        "tlscacert" => config.tls.ca = take(key, value)?,
        "tlscert" => config.tls.cert = take(key, value)?,
        "tlskey" => config.tls.key = take(key, value)?,
        _ if network(config, key, value)?
            || containers(config, key, value)?
            || proxy(config, key, value)? => {}
        _ => {
            return match docker_inert::judge(key, value) {
                Inert::As => Ok(()),
                Inert::Named(why) => {
                    config.ignored.push((key.to_owned(), why));
                    Ok(())
                }
                Inert::Refused(why) => Err(ConfigError::Value { key: key.to_owned(), why: why.into() }),
            };
        }
    }
    Ok(())
}

/// Docker's listeners become listeners of the docker face. Clear-text TCP stays refused unless the address
/// itself says `?tls=off`.
fn hosts(config: &mut Config, hosts: &[String]) -> Result<(), ConfigError> {
    for host in hosts {
        if host.starts_with("fd://") {
            config.wants_passed = true;
            continue;
        }
        config.add_listener(&format!("docker={host}"))?;
    }
    Ok(())
}

/// Docker listeners on TCP get the certificates that the file names.
fn secure(config: &mut Config) -> Result<(), ConfigError> {
    let tls = config.tls.clone();
    if !tls.on {
        return Ok(());
    }
    let tcp = config.listen.iter_mut().filter(|(face, _)| face == "docker");
    for (_, uri) in tcp {
        let Some(address) = uri.strip_prefix("tcp://").filter(|rest| !rest.contains('?')) else { continue };
        let needed = [("tlscert", &tls.cert), ("tlskey", &tls.key)];
        let ca = tls.verify.then_some(("tlscacert", &tls.ca));
        if let Some((key, _)) = needed.into_iter().chain(ca).find(|(_, path)| path.as_os_str().is_empty()) {
            return Err(ConfigError::Value {
                key: key.into(),
                why: format!("a file is needed for tcp://{address}"),
            });
        }
        let ca = ca.map(|(_, ca)| format!("&ca={}", ca.display())).unwrap_or_default();
        *uri = format!("tls://{address}?cert={}&key={}{ca}", tls.cert.display(), tls.key.display());
    }
    Ok(())
}

fn proxy(config: &mut Config, key: &str, value: &Value) -> Result<bool, ConfigError> {
    if key == "proxies" {
        let inner: std::collections::BTreeMap<String, Value> = take(key, value)?;
        for (name, value) in &inner {
            if !proxy(config, name, value)? {
                let why = "http-proxy, https-proxy and no-proxy are known";
                return Err(ConfigError::Value { key: format!("proxies.{name}"), why: why.into() });
            }
        }
        return Ok(true);
    }
    let proxies = &mut config.registry.proxies;
    match key {
        "http-proxy" => proxies.http = take(key, value)?,
        "https-proxy" => proxies.https = take(key, value)?,
        "no-proxy" => proxies.none = take(key, value)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn network(config: &mut Config, key: &str, value: &Value) -> Result<bool, ConfigError> {
    let network = &mut config.network;
    match key {
        "bip" => network.bip = optional(key, value)?,
        "fixed-cidr" => network.fixed_cidr = optional(key, value)?,
        "fixed-cidr-v6" => network.fixed_cidr_v6 = optional(key, value)?,
        "default-address-pools" => network.pools = pools(key, value)?,
        "mtu" => network.mtu = mtu(key, value)?,
        "icc" => network.icc = take(key, value)?,
        "ip-masq" => network.ip_masq = take(key, value)?,
        "ipv6" => network.ipv6 = take(key, value)?,
        "ip" => network.publish_ip = optional(key, value)?,
        "host-gateway-ip" => network.host_gateway = vec![take::<IpAddr>(key, value)?],
        "host-gateway-ips" => network.host_gateway = take(key, value)?,
        "default-network-opts" => {
            network.options = take(key, value)?;
            weft_api_docker::check_network_options(&network.options)
                .map_err(|why| ConfigError::Value { key: key.to_owned(), why })?;
        }
        // Weft's own, under both of its spellings: who reaches published ports.
        "publish-policy" | "publish.policy" => network.publish_policy = choice(key, value, &policies())?,
        "publish" => {
            let inner: std::collections::BTreeMap<String, Value> = take(key, value)?;
            for (name, value) in &inner {
                let key = format!("publish.{name}");
                if name != "policy" {
                    return Err(ConfigError::Value { key, why: "policy is known".into() });
                }
                network.publish_policy = choice(&key, value, &policies())?;
            }
        }
        "bip6" => network.bip6 = optional(key, value)?,
        "default-gateway" => network.gateway = optional(key, value)?,
        "default-gateway-v6" => network.gateway_v6 = optional(key, value)?,
        "ip-forward" => network.ip_forward = take(key, value)?,
        "bridge" => match take::<String>(key, value)?.as_str() {
            "none" => network.default_bridge = false,
            name => network.bridge = Some(name.to_owned()).filter(|n| !n.is_empty() && n != "docker0"),
        },
        _ => return Ok(false),
    }
    Ok(true)
}

/// As `network create -o com.docker.network.driver.mtu` has it; 0 is none.
fn mtu(key: &str, value: &Value) -> Result<Option<u32>, ConfigError> {
    match take::<u32>(key, value)? {
        0 => Ok(None),
        mtu @ 68..=65_535 => Ok(Some(mtu)),
        mtu => Err(ConfigError::Value {
            key: key.to_owned(),
            why: format!("invalid MTU {mtu}: 68 to 65535 are possible"),
        }),
    }
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
        "dns" => {
            defaults.dns = take(key, value)?;
            if let Some(bad) = defaults.dns.iter().find(|ip| ip.parse::<IpAddr>().is_err()) {
                return Err(ConfigError::Value {
                    key: key.to_owned(),
                    why: format!("{bad} is not an ip address"),
                });
            }
        }
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
        "default-cgroupns-mode" => {
            defaults.cgroup =
                choice(key, value, &[("private", CgroupNs::Private), ("host", CgroupNs::Host)])?;
        }
        "default-ipc-mode" => {
            let known = [("private", IpcMode::Private), ("shareable", IpcMode::Shareable)];
            defaults.ipc = choice(key, value, &known)?;
        }
        "seccomp-profile" => {
            let text: String = take(key, value)?;
            defaults.seccomp = Some(text).filter(|t| !t.is_empty() && t != "builtin");
        }
        "userns-remap" => defaults.userns_remap = Some(take::<String>(key, value)?).filter(|s| !s.is_empty()),
        _ => return Ok(false),
    }
    Ok(true)
}

fn policies() -> [(&'static str, PublishPolicy); 3] {
    PublishPolicy::ALL.map(|policy| (policy.as_str(), policy))
}

/// One of a few words.
fn choice<T: Clone>(key: &str, value: &Value, known: &[(&str, T)]) -> Result<T, ConfigError> {
    let text: String = take(key, value)?;
    let found = known.iter().find(|(word, _)| *word == text).map(|(_, meaning)| meaning.clone());
    found.ok_or_else(|| {
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        ConfigError::Value { key: key.to_owned(), why: format!("{text:?} is none of {}", words.join(", ")) }
    })
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
    fn the_policy_of_published_ports() {
        let read = |value: Value| {
            let mut config = Config::default();
            apply(&mut config, &value).map(|()| config.network.publish_policy).map_err(|e| e.to_string())
        };
        assert_eq!(read(json!({})), Ok(PublishPolicy::Open));
        assert_eq!(read(json!({"publish-policy": "host-firewall"})), Ok(PublishPolicy::HostFirewall));
        assert_eq!(read(json!({"publish.policy": "deny"})), Ok(PublishPolicy::Deny));
        assert_eq!(read(json!({"publish": {"policy": "deny"}})), Ok(PublishPolicy::Deny));
        let wrong = read(json!({"publish-policy": "shut"})).unwrap_err();
        assert_eq!(wrong, "publish-policy: \"shut\" is none of open, host-firewall, deny");
        assert!(read(json!({"publish": {"polici": "deny"}})).is_err());
    }

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
        assert_eq!(config.ignored[0].0, "storage-driver");
        assert!(config.wants_passed);

        let named = |value: Value| {
            let mut config = Config::default();
            apply(&mut config, &value).unwrap();
            config.ignored.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert_eq!(named(json!({"fixed-cidr-v6": "fd00::/64"})), ["fixed-cidr-v6"]);
        assert!(named(json!({"fixed-cidr-v6": "fd00::/64", "ipv6": true})).is_empty());
    }

    #[test]
    fn tls_and_metrics_become_listeners() {
        let mut config = Config::default();
        let value = json!({
            "hosts": ["unix:///s", "tcp://0.0.0.0:2376"], "metrics-addr": "127.0.0.1:9323", "tlsverify": true,
            "tlscacert": "/ca", "tlscert": "/c", "tlskey": "/k", "live-restore": false, "bridge": "br0",
            "proxies": {"https-proxy": "http://p:1", "no-proxy": "a,b"}, "group": "docker",
            "default-ipc-mode": "shareable", "default-cgroupns-mode": "host", "max-download-attempts": 2
        });
        apply(&mut config, &value).unwrap();
        let listen: Vec<String> = config.listen.iter().map(|(f, u)| format!("{f}={u}")).collect();
        assert_eq!(listen[..2], ["docker=unix:///s", "docker=tls://0.0.0.0:2376?cert=/c&key=/k&ca=/ca"]);
        assert_eq!(listen[2], "metrics=http://127.0.0.1:9323");
        let ignored: Vec<&str> = config.ignored.iter().map(|(key, _)| key.as_str()).collect();
        assert!(ignored.is_empty(), "{ignored:?}");
        assert_eq!(config.network.bridge.as_deref(), Some("br0"));
        assert!(config.stop_containers);
        assert_eq!((config.defaults.ipc, config.defaults.cgroup), (IpcMode::Shareable, CgroupNs::Host));
        assert_eq!((config.registry.proxies.https.as_str(), config.registry.attempts), ("http://p:1", 2));
        assert_eq!(config.group.as_deref(), Some("docker"));
    }

    #[test]
    fn wrong_values_name_their_key() {
        for (value, key) in [
            (json!({"bip": "x"}), "bip"),
            (json!({"bip": "10.0.0.1/24", "bridge": "br0"}), "bridge"),
            (json!({"default-gateway": "fd00::1"}), "default-gateway"),
            (json!({"bip": "fd00::1/64"}), "bip: bridge has no IPv4 address configured"),
            (json!({"ipv6": true, "bip6": "10.0.0.1/24"}), "bip6"),
            (json!({"fixed-cidr": "fd00::/64"}), "fixed-cidr"),
            (json!({"ipv6": true, "fixed-cidr-v6": "10.0.0.0/24"}), "fixed-cidr-v6"),
            (json!({"live-restore": "no"}), "live-restore"),
            (json!({"shutdown-timeout": "1"}), "shutdown-timeout"),
            (json!({"log-level": "loud"}), "log-level"),
            (json!({"log-format": "xml"}), "log-format"),
            (json!({"iptables": false}), "iptables"),
            (json!({"authorization-plugins": ["x"]}), "authorization-plugins"),
            (json!({"exec-opts": ["native.x=y"]}), "exec-opts"),
            (json!({"default-network-opts": {"bridge": "x"}}), "default-network-opts"),
            (
                json!({"default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "x"}}}),
                "default-network-opts: failed to parse com.docker.network.driver.mtu value: x",
            ),
            (json!({"no-such-key": 1}), "no-such-key"),
            (
                json!({"default-address-pools": [{"base": "10.0.0.0/24", "size": 16}]}),
                "default-address-pools",
            ),
            (json!({"default-shm-size": "1x"}), "default-shm-size"),
            (json!({"runtimes": {"a": {}}}), "runtimes.a"),
            (json!({"default-ipc-mode": "host"}), "default-ipc-mode"),
            (json!({"hosts": ["tcp://1.2.3.4:5"], "tls": true}), "tlscert"),
        ] {
            let error = apply(&mut Config::default(), &value).unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        }
    }
}
