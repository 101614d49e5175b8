//! What a request to create a container means in the API version it speaks (moby `postContainersCreate`).
//!
//! The body is brought to what the newest version would say, before it is parsed: fields that did not exist are ignored or
//! refused, defaults that changed are filled in. Each gate is one line of [`gate`], oldest first.

use super::wire::{CreateBody, EndpointSettings, Mount};
use crate::{
    ApiVersion,
    error::{ApiError, Result},
};

/// What the daemon's host is, as far as defaults hang on it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HostKind {
    /// Version 2 of cgroups.
    pub unified: bool,
}

/// Brings `body` to the newest version; answers warnings for the client.
pub(super) fn gate(body: &mut CreateBody, version: ApiVersion, kind: HostKind) -> Result<Vec<String>> {
    let before = |minor| version < ApiVersion::v1(minor);
    let refuse = |text: &str| Err(ApiError::bad_request(text.to_owned()));
    default_network(body);
    if before(25) {
        body.host_config.auto_remove = false;
    }
    if before(40) {
        body.host_config.resources.kernel_memory_tcp = 0;
        body.host_config.resources.pids_limit = None;
        each_mount(body, |m| m.bind_options.iter_mut().for_each(|o| o.non_recursive = false));
        fill(&mut body.host_config.ipc_mode, "shareable");
    }
    if before(41) && !kind.unified {
        fill(&mut body.host_config.cgroupns_mode, "host");
    }
    if before(42) {
        each_mount(body, unvalidated);
        body.host_config.console_size = [0, 0];
    } else {
        body.host_config.resources.kernel_memory = 0;
        body.host_config.mounts.iter().try_for_each(foreign_options)?;
    }
    if before(43) {
        body.host_config.annotations.clear();
    }
    if before(44) {
        body.config.healthcheck.iter_mut().for_each(|h| h.start_interval = 0);
        if body.host_config.mounts.iter().any(forces) {
            return refuse("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer");
        }
        // All read-only mounts were so at the top alone.
        each_mount(body, |m| {
            if m.kind == "bind" && m.read_only {
                m.bind_options.get_or_insert_default().read_only_non_recursive = true;
            }
        });
        let endpoints = &body.networking_config.endpoints_config;
        if endpoints.len() > 1 {
            let names: Vec<&str> = endpoints.keys().map(String::as_str).collect();
            return refuse(&format!(
                "Container cannot be created with multiple network endpoints: {}",
                names.join(", ")
            ));
        }
    }
    if before(45) && body.host_config.mounts.iter().any(has_subpath) {
        return refuse("VolumeOptions.Subpath needs API v1.45 or newer");
    }
    if before(48) {
        body.networking_config.endpoints_config.values_mut().for_each(|e| e.gw_priority = None);
        if body.host_config.mounts.iter().any(|m| m.kind == "image") {
            return refuse("Mount type \"Image\" needs API v1.48 or newer");
        }
    }
    let mut warnings = Vec::new();
    warnings.extend(volume_driver(body, version));
    warnings.extend(mac_address(body, version)?);
    warnings.extend(interface_sysctls(body, version)?);
    if body.host_config.resources.pids_limit.is_some_and(|limit| limit <= 0) {
        body.host_config.resources.pids_limit = None;
    }
    Ok(warnings)
}

fn fill(field: &mut String, value: &str) {
    if field.is_empty() {
        value.clone_into(field);
    }
}

fn each_mount(body: &mut CreateBody, change: impl FnMut(&mut Mount)) {
    body.host_config.mounts.iter_mut().for_each(change);
}

/// `default` as the name of an endpoint means the network of the mode.
fn default_network(body: &mut CreateBody) {
    if !matches!(body.host_config.network_mode.as_str(), "" | "default") {
        return;
    }
    let endpoints = &mut body.networking_config.endpoints_config;
    if let Some(wishes) = endpoints.remove("default") {
        endpoints.insert("bridge".into(), wishes);
    }
}

/// Before 1.42 `CreateMountpoint` was unknown, and options of another kind of mount were not looked at.
fn unvalidated(mount: &mut Mount) {
    mount.bind_options.iter_mut().for_each(|o| o.create_mountpoint = false);
    if mount.kind != "volume" {
        mount.volume_options = None;
    }
    if mount.kind != "tmpfs" {
        mount.tmpfs_options = None;
    }
}

fn foreign_options(mount: &Mount) -> Result<()> {
    let given = [
        ("VolumeOptions", "volume", mount.volume_options.is_some()),
        ("BindOptions", "bind", mount.bind_options.is_some()),
        ("TmpfsOptions", "tmpfs", mount.tmpfs_options.is_some()),
    ];
    match given.iter().find(|(_, kind, given)| *given && mount.kind != *kind) {
        Some((what, ..)) => {
            Err(ApiError::bad_request(format!("{what} must not be specified on mount type {:?}", mount.kind)))
        }
        None => Ok(()),
    }
}

