//! `GET /containers/{id}/stats`.

use axum::{
    Extension,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use weft_base::Timestamp;
use weft_cloud::{BlockIo, Caller, CpuUsage, InterfaceUsage, Pair, Sample};
use weft_model::Container;

use crate::{ApiError, ApiVersion, Face, error::Result, query::Params, respond};

pub(super) async fn stats(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response> {
    if params.flag_or("stream", true) && params.flag("one-shot") && version >= ApiVersion::v1(41) {
        return Err(ApiError::bad_request("cannot have stream=true and one-shot=true".into()));
    }
    // Samples are kept in memory: a single answer never waits for a second one.
    if !params.flag_or("stream", true) {
        let usage = face.cloud.container_stats_once(&caller, &id).await?;
        return respond::ok(&render(&usage.container, &usage.pair));
    }
    let (container, mut samples) = face.cloud.container_stats(&caller, &id).await?;
    let (sender, body) = weft_api_kit::body_channel();
    tokio::spawn(async move {
        loop {
            let pair = tokio::select! {
                pair = samples.next() => pair,
                () = sender.closed() => return,
            };
            match pair {
                Some(pair) if sender.send_json(&render(&container, &pair)).await => {}
                _ => return,
            }
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

fn at(moment: Option<Timestamp>) -> String {
    moment.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), Timestamp::rfc3339_nano)
}

/// `ContainerStatsResponse`; of a container that does not run, only the names.
fn render(container: &Container, pair: &Pair) -> Value {
    let running = pair.now.at.is_some();
    let before = pair.before.as_deref();
    let mut all = json!({
        "id": container.spec.id,
        "name": format!("/{}", container.spec.name),
        "read": at(pair.now.at),
        "preread": at(before.and_then(|b| b.at)),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": cpu(running.then_some(&*pair.now)),
        "precpu_stats": cpu(before.filter(|b| b.at.is_some())),
        "memory_stats": if running { memory(&pair.now) } else { json!({}) },
        "pids_stats": if running { pids(&pair.now) } else { json!({}) },
        "blkio_stats": blkio(&pair.now),
    });
    if let (false, Some(map)) = (pair.now.interfaces.is_empty(), all.as_object_mut()) {
        let networks = pair.now.interfaces.iter().map(|(name, c)| (name.clone(), counters(c)));
        map.insert("networks".into(), Value::Object(networks.collect()));
    }
    all
}

fn counters(c: &InterfaceUsage) -> Value {
    let ([rx_bytes, rx_packets, rx_errors, rx_dropped], [tx_bytes, tx_packets, tx_errors, tx_dropped]) =
        (c.rx, c.tx);
    json!({
        "rx_bytes": rx_bytes, "rx_packets": rx_packets, "rx_errors": rx_errors, "rx_dropped": rx_dropped,
        "tx_bytes": tx_bytes, "tx_packets": tx_packets, "tx_errors": tx_errors, "tx_dropped": tx_dropped,
    })
}

fn cpu(sample: Option<&Sample>) -> Value {
    let none = CpuUsage::default();
    let c = sample.map_or(&none, |s| &s.usage.cpu);
    let mut usage = json!({
        "total_usage": c.total, "usage_in_kernelmode": c.kernel, "usage_in_usermode": c.user,
    });
    if let (false, Some(map)) = (c.per_cpu.is_empty(), usage.as_object_mut()) {
        map.insert("percpu_usage".into(), json!(c.per_cpu));
    }
    let mut all = json!({
        "cpu_usage": usage,
        "throttling_data": {
            "periods": c.periods, "throttled_periods": c.throttled_periods, "throttled_time": c.throttled_time,
        },
    });
    if let (Some(sample), Some(map)) = (sample, all.as_object_mut()) {
        map.insert("system_cpu_usage".into(), sample.system_cpu.into());
        map.insert("online_cpus".into(), sample.online_cpus.into());
    }
    all
}

fn memory(sample: &Sample) -> Value {
    let m = &sample.usage.memory;
    let limit = if m.limit == 0 { sample.machine_memory } else { m.limit.min(sample.machine_memory) };
    let mut all = Map::new();
    all.insert("usage".into(), m.usage.into());
    if m.max_usage > 0 {
        all.insert("max_usage".into(), m.max_usage.into());
    }
    all.insert("stats".into(), json!(m.stat));
    if m.failures > 0 {
        all.insert("failcnt".into(), m.failures.into());
    }
    all.insert("limit".into(), limit.into());
    Value::Object(all)
}

fn pids(sample: &Sample) -> Value {
    let p = &sample.usage.pids;
    if p.limit > 0 { json!({"current": p.current, "limit": p.limit}) } else { json!({"current": p.current}) }
}

fn blkio(sample: &Sample) -> Value {
    let rows = |list: &[BlockIo]| -> Value {
        let row = |b: &BlockIo| json!({"major": b.major, "minor": b.minor, "op": b.op, "value": b.value});
        if list.is_empty() { Value::Null } else { list.iter().map(row).collect() }
    };
    json!({
        "io_service_bytes_recursive": rows(&sample.usage.io_bytes),
        "io_serviced_recursive": rows(&sample.usage.io_operations),
        "io_queue_recursive": null,
        "io_service_time_recursive": null,
        "io_wait_time_recursive": null,
        "io_merged_recursive": null,
        "io_time_recursive": null,
        "sectors_recursive": null,
    })
}
