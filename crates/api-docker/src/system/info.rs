//! `GET /info`.

use axum::{Extension, extract::State, response::Response};
use serde_json::{Map, Value, json};
use weft_base::{Clock, SystemClock};
use weft_cloud::{Caller, ContainerCounts, HostFacts};

use crate::{ApiVersion, Face, error::Result, respond};

/// `SystemInfo`.
pub(super) async fn info(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
) -> Result<Response> {
    let host = face.cloud.host(&caller)?;
    let counts = face.cloud.container_counts(&caller).await?;
    let images = face.cloud.image_count(&caller).await?;
    respond::ok(&render(&host, counts, images, version))
}

fn render(host: &HostFacts, counts: ContainerCounts, images: usize, version: ApiVersion) -> Value {
    let mut info = json!({
        "ID": host.id.uuid(),
        "Containers": counts.total,
        "ContainersRunning": counts.running,
        "ContainersPaused": counts.paused,
        "ContainersStopped": counts.stopped,
        "Images": images,
        "Driver": "overlay2",
        "DriverStatus": [
            ["Backing Filesystem", host.backing_fs],
            ["Supports d_type", "true"],
            ["Native Overlay Diff", "true"],
            ["userxattr", "false"],
        ],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "ipvlan", "macvlan", "null"],
            "Authorization": null,
            "Log": host.log_drivers,
        },
        "MemoryLimit": host.limits.memory,
        "SwapLimit": host.limits.swap,
        "CpuCfsPeriod": host.limits.cpu_cfs,
        "CpuCfsQuota": host.limits.cpu_cfs,
        "CPUShares": host.limits.cpu_shares,
        "CPUSet": host.limits.cpuset,
        "PidsLimit": host.limits.pids,
        "IPv4Forwarding": host.ipv4_forwarding,
        "OomKillDisable": host.limits.oom_kill_disable,
        "Debug": host.debug,
        "NFd": 0,
        "NGoroutines": 0,
        "SystemTime": SystemClock.now().to_string(),
        "LoggingDriver": host.log_driver,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": host.cgroup_version.to_string(),
        "NEventsListener": 0,
        "KernelVersion": host.kernel,
        "OperatingSystem": host.os,
        "OSVersion": host.os_version,
        "OSType": "linux",
        "Architecture": host.machine,
        "NCPU": host.cpus,
        "MemTotal": host.memory,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": registry(host, version),
        "GenericResources": null,
        "DockerRootDir": host.root,
        "HttpProxy": masked(&host.proxies[0]),
        "HttpsProxy": masked(&host.proxies[1]),
        "NoProxy": host.proxies[2],
        "Name": host.name,
        "Labels": host.labels,
        "ExperimentalBuild": false,
        "ServerVersion": host.version,
        "Runtimes": runtimes(host),
        "DefaultRuntime": host.default_runtime,
        "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "", "RemoteManagers": null},
        "LiveRestoreEnabled": host.live_restore,
        "Isolation": "",
        "InitBinary": "weft-init",
        "ContainerdCommit": commit(version),
        "RuncCommit": commit(version),
        "InitCommit": commit(version),
        "SecurityOptions": host.security,
        "ProductLicense": "Apache-2.0",
        "DefaultAddressPools": host.pools.iter().map(|(base, size)| json!({"Base": base, "Size": size})).collect::<Vec<_>>(),
        "Warnings": host.warnings,
    });
    if let Some(map) = info.as_object_mut() {
        gate(map, host.bridge_netfilter, version);
    }
    info
}

/// A proxy's URL without its user's secret, as dockerd shows it.
fn masked(proxy: &str) -> String {
    let Some((scheme, rest)) = proxy.split_once("://") else { return proxy.to_owned() };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://xxxxx:xxxxx@{host}"),
        None => proxy.to_owned(),
    }
}

/// Fields that came and went (moby `system_routes.go`).
fn gate(map: &mut Map<String, Value>, bridge_netfilter: (bool, bool), version: ApiVersion) {
    let before = |minor| version < ApiVersion::v1(minor);
    if before(44) {
        map.insert("KernelMemory".into(), false.into());
        map.insert("ClusterStore".into(), "".into());
        map.insert("ClusterAdvertise".into(), "".into());
    } else {
        // Devices by CDI are not offered, so no directory is looked into.
        map.insert("CDISpecDirs".into(), json!([]));
    }
    if !before(49) {
        map.insert("FirewallBackend".into(), json!({"Driver": "nftables"}));
    }
    if before(50) {
        map.insert("BridgeNfIptables".into(), bridge_netfilter.0.into());
        map.insert("BridgeNfIp6tables".into(), bridge_netfilter.1.into());
    }
}

/// There is no such program.
fn commit(version: ApiVersion) -> Value {
    if version < ApiVersion::v1(49) { json!({"ID": "", "Expected": ""}) } else { json!({"ID": ""}) }
}

fn registry(host: &HostFacts, version: ApiVersion) -> Value {
    let is_cidr = |text: &&String| text.parse::<ipnet::IpNet>().is_ok();
    let mut cidrs: Vec<&str> = host.insecure.iter().filter(is_cidr).map(String::as_str).collect();
    cidrs.push("127.0.0.0/8");
    let mut index = Map::new();
    let entry = |name: &str, secure: bool, official: bool, mirrors: &[String]| json!({"Name": name, "Mirrors": mirrors, "Secure": secure, "Official": official});
    index.insert("docker.io".into(), entry("docker.io", true, true, &host.mirrors));
    for name in host.insecure.iter().filter(|t| !is_cidr(t)) {
        index.insert(name.clone(), entry(name, false, false, &[]));
    }
    let mut registry =
        json!({"InsecureRegistryCIDRs": cidrs, "IndexConfigs": index, "Mirrors": host.mirrors});
    if let Some(map) = registry.as_object_mut()
        && version < ApiVersion::v1(49)
    {
        map.insert("AllowNondistributableArtifactsCIDRs".into(), json!([]));
        map.insert("AllowNondistributableArtifactsHostnames".into(), json!([]));
    }
    registry
}

fn runtimes(host: &HostFacts) -> Value {
    let entries = host.runtimes.iter().map(|(name, path)| {
        let path =
            if path.as_os_str().is_empty() { "built-in".to_owned() } else { path.display().to_string() };
        (name.clone(), json!({"path": path}))
    });
    Value::Object(entries.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_there_in_their_versions() {
        for (field, from, until) in [
            ("KernelMemory", 24, 44),
            ("CDISpecDirs", 44, 99),
            ("FirewallBackend", 49, 99),
            ("BridgeNfIptables", 24, 50),
        ] {
            for minor in 24..=51 {
                let mut map = Map::new();
                gate(&mut map, (true, true), ApiVersion::v1(minor));
                let wanted = (from..until).contains(&minor);
                assert_eq!(map.contains_key(field), wanted, "{field} in 1.{minor}");
            }
        }
    }
}
