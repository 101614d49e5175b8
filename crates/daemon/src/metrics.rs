//! The metrics face: everything that is counted, in Prometheus' text format, at `/metrics`.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header};
use weft_api_kit::Meter;
use weft_base::{
    chain,
    metrics::{Exposition, Kind},
};
use weft_cloud::{Caller, Cloud, ContainerFigures, Figures};
use weft_model::Scope;
use weft_store::{Kv, Stores};

use crate::resolver::Resolver;

mod names;

/// Where the figures come from.
pub(crate) struct Sources {
    pub(crate) cloud: Cloud,
    pub(crate) stores: Stores,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) meter: Arc<Meter>,
}

/// The face.
pub(crate) fn router(sources: Sources) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route_layer(axum::middleware::from_fn(weft_api_kit::note_route))
        .with_state(Arc::new(sources))
}

async fn metrics(State(sources): State<Arc<Sources>>) -> Response {
    let figures = match sources.cloud.figures(&Caller::local_administrator("metrics")).await {
        Ok(figures) => figures,
        Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, chain(&error)).into_response(),
    };
    let mut text = Exposition::default();
    text.family("weft_build_info", Kind::Gauge, "The running build; always 1.");
    let build = [("version", env!("CARGO_PKG_VERSION")), ("commit", crate::COMMIT)];
    text.sample("weft_build_info", &build, 1);
    engine(&mut text, &figures);
    containers(&mut text, &figures.running);
    sources.meter.expose(&mut text);
    store(&mut text, sources.stores.of(Scope::Host).as_ref());
    if let Some(stats) = sources.resolver.stats().await {
        names::expose(&mut text, &stats);
    }
    process(&mut text);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.into_text()).into_response()
}

fn engine(text: &mut Exposition, figures: &Figures) {
    let name = "weft_containers";
    text.family(name, Kind::Gauge, "Containers, by state.");
    for (state, count) in &figures.containers {
        text.sample(name, &[("state", state)], count);
    }
    text.single("weft_images", Kind::Gauge, "Images in the store.", figures.images);
    text.single("weft_networks", Kind::Gauge, "Networks.", figures.networks);
    text.single("weft_volumes", Kind::Gauge, "Volumes.", figures.volumes);
    let container = |action: &str| {
        let kind = weft_model::EventKind::Container;
        figures.events.get(&(kind, action.to_owned())).copied().unwrap_or(0)
    };
    for (name, action, help) in [
        ("weft_container_starts_total", "start", "Containers started, restarts among them."),
        ("weft_container_exits_total", "die", "Containers whose process ended."),
        ("weft_container_start_failures_total", "start_failed", "Starts that failed."),
        (
            "weft_container_ooms_total",
            "oom",
            "Times that the kernel killed in a container for lack of memory.",
        ),
    ] {
        text.single(name, Kind::Counter, help, container(action));
    }
    let name = "weft_events_total";
    text.family(name, Kind::Counter, "Events, by type of the resource and action.");
    for ((kind, action), count) in &figures.events {
        text.sample(name, &[("type", kind.as_str()), ("action", action)], count);
    }
}

fn containers(text: &mut Exposition, running: &[ContainerFigures]) {
    type Read = fn(&ContainerFigures) -> f64;
    let families: [(&str, Kind, &str, Read); 7] = [
        ("weft_container_cpu_seconds_total", Kind::Counter, "CPU time of a running container.", |c| {
            std::time::Duration::from_nanos(c.sample.usage.cpu.total).as_secs_f64()
        }),
        ("weft_container_memory_bytes", Kind::Gauge, "Memory in use, page cache among it.", |c| {
            float(c.sample.usage.memory.usage)
        }),
        (
            "weft_container_memory_limit_bytes",
            Kind::Gauge,
            "The memory limit; the machine's where none is set.",
            |c| float(c.sample.usage.memory.limit.min(c.sample.machine_memory)),
        ),
        ("weft_container_processes", Kind::Gauge, "Processes and threads.", |c| {
            float(c.sample.usage.pids.current)
        }),
        (
            "weft_container_network_receive_bytes_total",
            Kind::Counter,
            "Bytes received, all interfaces but loopback.",
            |c| float(c.sample.interfaces.values().map(|i| i.rx[0]).sum()),
        ),
        (
            "weft_container_network_transmit_bytes_total",
            Kind::Counter,
            "Bytes sent, all interfaces but loopback.",
            |c| float(c.sample.interfaces.values().map(|i| i.tx[0]).sum()),
        ),
        ("weft_container_network_drops_total", Kind::Counter, "Packets dropped, both directions.", |c| {
            float(c.sample.interfaces.values().map(|i| i.rx[3] + i.tx[3]).sum())
        }),
    ];
    for (name, kind, help, read) in families {
        text.family(name, kind, help);
        for container in running {
            let id = container.id.to_string();
            let labels = [("id", &*id), ("name", &*container.name), ("image", &*container.image)];
            text.sample(name, &labels, read(container));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus' samples are floats")]
fn float(number: u64) -> f64 {
    number as f64
}

fn store(text: &mut Exposition, kv: &dyn Kv) {
    let Some(figures) = kv.figures() else { return };
    let name = "weft_store_commit_duration_seconds";
    text.family(name, Kind::Histogram, "Commits of the store, each with the requests that waited for it.");
    text.distribution(name, &[], &figures.commits);
    text.single(
        "weft_store_requests_total",
        Kind::Counter,
        "Writing requests to the store.",
        figures.requests,
    );
    let help = "Commits that failed; after one the store refuses writes.";
    text.single("weft_store_commit_failures_total", Kind::Counter, help, figures.failures);
    if let Some(revision) = kv.local_revision() {
        text.single("weft_store_revision", Kind::Gauge, "The store's revision.", revision);
    }
}

/// This process, by the names that every Prometheus client library uses.
fn process(text: &mut Exposition) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let stat = read("/proc/self/stat");
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().skip(1).map(|f| f.parse().unwrap_or(0)).collect())
        .unwrap_or_default();
    // Numbers of proc_pid_stat(5), counted from the fourth field on.
    let field = |number: usize| fields.get(number - 4).copied().unwrap_or(0);
    let ticks = float(rustix::param::clock_ticks_per_second());
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let boot = read("/proc/stat");
    let boot = boot.lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse::<u64>().ok()).unwrap_or(0);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    for (name, kind, help, value) in [
        (
            "process_cpu_seconds_total",
            Kind::Counter,
            "CPU time of the daemon.",
            float(field(14) + field(15)) / ticks,
        ),
        (
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Resident memory of the daemon.",
            float(field(24) * page),
        ),
        ("process_virtual_memory_bytes", Kind::Gauge, "Virtual memory of the daemon.", float(field(23))),
        ("process_threads", Kind::Gauge, "Threads of the daemon.", float(field(20))),
        (
            "process_start_time_seconds",
            Kind::Gauge,
            "When the daemon started, since 1970.",
            float(boot) + float(field(22)) / ticks,
        ),
        ("process_open_fds", Kind::Gauge, "Open descriptors.", float(u64::try_from(open).unwrap_or(0))),
        ("process_max_fds", Kind::Gauge, "The most that may be open.", float(limit.unwrap_or(u64::MAX))),
    ] {
        text.single(name, kind, help, value);
    }
}
