//! Bodies, filters, moments and headers as any client may send them.

use axum::http::{HeaderMap, HeaderValue};
use weft_base::Timestamp;
use weft_testkit::fuzz;

use crate::{ApiVersion, containers, images, pattern::Pattern, query, respond};

const JSON: &[&str] =
    &["null", "{}", "[]", "-1", "1e400", "\"\"", "\\ud800", "9223372036854775808", "true", ":", ","];

#[test]
fn fuzz_create_body() {
    let seeds = [
        r#"{"Image":"a","Cmd":["x"],"Env":["A=b"],"ExposedPorts":{"80/tcp":{}},"Volumes":{"/v":{}},"Healthcheck":{"Test":["CMD","a"],"Interval":1000000000}}"#,
        r#"{"Image":"a","HostConfig":{"Binds":["/a:/b:ro,z"],"PortBindings":{"80/tcp":[{"HostPort":"8000-8010"}]},"Memory":67108864,"Tmpfs":{"/t":"size=1m"},"Mounts":[{"Type":"volume","Target":"/x","Source":"v"}],"SecurityOpt":["seccomp=unconfined"],"NetworkMode":"container:x"}}"#,
        r#"{"image":"a","hostconfig":{"Devices":[{"PathOnHost":"/dev/null","CgroupPermissions":"rwm"}],"Ulimits":[{"Name":"nofile","Soft":1,"Hard":2}],"LogConfig":{"Type":"json-file","Config":{"max-size":"1m"}},"ExtraHosts":["a:1.2.3.4"],"Sysctls":{"a":"b"}},"NetworkingConfig":{"EndpointsConfig":{"n":{"IPAMConfig":{"IPv4Address":"1.2.3.4"},"Aliases":["a"]}}}}"#,
    ];
    let words = [JSON, &["/../", ":", "container:", "0-65535/udp", "65536", "\"HostConfig\":"]].concat();
    fuzz::run("api-create", &seeds.map(|s| s.as_bytes().to_vec()), &words, |input| {
        for version in [24, 41, 51] {
            let _ = containers::fuzz_create(input, ApiVersion::v1(version));
        }
    });
}

#[test]
fn fuzz_other_bodies() {
    let seeds = [
        r#"{"Name":"a","IPAM":{"Config":[{"Subnet":"10.0.0.0/8"}]},"Options":{"a":"b"}}"#,
        r#"{"a":[{"b":null}]}"#,
    ];
    fuzz::run("api-bodies", &seeds.map(|s| s.as_bytes().to_vec()), JSON, |input| {
        let _ = respond::parse::<serde_json::Value>(input);
        let _ = crate::networks::fuzz_create(input);
    });
}

#[test]
fn fuzz_filters() {
    let seeds = [r#"{"label":["a=b"],"name":{"x":true}}"#, r#"{"until":["1h30m"],"dangling":["true"]}"#];
    fuzz::run("api-filters", &seeds.map(|s| s.as_bytes().to_vec()), JSON, |input| {
        if let Ok(filters) = query::Filters::parse(&String::from_utf8_lossy(input)) {
            let _ = query::until(&filters);
            let _ = filters.boolean("dangling");
            let _ = filters.pairs("label");
        }
    });
}

#[test]
fn fuzz_patterns() {
    let seeds = ["a*[b-d]?/x:\\*", "[^a-z]**", "*/*:[0-9]*"];
    fuzz::run(
        "api-patterns",
        &seeds.map(|s| s.as_bytes().to_vec()),
        &["*", "[^", "]", "-", "\\", "?"],
        |input| {
            let text = String::from_utf8_lossy(input);
            if let Ok(pattern) = text.parse::<Pattern>() {
                let _ = pattern.matches(&text);
            }
        },
    );
}

#[test]
fn fuzz_moments() {
    let seeds = ["1700000000.123", "1h30m10s", "2026-01-02T03:04:05Z", "2026-01-02", "-5", "1.5ms"];
    let now = Timestamp::from_unix(1_700_000_000, 0).unwrap();
    let words = [".", "h", "ms", "e", "-", "9223372036854775807", "T", "0.000000001"];
    fuzz::run("api-moments", &seeds.map(|s| s.as_bytes().to_vec()), &words, |input| {
        let _ = query::moment(&String::from_utf8_lossy(input), now);
    });
}

#[test]
fn fuzz_registry_auth() {
    let seeds = [b"eyJ1c2VybmFtZSI6ImEiLCJhdXRoIjoiWVRwaSJ9".to_vec(), b"e30=".to_vec()];
    fuzz::run("api-auth", &seeds, &["=", "-_", "e30"], |input| {
        if let Ok(value) = HeaderValue::from_bytes(input) {
            let mut headers = HeaderMap::new();
            headers.insert("x-registry-auth", value);
            let _ = images::fuzz_credentials(&headers);
        }
    });
}
