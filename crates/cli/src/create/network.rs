//! `--network` with the flags that belong to a container's first network.

use serde_json::{Map, Value, json};

use super::flags::NetworkFlags;
use crate::failure::usage;

/// The network mode, and an endpoint's settings for each network that has any.
pub fn networks(flags: &NetworkFlags) -> anyhow::Result<(String, Map<String, Value>)> {
    let mut mode = String::new();
    let mut endpoints = Map::new();
    for (n, text) in flags.network.iter().enumerate() {
        let (name, mut settings) = one(text)?;
        if n == 0 {
            first(flags, &name, &mut settings)?;
            mode.clone_from(&name);
        }
        if endpoints.contains_key(&name) {
            return Err(usage(format!("network {name:?} is specified multiple times")));
        }
        if n > 0 || !settings.is_empty() || flags.network.len() > 1 {
            endpoints.insert(name, Value::Object(settings));
        }
    }
    if flags.network.is_empty() {
        let mut settings = Map::new();
        first(flags, "default", &mut settings)?;
        if !settings.is_empty() {
            endpoints.insert("default".into(), Value::Object(settings));
        }
    }
    Ok((mode, endpoints))
}

/// The flags that have no network of their own belong to the first.
fn first(flags: &NetworkFlags, name: &str, settings: &mut Map<String, Value>) -> anyhow::Result<()> {
    let user_defined =
        !["", "default", "bridge", "host", "none"].contains(&name) && !name.starts_with("container:");
    if !flags.network_alias.is_empty() && !user_defined {
        return Err(usage("network-scoped aliases are only supported for user-defined networks"));
    }
    if !flags.network_alias.is_empty() {
        settings.insert("Aliases".into(), json!(flags.network_alias));
    }
    if user_defined && !flags.link.is_empty() {
        settings.insert("Links".into(), json!(flags.link));
    }
    let mut address = |key: &str, value: Value| {
        settings.entry("IPAMConfig").or_insert_with(|| json!({}))[key] = value;
    };
    if let Some(ip) = &flags.ip {
        address("IPv4Address", json!(ip));
    }
    if let Some(ip) = &flags.ip6 {
        address("IPv6Address", json!(ip));
    }
    if !flags.link_local_ip.is_empty() {
        address("LinkLocalIPs", json!(flags.link_local_ip));
    }
    if let Some(mac) = &flags.mac_address {
        settings.insert("MacAddress".into(), json!(mac));
    }
    Ok(())
}

/// `NAME`, or `name=NAME,alias=A,ip=…`.
fn one(text: &str) -> anyhow::Result<(String, Map<String, Value>)> {
    let mut settings = Map::new();
    if !text.contains('=') {
        return Ok((text.to_owned(), settings));
    }
    let mut name = String::new();
    for part in text.split(',') {
        let (key, value) =
            part.split_once('=').ok_or_else(|| usage(format!("invalid field {part:?} in {text:?}")))?;
        match key {
            "name" => value.clone_into(&mut name),
            "alias" => push(&mut settings, "Aliases", value),
            "link" => push(&mut settings, "Links", value),
            "ip" => settings.entry("IPAMConfig").or_insert_with(|| json!({}))["IPv4Address"] = json!(value),
            "ip6" => settings.entry("IPAMConfig").or_insert_with(|| json!({}))["IPv6Address"] = json!(value),
            "mac-address" => drop(settings.insert("MacAddress".into(), json!(value))),
            "driver-opt" => {
                let (k, v) = value
                    .split_once('=')
                    .ok_or_else(|| usage("invalid key value pair format in driver options"))?;
                settings.entry("DriverOpts").or_insert_with(|| json!({}))[k] = json!(v);
            }
            "gw-priority" => {
                let priority: i64 =
                    value.parse().map_err(|_| usage(format!("invalid gw-priority: {value}")))?;
                settings.insert("GwPriority".into(), json!(priority));
            }
            _ => return Err(usage(format!("invalid field key {key} in {text:?}"))),
        }
    }
    if name.is_empty() { Err(usage(format!("{text:?} names no network"))) } else { Ok((name, settings)) }
}

fn push(settings: &mut Map<String, Value>, key: &str, value: &str) {
    if let Some(list) = settings.entry(key).or_insert_with(|| json!([])).as_array_mut() {
        list.push(json!(value));
    }
}
