//! `metrics`: what the daemon's metrics face says.

use anyhow::Context as _;
use clap::Args;
use http_body_util::BodyExt as _;
use serde_json::json;

use crate::{
    client::{Client, Endpoint},
    context::Context,
    failure::failed,
    output,
};

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  weft up --listen docker=unix:///run/weft/docker.sock --listen metrics=unix:///run/weft/metrics.sock\n  \
    weft metrics"
)]
pub struct MetricsArgs {
    /// Where the metrics face listens [default: unix://RUN/metrics.sock]
    #[arg(long, value_name = "URI")]
    at: Option<String>,
}

/// Prints them as they come; with `--json` as a list of samples.
pub async fn metrics(context: &Context, args: MetricsArgs) -> anyhow::Result<()> {
    let socket = context.run_dir().join("metrics.sock");
    let endpoint = match &args.at {
        Some(at) => Endpoint::parse(at)?,
        None if socket.exists() => Endpoint::Unix(socket),
        None => {
            let message = format!(
                "the metrics face does not listen at {}. Start the daemon with --listen metrics=unix://{} (and the \
                 listeners it has now), or say where it listens with --at",
                socket.display(),
                socket.display()
            );
            return Err(failed(1, message));
        }
    };
    let answer = Client::new(endpoint).get("/metrics").send().await?;
    let body = answer.into_body().collect().await.context("reading the metrics")?.to_bytes();
    if !context.json {
        return output::bytes(&body);
    }
    let text = String::from_utf8_lossy(&body);
    let samples = text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.rsplit_once(' '));
    let samples: Vec<_> =
        samples.map(|(name, value)| json!({"name": name, "value": value.parse::<f64>().ok()})).collect();
    output::json(&json!(samples))
}