fn forces(mount: &Mount) -> bool {
    mount.kind == "bind" && mount.bind_options.as_ref().is_some_and(|o| o.read_only_force_recursive)
}

fn has_subpath(mount: &Mount) -> bool {
    mount.volume_options.as_ref().is_some_and(|o| !o.subpath.is_empty())
}

fn volume_driver(body: &CreateBody, version: ApiVersion) -> Option<String> {
    let host = &body.host_config;
    let undriven = |m: &Mount| {
        let driver = m.volume_options.as_ref().and_then(|o| o.driver_config.as_ref());
        m.kind == "volume" && driver.is_none_or(|d| d.name.is_empty())
    };
    let ignored =
        !host.volume_driver.is_empty() && version >= ApiVersion::v1(48) && host.mounts.iter().any(undriven);
    ignored.then(|| {
        "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use \
         '--mount type=volume,volume-driver=...' instead"
            .to_owned()
    })
}

/// A network that containers are attached to, not `host`, `none` or another container's.
fn attaches(mode: &str) -> bool {
    !matches!(mode, "host" | "none") && !mode.starts_with("container:")
}

/// The endpoint that container-wide settings are meant for.
fn main_endpoint(body: &mut CreateBody, version: ApiVersion) -> Result<&mut EndpointSettings> {
    let name = match body.host_config.network_mode.as_str() {
        "" | "default" => "bridge",
        other => other,
    };
    let endpoints = &mut body.networking_config.endpoints_config;
    let key = match endpoints.keys().next() {
        None => name.to_owned(),
        // There is only one, and the old versions took it whatever its name.
        Some(first) if version < ApiVersion::v1(44) => first.clone(),
        Some(_) if endpoints.contains_key(name) => name.to_owned(),
        Some(_) => {
            return Err(ApiError::bad_request(
                "HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks"
                    .into(),
            ));
        }
    };
    Ok(endpoints.entry(key).or_default())
}

/// `Config.MacAddress` moved to the endpoints in 1.44.
fn mac_address(body: &mut CreateBody, version: ApiVersion) -> Result<Option<String>> {
    let wide = body.config.mac_address.clone();
    let attached = attaches(&body.host_config.network_mode);
    if version < ApiVersion::v1(44) {
        if wide.is_empty() {
            body.networking_config.endpoints_config.values_mut().for_each(|e| e.mac_address.clear());
        } else if attached {
            main_endpoint(body, version)?.mac_address = wide;
        } else {
            return Err(ApiError::bad_request(
                "conflicting options: mac-address and the network mode".into(),
            ));
        }
        return Ok(None);
    }
    if wide.is_empty() {
        return Ok(None);
    }
    if attached {
        let endpoint = main_endpoint(body, version)?;
        if !endpoint.mac_address.is_empty() && endpoint.mac_address != wide {
            return Err(ApiError::bad_request(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be \
                 left empty"
                    .into(),
            ));
        }
        endpoint.mac_address = wide;
    }
    body.config.mac_address.clear();
    Ok(Some(
        "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
            .into(),
    ))
}

/// `net.ipv4.conf.eth0.…` among the container's sysctls moves to its endpoint, up to 1.47.
fn interface_sysctls(body: &mut CreateBody, version: ApiVersion) -> Result<Option<String>> {
    const OPTION: &str = "com.docker.network.endpoint.sysctls";
    if !attaches(&body.host_config.network_mode) {
        return Ok(None);
    }
    let mut moved = Vec::new();
    let mut wishes = Vec::new();
    for (name, value) in &body.host_config.sysctls {
        let parts: Vec<&str> = name.splitn(5, '.').collect();
        let ["net", family, group, interface, leaf] = parts.as_slice() else { continue };
        if !interface.starts_with("eth") {
            continue;
        }
        if version > ApiVersion::v1(47) {
            return Err(ApiError::bad_request(format!(
                "interface specific sysctl setting {name:?} must be supplied using driver option '{OPTION}'"
            )));
        }
        if *interface != "eth0" {
            return Err(ApiError::bad_request(format!(
                "unable to determine network endpoint for sysctl {name}, use driver option '{OPTION}' to set \
                 per-interface sysctls"
            )));
        }
        wishes.push(format!("net.{family}.{group}.IFNAME.{leaf}={value}"));
        moved.push(name.clone());
    }
    if moved.is_empty() {
        return Ok(None);
    }
    let option = wishes.join(",");
    let warning = format!("Migrated sysctl {:?} to DriverOpts{{{OPTION:?}:{option:?}}}.", moved.join(","));
    let options = main_endpoint(body, version)?.driver_opts.get_or_insert_default();
    let all = match options.get(OPTION) {
        Some(own) => format!("{option},{own}"),
        None => option,
    };
    options.insert(OPTION.into(), all);
    moved.iter().for_each(|name| drop(body.host_config.sysctls.remove(name)));
    Ok(Some(warning))
}

#[cfg(test)]
#[path = "gates_tests.rs"]
mod tests;
