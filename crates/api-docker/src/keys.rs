//! Field names without regard to case, as Go's decoder takes them: dockerd accepts `{"image": "x"}`.
//!
//! A key that is written otherwise than the upstream document writes it gets the document's spelling before the body is
//! read. Keys that are people's own (labels, options, ports, …) are left alone. No two fields of request bodies differ in case
//! only, so one table serves all.

use serde_json::{Map, Value};

/// Fields of request bodies (Docker Engine API 1.24 to 1.51), ordered without regard to case.
#[rustfmt::skip]
const KNOWN: &[&str] = &[
    "Aliases", "Annotations", "ArgsEscaped", "Attachable", "AttachStderr", "AttachStdin",
    "AttachStdout", "AutoRemove", "AuxiliaryAddresses", "BindOptions", "Binds", "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps", "BlkioDeviceWriteBps", "BlkioDeviceWriteIOps", "BlkioWeight",
    "BlkioWeightDevice", "Capabilities", "CapAdd", "CapDrop", "Cgroup", "CgroupnsMode", "CgroupParent",
    "CgroupPermissions", "Cmd", "Config", "ConfigFrom", "ConfigOnly", "Consistency", "ConsoleSize",
    "Container", "ContainerIDFile", "Count", "CpuCount", "CpuPercent", "CpuPeriod", "CpuQuota",
    "CpuRealtimePeriod", "CpuRealtimeRuntime", "CpusetCpus", "CpusetMems", "CpuShares",
    "CreateMountpoint", "Detach", "DetachKeys", "DeviceCgroupRules", "DeviceIDs", "DeviceRequests",
    "Devices", "Dns", "DNSNames", "DnsOptions", "DnsSearch", "Domainname", "Driver", "DriverConfig",
    "DriverOpts", "EnableIPv4", "EnableIPv6", "EndpointConfig", "EndpointID", "EndpointsConfig",
    "Entrypoint", "Env", "ExposedPorts", "ExtraHosts", "Force", "Gateway", "GlobalIPv6Address",
    "GlobalIPv6PrefixLen", "GroupAdd", "GwPriority", "Hard", "Healthcheck", "HostConfig", "HostIp",
    "Hostname", "HostPort", "Image", "ImageOptions", "Ingress", "Init", "Internal", "Interval",
    "IOMaximumBandwidth", "IOMaximumIOps", "IPAddress", "IPAM", "IPAMConfig", "IpcMode", "IPPrefixLen",
    "IPRange", "IPv4Address", "IPv6Address", "IPv6Gateway", "Isolation", "KernelMemory",
    "KernelMemoryTCP", "Labels", "LinkLocalIPs", "Links", "LogConfig", "MacAddress", "MaskedPaths",
    "MaximumRetryCount", "Memory", "MemoryReservation", "MemorySwap", "MemorySwappiness", "Mode",
    "Mounts", "Name", "NanoCpus", "Network", "NetworkDisabled", "NetworkID", "NetworkingConfig",
    "NetworkMode", "NoCopy", "NonRecursive", "OnBuild", "OomKillDisable", "OomScoreAdj", "OpenStdin",
    "Options", "Path", "PathInContainer", "PathOnHost", "PidMode", "PidsLimit", "PortBindings",
    "Privileged", "Propagation", "PublishAllPorts", "Rate", "ReadOnly", "ReadOnlyForceRecursive",
    "ReadOnlyNonRecursive", "ReadonlyPaths", "ReadonlyRootfs", "RestartPolicy", "Retries", "Runtime",
    "Scope", "SecurityOpt", "Shell", "ShmSize", "SizeBytes", "Soft", "Source", "StartInterval",
    "StartPeriod", "StdinOnce", "StopSignal", "StopTimeout", "StorageOpt", "Subnet", "Subpath",
    "Sysctls", "Target", "Test", "Timeout", "Tmpfs", "TmpfsOptions", "Tty", "Type", "Ulimits", "User",
    "UsernsMode", "UTSMode", "VolumeDriver", "VolumeOptions", "Volumes", "VolumesFrom", "Weight",
    "WorkingDir",
];

/// Fields whose value is an object of people's own keys.
const OWN: &[&str] = &[
    "Annotations",
    "AuxiliaryAddresses",
    "Config",
    "DriverOpts",
    "EndpointsConfig",
    "ExposedPorts",
    "Labels",
    "Options",
    "PortBindings",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// Gives the fields of a body the document's spelling, at every depth.
pub(crate) fn normalise(value: &mut Value) {
    match value {
        Value::Object(map) => object(map),
        Value::Array(items) => items.iter_mut().for_each(normalise),
        _ => {}
    }
}

fn object(map: &mut Map<String, Value>) {
    let odd: Vec<String> =
        map.keys().filter(|key| spelling(key).is_some_and(|s| s != *key)).cloned().collect();
    for key in odd {
        if let (Some(value), Some(spelling)) = (map.remove(&key), spelling(&key)) {
            // The right spelling wins over a wrong one beside it.
            map.entry(spelling).or_insert(value);
        }
    }
    for (key, value) in map.iter_mut() {
        match value {
            Value::Object(own) if OWN.contains(&key.as_str()) => own.values_mut().for_each(normalise),
            other => normalise(other),
        }
    }
}

fn spelling(key: &str) -> Option<&'static str> {
    let lower = |text: &str| text.bytes().map(|b| b.to_ascii_lowercase()).collect::<Vec<_>>();
    let wanted = lower(key);
    KNOWN.binary_search_by_key(&wanted, |known| lower(known)).ok().map(|at| KNOWN[at])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_is_ordered_and_unambiguous() {
        for pair in KNOWN.windows(2) {
            assert!(pair[0].to_ascii_lowercase() < pair[1].to_ascii_lowercase(), "{pair:?}");
        }
    }

    #[test]
    fn fields_are_respelled_and_own_keys_are_not() {
        for (body, expected) in [
            (json!({"image": "a", "CMD": ["x"]}), json!({"Image": "a", "Cmd": ["x"]})),
            (json!({"labels": {"image": "x", "tty": "y"}}), json!({"Labels": {"image": "x", "tty": "y"}})),
            (
                json!({"hostconfig": {"portbindings": {"80/tcp": [{"hostport": "1"}]}, "memory": 4}}),
                json!({"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "1"}]}, "Memory": 4}}),
            ),
            (
                json!({"networkingConfig": {"endpointsConfig": {"image": {"ipamconfig": {"ipv4address": "1"}}}}}),
                json!({"NetworkingConfig": {"EndpointsConfig": {"image": {"IPAMConfig": {"IPv4Address": "1"}}}}}),
            ),
            (json!({"ipam": {"config": [{"subnet": "s"}]}}), json!({"IPAM": {"Config": [{"Subnet": "s"}]}})),
            (
                json!({"logconfig": {"config": {"mode": "m"}}}),
                json!({"LogConfig": {"Config": {"mode": "m"}}}),
            ),
            (json!({"Image": "right", "image": "wrong"}), json!({"Image": "right"})),
            (json!({"no-such": {"tty": true}}), json!({"no-such": {"Tty": true}})),
        ] {
            let mut value = body.clone();
            normalise(&mut value);
            assert_eq!(value, expected, "{body}");
        }
    }
}
