//! What can be seen of one container: processes, changed files, published ports.

use clap::Args;
use serde_json::Value;

use super::container;
use crate::{
    context::Context,
    failure::failed,
    output::{
        self,
        human::{list, text},
    },
};

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  weft top web -eo pid,comm")]
pub struct TopArgs {
    /// The container, and options for ps
    #[arg(trailing_var_arg = true, required = true, value_name = "CONTAINER [PS OPTIONS]")]
    words: Vec<String>,
}

#[derive(Args, Debug)]
pub struct DiffArgs {
    /// The container
    container: String,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  weft port web\n  weft port web 80/tcp")]
pub struct PortArgs {
    /// The container
    container: String,
    /// Its own port: 80, 53/udp
    port: Option<String>,
}

/// `top`.
pub async fn top(context: &Context, args: TopArgs) -> anyhow::Result<()> {
    // What follows the container goes to ps, all but our own flag: ps has none of that name.
    let (ours, options): (Vec<&str>, Vec<&str>) =
        args.words[1..].iter().map(String::as_str).partition(|word| *word == "--json");
    let options = options.join(" ");
    let call = context.client.get(container(&args.words[0], "/top")).query_some("ps_args", Some(options));
    let answer: Value = call.fetch().await?;
    if context.json || !ours.is_empty() {
        return output::json(&answer);
    }
    let rows = std::iter::once(&answer["Titles"]).chain(list(&answer["Processes"]));
    let rows: Vec<Vec<&str>> = rows.map(|r| list(r).iter().filter_map(Value::as_str).collect()).collect();
    let width = |column: usize| rows.iter().filter_map(|r| r.get(column)).map(|c| c.len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        output::line(cells.join("   ").trim_end())?;
    }
    Ok(())
}

/// `diff`.
pub async fn diff(context: &Context, args: DiffArgs) -> anyhow::Result<()> {
    let changes: Value = context.client.get(container(&args.container, "/changes")).fetch().await?;
    if context.json {
        return output::json(&changes);
    }
    for change in list(&changes) {
        let kind = match change["Kind"].as_u64() {
            Some(1) => "A",
            Some(2) => "D",
            _ => "C",
        };
        output::line(format!("{kind} {}", text(change, "Path")))?;
    }
    Ok(())
}

/// `port`.
pub async fn port(context: &Context, args: PortArgs) -> anyhow::Result<()> {
    let facts: Value = context.client.get(container(&args.container, "/json")).fetch().await?;
    let ports = &facts["NetworkSettings"]["Ports"];
    let wanted = args.port.map(|p| if p.contains('/') { p } else { format!("{p}/tcp") });
    if context.json {
        return output::json(wanted.as_deref().map_or(ports, |w| &ports[w]));
    }
    let address = |b: &Value| {
        let ip = text(b, "HostIp");
        let ip = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        format!("{ip}:{}", text(b, "HostPort"))
    };
    if let Some(wanted) = wanted {
        let bindings = list(&ports[wanted.as_str()]);
        if bindings.is_empty() {
            return Err(failed(
                1,
                format!("Error: No public port '{wanted}' published for {}", args.container),
            ));
        }
        return bindings.iter().try_for_each(|b| output::line(address(b)));
    }
    for (inside, bindings) in ports.as_object().into_iter().flatten() {
        list(bindings).iter().try_for_each(|b| output::line(format!("{inside} -> {}", address(b))))?;
    }
    Ok(())
}
