//! `stats`: what containers use, once or again and again.

use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::container;
use crate::{
    context::Context,
    output::{
        self, Table,
        human::{self, list, text},
    },
};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  weft stats\n  weft stats --no-stream --json web")]
pub struct StatsArgs {
    /// Stopped ones, too
    #[arg(short = 'a', long)]
    all: bool,
    /// Once, not again and again
    #[arg(long)]
    no_stream: bool,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    /// The containers; all that run when there is none
    containers: Vec<String>,
}

/// Prints the table every second until interrupted, or once.
pub async fn stats(context: &Context, args: StatsArgs) -> anyhow::Result<()> {
    loop {
        let names = names(context, &args).await?;
        let samples = join_all(names.iter().map(|name| sample(context, name))).await;
        let known = samples.into_iter().filter_map(|(name, sample)| match sample {
            Ok(sample) => Some(Ok(sample)),
            // One that was removed in between is not missed, unless it was asked for.
            Err(_) if args.containers.is_empty() => None,
            Err(error) => Some(Err(error.context(name))),
        });
        let known = known.collect::<anyhow::Result<Vec<Value>>>()?;
        show(context, &args, &known)?;
        if args.no_stream {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn names(context: &Context, args: &StatsArgs) -> anyhow::Result<Vec<String>> {
    if !args.containers.is_empty() {
        return Ok(args.containers.clone());
    }
    let all: Value = context.client.get("/containers/json").flag("all", args.all).fetch().await?;
    Ok(list(&all).iter().map(|c| text(c, "Id").to_owned()).collect())
}

async fn sample(context: &Context, name: &str) -> (String, anyhow::Result<Value>) {
    (name.to_owned(), context.client.get(container(name, "/stats")).query("stream", "false").fetch().await)
}

fn show(context: &Context, args: &StatsArgs, samples: &[Value]) -> anyhow::Result<()> {
    if context.json {
        return if args.no_stream {
            output::json(&json!(samples))
        } else {
            output::json_line(&json!(samples))
        };
    }
    let mut table = Table::new(&[
        "CONTAINER ID",
        "NAME",
        "CPU %",
        "MEM USAGE / LIMIT",
        "MEM %",
        "NET I/O",
        "BLOCK I/O",
        "PIDS",
    ]);
    for s in samples {
        let id = if args.no_trunc { text(s, "id").to_owned() } else { human::short(text(s, "id")) };
        let (used, limit) = (memory(s), s["memory_stats"]["limit"].as_f64().unwrap_or(0.0));
        let share = if limit > 0.0 { used / limit * 100.0 } else { 0.0 };
        let pair = |(a, b): (f64, f64)| format!("{} / {}", human::size(a), human::size(b));
        table.row([
            id,
            text(s, "name").trim_start_matches('/').to_owned(),
            format!("{:.2}%", cpu(s)),
            format!("{} / {}", human::binary_size(used), human::binary_size(limit)),
            format!("{share:.2}%"),
            pair(network(s)),
            pair(blocks(s)),
            s["pids_stats"]["current"].as_u64().unwrap_or(0).to_string(),
        ]);
    }
    if !args.no_stream && output::to_terminal() {
        output::bytes(b"\x1b[2J\x1b[H")?;
    }
    table.print()
}

/// Percent of one CPU, from the sample and the one before it.
fn cpu(s: &Value) -> f64 {
    let of = |part: &str, key: &str| s[part][key].as_f64().unwrap_or(0.0);
    let used = |part: &str| s[part]["cpu_usage"]["total_usage"].as_f64().unwrap_or(0.0);
    let delta = used("cpu_stats") - used("precpu_stats");
    let system = of("cpu_stats", "system_cpu_usage") - of("precpu_stats", "system_cpu_usage");
    let cpus = match of("cpu_stats", "online_cpus") {
        0.0 => {
            f64::from(u32::try_from(list(&s["cpu_stats"]["cpu_usage"]["percpu_usage"]).len()).unwrap_or(1))
        }
        cpus => cpus,
    };
    if delta > 0.0 && system > 0.0 { delta / system * cpus * 100.0 } else { 0.0 }
}

/// Without the page cache that can be given up.
fn memory(s: &Value) -> f64 {
    let memory = &s["memory_stats"];
    let used = memory["usage"].as_f64().unwrap_or(0.0);
    let stats = &memory["stats"];
    let cache = stats["total_inactive_file"].as_f64().or(stats["inactive_file"].as_f64()).unwrap_or(0.0);
    if cache < used { used - cache } else { used }
}

fn network(s: &Value) -> (f64, f64) {
    let sum = |key: &str| {
        s["networks"].as_object().into_iter().flatten().filter_map(|(_, n)| n[key].as_f64()).sum::<f64>()
    };
    (sum("rx_bytes"), sum("tx_bytes"))
}

fn blocks(s: &Value) -> (f64, f64) {
    let sum = |op: &str| {
        list(&s["blkio_stats"]["io_service_bytes_recursive"])
            .iter()
            .filter(|e| text(e, "op").eq_ignore_ascii_case(op))
            .filter_map(|e| e["value"].as_f64())
            .sum::<f64>()
    };
    (sum("read"), sum("write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_come_from_two_samples() {
        let s = json!({
            "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
            "memory_stats": {"usage": 100, "stats": {"total_inactive_file": 40}},
            "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 3, "tx_bytes": 4}},
            "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 5}, {"op": "Write", "value": 6}]}
        });
        assert!((cpu(&s) - 40.0).abs() < 1e-9);
        assert_eq!((memory(&s), network(&s), blocks(&s)), (60.0, (4.0, 6.0), (5.0, 6.0)));
        assert_eq!((cpu(&json!({})), memory(&json!({}))), (0.0, 0.0));
    }
}
