//! `network stats`, and the counters in `network inspect`: what passed each port, and what was dropped and why.

use clap::Args;
use serde_json::{Value, json};

use crate::{
    client::segment,
    context::Context,
    failure::exit,
    output::{
        self, Table,
        human::{list, text},
    },
};

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  weft network stats web\n\n\
    RX and TX are as the container sees them. Drops are counted since the rules were last replaced, which a new or\n\
    removed network does.")]
pub struct StatsArgs {
    /// The network
    network: String,
}

async fn fetch(context: &Context, network: &str) -> anyhow::Result<Value> {
    context.native().get(format!("/v1/networks/{}/stats", segment(network))).fetch().await
}

/// Prints the counters of a network.
pub async fn stats(context: &Context, args: StatsArgs) -> anyhow::Result<()> {
    let stats = fetch(context, &args.network).await?;
    if context.json {
        return output::json(&stats);
    }
    let headings = [
        "CONTAINER",
        "INTERFACE",
        "RX PACKETS",
        "RX BYTES",
        "RX ERRORS",
        "RX DROPS",
        "TX PACKETS",
        "TX BYTES",
        "TX ERRORS",
        "TX DROPS",
    ];
    let mut table = Table::new(&headings);
    let cells = |c: &Value| {
        let keys = ["packets", "bytes", "errors", "dropped"];
        ["rx", "tx"].map(|way| {
            keys.map(|key| c[format!("{way}_{key}")].as_u64().map_or("-".into(), |n| n.to_string()))
        })
    };
    for port in list(&stats["ports"]) {
        let [[a, b, c, d], [e, f, g, h]] = cells(&port["counters"]);
        table.row([text(port, "container").into(), text(port, "ifname").into(), a, b, c, d, e, f, g, h]);
    }
    table.print()?;
    output::line("")?;
    let mut drops = Table::new(&["DROPPED BECAUSE", "PACKETS", "BYTES"]);
    for drop in list(&stats["drops"]) {
        drops.row([text(drop, "reason").into(), drop["packets"].to_string(), drop["bytes"].to_string()]);
    }
    drops.print()
}

/// `network inspect`: Docker's answer, and beside it `Counters`, where the daemon of this host can be asked for them.
pub async fn inspect(context: &Context, names: &[String]) -> anyhow::Result<()> {
    let (mut found, mut failures) = (Vec::new(), 0);
    for name in names {
        let network = context.client.get(format!("/networks/{}", segment(name))).fetch::<Value>().await;
        match network {
            Ok(mut network) => {
                // Of what has no interface of its own here there is nothing to count.
                let counted = !matches!(text(&network, "Driver"), "host" | "null");
                if counted && let Ok(stats) = fetch(context, text(&network, "Id")).await {
                    if stats["policy_default"].is_string() {
                        network["PolicyDefault"] = stats["policy_default"].clone();
                    }
                    network["Counters"] =
                        json!({"Ports": stats["ports"], "Drops": stats["drops"], "Link": stats["counters"]});
                }
                found.push(network);
            }
            Err(error) => {
                failures += 1;
                output::fault(&error);
            }
        }
    }
    output::json(&Value::Array(found))?;
    if failures > 0 { Err(exit(1)) } else { Ok(()) }
}
