//! `metrics`: what the daemon's metrics face says.

use anyhow::Context as _;
use clap::Args;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::{
    client::{Client, Endpoint},
    context::Context,
    failure::failed,
    output,
};

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  weft metrics\n  weft metrics --json | jq '.[] | select(.name == \"weft_containers\")'\n  \
    weft up --listen metrics=http://127.0.0.1:9323    for Prometheus itself"
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
                "the metrics face does not listen at {}: is the daemon running, and the feature on (weft feature enable \
                 metrics)? Say where else it listens with --at",
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
    let samples: Vec<Value> = text.lines().filter(|l| !l.starts_with('#')).filter_map(sample).collect();
    output::json(&json!(samples))
}

/// `name{label="value",…} number` as an object.
fn sample(line: &str) -> Option<Value> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, rest) = series.split_once('{').unwrap_or((series, ""));
    let mut labels = serde_json::Map::new();
    let mut rest = rest.trim_end_matches('}');
    while let Some((label, after)) = rest.split_once("=\"") {
        let (mut text, mut end, mut chars) = (String::new(), after.len(), after.char_indices());
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => text.extend(chars.next().map(|(_, c)| if c == 'n' { '\n' } else { c })),
                c => text.push(c),
            }
        }
        labels.insert(label.trim_start_matches(',').to_owned(), text.into());
        rest = after.get(end..).unwrap_or("");
    }
    Some(json!({"name": name, "labels": labels, "value": value.parse::<f64>().ok()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_become_objects() {
        let found = sample(r#"a_total{x="1",y="q\"\\ n,}"} 2.5"#).unwrap();
        assert_eq!(found, json!({"name": "a_total", "labels": {"x": "1", "y": "q\"\\ n,}"}, "value": 2.5}));
        assert_eq!(sample("b 1").unwrap(), json!({"name": "b", "labels": {}, "value": 1.0}));
    }
}
