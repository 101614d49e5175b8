//! One row for each gate: the body, what to look at, and what it is from which version on.

use serde_json::{Value, json};

use super::*;

/// What a look at the gated body shows; an error's text with `error: ` before it.
fn look(body: &Value, minor: u16, look: fn(&CreateBody) -> Value) -> Value {
    let mut body: CreateBody = crate::respond::parse(body.to_string().as_bytes()).unwrap();
    match gate(&mut body, ApiVersion::v1(minor), HostKind::default()) {
        Ok(_) => look(&body),
        Err(error) => format!("error: {}", error.message()).into(),
    }
}

fn mount(rest: Value) -> Value {
    let mut mount = json!({"Type": "bind", "Source": "/a", "Target": "/b"});
    let (Some(to), Some(from)) = (mount.as_object_mut(), rest.as_object()) else { panic!("objects") };
    to.extend(from.clone());
    json!({"HostConfig": {"Mounts": [mount]}})
}

fn bind(body: &CreateBody, field: fn(&super::super::wire::BindOptions) -> bool) -> Value {
    json!(body.host_config.mounts[0].bind_options.as_ref().is_some_and(field))
}

type Row = (Value, fn(&CreateBody) -> Value, &'static [(u16, &'static str)]);

/// `(24, x), (40, y)` reads: `x` from 1.24 on, `y` from 1.40 on.
fn rows() -> Vec<Row> {
    let endpoints = |list: Value| json!({"NetworkingConfig": {"EndpointsConfig": list}});
    vec![
        (
            json!({"HostConfig": {"AutoRemove": true}}),
            |b| json!(b.host_config.auto_remove),
            &[(24, "false"), (25, "true")],
        ),
        (json!({}), |b| json!(b.host_config.ipc_mode), &[(24, "\"shareable\""), (40, "\"\"")]),
        (
            json!({"HostConfig": {"IpcMode": "private"}}),
            |b| json!(b.host_config.ipc_mode),
            &[(24, "\"private\"")],
        ),
        (
            json!({"HostConfig": {"PidsLimit": 5}}),
            |b| json!(b.host_config.resources.pids_limit),
            &[(24, "null"), (40, "5")],
        ),
        (
            json!({"HostConfig": {"PidsLimit": -1}}),
            |b| json!(b.host_config.resources.pids_limit),
            &[(24, "null")],
        ),
        (
            json!({"HostConfig": {"KernelMemoryTCP": 5}}),
            |b| json!(b.host_config.resources.kernel_memory_tcp),
            &[(24, "0"), (40, "5")],
        ),
        (
            json!({"HostConfig": {"KernelMemory": 5}}),
            |b| json!(b.host_config.resources.kernel_memory),
            &[(24, "5"), (42, "0")],
        ),
        (json!({}), |b| json!(b.host_config.cgroupns_mode), &[(24, "\"host\""), (41, "\"\"")]),
        (
            json!({"HostConfig": {"ConsoleSize": [3, 4]}}),
            |b| json!(b.host_config.console_size),
            &[(24, "[0,0]"), (42, "[3,4]")],
        ),
        (
            json!({"HostConfig": {"Annotations": {"a": "b"}}}),
            |b| json!(b.host_config.annotations),
            &[(24, "{}"), (43, "{\"a\":\"b\"}")],
        ),
        (
            mount(json!({"BindOptions": {"NonRecursive": true}})),
            |b| bind(b, |o| o.non_recursive),
            &[(24, "false"), (40, "true")],
        ),
        (
            mount(json!({"BindOptions": {"CreateMountpoint": true}})),
            |b| bind(b, |o| o.create_mountpoint),
            &[(24, "false"), (42, "true")],
        ),
        (
            mount(json!({"ReadOnly": true})),
            |b| bind(b, |o| o.read_only_non_recursive),
            &[(24, "true"), (44, "false")],
        ),
        (
            mount(json!({"ReadOnly": true, "BindOptions": {"ReadOnlyForceRecursive": true}})),
            |b| bind(b, |o| o.read_only_force_recursive),
            &[(24, "\"error: BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer\""), (44, "true")],
        ),
        (
            mount(json!({"VolumeOptions": {"NoCopy": true}})),
            |b| json!(b.host_config.mounts[0].volume_options.is_some()),
            &[
                (24, "false"),
                (42, "\"error: VolumeOptions must not be specified on mount type \\\"bind\\\"\""),
            ],
        ),
        (
            mount(json!({"Type": "volume", "VolumeOptions": {"Subpath": "x"}})),
            |b| json!(b.host_config.mounts[0].volume_options.clone().unwrap_or_default().subpath),
            &[(24, "\"error: VolumeOptions.Subpath needs API v1.45 or newer\""), (45, "\"x\"")],
        ),
        (
            mount(json!({"Type": "image"})),
            |b| json!(b.host_config.mounts[0].kind),
            &[(24, "\"error: Mount type \\\"Image\\\" needs API v1.48 or newer\""), (48, "\"image\"")],
        ),
        (
            json!({"Healthcheck": {"StartInterval": 9}}),
            |b| json!(b.config.healthcheck.as_ref().map(|h| h.start_interval)),
            &[(24, "0"), (44, "9")],
        ),
        (
            endpoints(json!({"a": {}, "b": {}})),
            |b| json!(b.networking_config.endpoints_config.len()),
            &[
                (24, "\"error: Container cannot be created with multiple network endpoints: a, b\""),
                (44, "2"),
            ],
        ),
        (
            endpoints(json!({"a": {"GwPriority": 7}})),
            |b| json!(b.networking_config.endpoints_config["a"].gw_priority),
            &[(24, "null"), (48, "7")],
        ),
        (
            endpoints(json!({"a": {"MacAddress": "02:00:00:00:00:01"}})),
            |b| json!(b.networking_config.endpoints_config["a"].mac_address),
            &[(24, "\"\""), (44, "\"02:00:00:00:00:01\"")],
        ),
        (
            json!({"MacAddress": "02:00:00:00:00:02"}),
            |b| json!([b.config.mac_address, b.networking_config.endpoints_config["bridge"].mac_address]),
            &[(24, "[\"02:00:00:00:00:02\",\"02:00:00:00:00:02\"]"), (44, "[\"\",\"02:00:00:00:00:02\"]")],
        ),
        (
            json!({"HostConfig": {"Sysctls": {"net.ipv4.conf.eth0.log_martians": "1", "net.core.somaxconn": "9"}}}),
            |b| {
                let endpoint =
                    b.networking_config.endpoints_config.get("bridge").cloned().unwrap_or_default();
                json!([b.host_config.sysctls.len(), endpoint.driver_opts.unwrap_or_default().values().next()])
            },
            &[
                (24, "[1,\"net.ipv4.conf.IFNAME.log_martians=1\"]"),
                (
                    48,
                    "\"error: interface specific sysctl setting \\\"net.ipv4.conf.eth0.log_martians\\\" must be supplied \
                     using driver option 'com.docker.network.endpoint.sysctls'\"",
                ),
            ],
        ),
    ]
}

#[test]
fn each_field_means_what_its_version_says() {
    for (body, shown, expected) in rows() {
        for minor in 24..=51 {
            let wanted = expected.iter().rev().find(|(from, _)| *from <= minor).map(|(_, text)| *text);
            assert_eq!(
                Some(look(&body, minor, shown).to_string().as_str()),
                wanted,
                "version 1.{minor} of {body}"
            );
        }
    }
}

#[test]
fn default_names_the_network_of_the_mode() {
    let body = json!({"NetworkingConfig": {"EndpointsConfig": {"default": {"Aliases": ["x"]}}}});
    let names = look(&body, 51, |b| json!(b.networking_config.endpoints_config.keys().collect::<Vec<_>>()));
    assert_eq!(names, json!(["bridge"]));
}

#[test]
fn cgroup_version_2_keeps_its_default() {
    let mut body = CreateBody::default();
    gate(&mut body, ApiVersion::v1(30), HostKind { unified: true }).unwrap();
    assert_eq!(body.host_config.cgroupns_mode, "");
}
