//! `/metrics` and `weft metrics`.

use serde_json::Value;

use crate::{Host, plain, run};

#[test]
fn figures_follow_what_happens() {
    let mut host = Host::with(plain(), |_| (), &["--listen", "metrics=http://127.0.0.1:9323"]);
    host.ok(&["run", "-d", "--name", "c1", "busybox", "sleep", "1000"]);
    host.ok(&["run", "--rm", "busybox", "true"]);
    host.refused(&["run", "--name", "bad", "busybox", "no-such-program"]);
    host.refused(&["inspect", "nobody"]);
    let samples = host.json(&["metrics"]);
    let value = |name: &str, labels: &[(&str, &str)]| -> Option<f64> {
        let fits = |s: &&Value| s["name"] == name && labels.iter().all(|(k, v)| s["labels"][*k] == *v);
        samples.as_array().unwrap().iter().find(fits)?["value"].as_f64()
    };
    for (name, labels, expected) in [
        ("weft_containers", &[("state", "running")][..], 1.0),
        ("weft_containers", &[("state", "created")], 1.0),
        ("weft_container_starts_total", &[], 2.0),
        ("weft_container_exits_total", &[], 1.0),
        ("weft_container_start_failures_total", &[], 1.0),
        ("weft_images", &[], 1.0),
        ("weft_networks", &[], 3.0),
        (
            "weft_api_requests_total",
            &[("method", "POST"), ("route", "/containers/create"), ("code", "201")],
            3.0,
        ),
        ("weft_api_requests_total", &[("route", "/containers/{id}/json"), ("code", "404")], 1.0),
        ("weft_store_commit_failures_total", &[], 0.0),
    ] {
        assert_eq!(value(name, labels), Some(expected), "{name} {labels:?} in {samples:#}");
    }
    for name in [
        "weft_container_memory_bytes",
        "weft_container_cpu_seconds_total",
        "weft_api_request_duration_seconds_count",
        "weft_store_commit_duration_seconds_count",
        "weft_build_info",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(value(name, &[]).is_some_and(|v| v > 0.0), "{name}");
    }
    assert!(value("weft_dns_queries_total", &[("result", "answered")]).is_some());
    // What Prometheus would get.
    let text =
        run(host.sandbox.command("busybox").args(["wget", "-q", "-O", "-", "http://127.0.0.1:9323/metrics"]));
    assert!(text.contains("# TYPE weft_api_request_duration_seconds histogram\n"), "{text}");
    let heads: Vec<&str> = text.lines().filter(|l| l.starts_with("# TYPE")).collect();
    let unique: std::collections::BTreeSet<_> = heads.iter().collect();
    assert_eq!(heads.len(), unique.len(), "each family once");
    host.ok(&["rm", "-f", "c1"]);
    host.daemon.stop().unwrap();
}
