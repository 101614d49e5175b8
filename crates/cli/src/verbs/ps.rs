//! `ps`: containers as a table.

use clap::Args;
use serde_json::Value;

use super::filters;
use crate::{
    context::Context,
    output::{
        self, Table,
        human::{self, list, text},
    },
};

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  weft ps -a\n  weft ps -f status=exited -f label=app=web\n  weft ps --json | jq '.[].Names'\n\n\
    Go templates (--format) are not supported: use --json."
)]
pub struct PsArgs {
    /// Stopped ones, too
    #[arg(short = 'a', long)]
    all: bool,
    /// Only what matches: name=, status=, label=, ancestor=, network=, volume=, health=, exited=, publish=, …
    #[arg(short = 'f', long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// The last N made, whatever their state
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<i64>,
    /// The last one made
    #[arg(short = 'l', long)]
    latest: bool,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Only ids
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Their sizes, too
    #[arg(short = 's', long)]
    size: bool,
}

/// Lists containers.
pub async fn ps(context: &Context, args: PsArgs) -> anyhow::Result<()> {
    let limit = if args.latest { Some(1) } else { args.last.filter(|n| *n > 0) };
    let call = context.client.get("/containers/json").flag("all", args.all).flag("size", args.size);
    let call = call.query_some("limit", limit).query_some("filters", filters(&args.filter)?);
    let all: Value = call.fetch().await?;
    if context.json {
        return output::json(&all);
    }
    let id = |c: &Value| if args.no_trunc { text(c, "Id").to_owned() } else { human::short(text(c, "Id")) };
    if args.quiet {
        return list(&all).iter().try_for_each(|c| output::line(id(c)));
    }
    if args.size {
        let mut table =
            Table::new(&["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES", "SIZE"]);
        for c in list(&all) {
            let [a, b, d, e, f, g, h] = cells(c, id(c), args.no_trunc);
            table.row([a, b, d, e, f, g, h, size(c)]);
        }
        return table.print();
    }
    let mut table = Table::new(&["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    list(&all).iter().for_each(|c| table.row(cells(c, id(c), args.no_trunc)));
    table.print()
}

fn cells(c: &Value, id: String, whole: bool) -> [String; 7] {
    let command = text(c, "Command");
    let command = if whole { command.to_owned() } else { human::ellipsis(command, 20) };
    let image = text(c, "Image");
    let image = if whole || !image.starts_with("sha256:") { image.to_owned() } else { human::short(image) };
    let created = human::ago(c["Created"].as_i64().unwrap_or(0));
    let names: Vec<&str> =
        list(&c["Names"]).iter().filter_map(Value::as_str).map(|n| n.trim_start_matches('/')).collect();
    // A name with a slash is a link's.
    let names: Vec<&str> = names.iter().copied().filter(|n| whole || !n.contains('/')).collect();
    [
        id,
        image,
        format!("\"{command}\""),
        created,
        text(c, "Status").to_owned(),
        ports(&c["Ports"]),
        names.join(","),
    ]
}

fn size(c: &Value) -> String {
    let of = |key: &str| c[key].as_f64().unwrap_or(0.0);
    format!("{} (virtual {})", human::size(of("SizeRw")), human::size(of("SizeRootFs")))
}

/// `0.0.0.0:8080->80/tcp, 90/tcp`, runs of ports joined.
fn ports(ports: &Value) -> String {
    let number = |p: &Value, key: &str| p[key].as_u64().unwrap_or(0);
    let key = |p: &Value| (text(p, "Type").to_owned(), text(p, "IP").to_owned());
    let mut all: Vec<&Value> = list(ports).iter().collect();
    all.sort_by_key(|p| (key(p), number(p, "PrivatePort"), number(p, "PublicPort")));
    let mut runs: Vec<(&Value, &Value)> = Vec::new();
    for port in all {
        if let Some((_, last)) = runs.last_mut()
            && key(last) == key(port)
            && number(last, "PrivatePort") + 1 == number(port, "PrivatePort")
            && ((number(last, "PublicPort") == 0 && number(port, "PublicPort") == 0)
                || number(last, "PublicPort") + 1 == number(port, "PublicPort"))
        {
            *last = port;
        } else {
            runs.push((port, port));
        }
    }
    let span = |a: u64, b: u64| if a == b { a.to_string() } else { format!("{a}-{b}") };
    let one = |(first, last): &(&Value, &Value)| {
        let inside = span(number(first, "PrivatePort"), number(last, "PrivatePort"));
        let kind = text(first, "Type");
        if number(first, "PublicPort") == 0 {
            return format!("{inside}/{kind}");
        }
        let ip = text(first, "IP");
        let ip = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        format!("{ip}:{}->{inside}/{kind}", span(number(first, "PublicPort"), number(last, "PublicPort")))
    };
    runs.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_are_joined_and_ordered() {
        let port = |ip: &str, inside: u16, outside: u16| json!({"IP": ip, "PrivatePort": inside, "PublicPort": outside, "Type": "tcp"});
        for (input, expected) in [
            (json!(null), ""),
            (json!([{"PrivatePort": 80, "Type": "tcp"}]), "80/tcp"),
            (json!([port("0.0.0.0", 80, 8080)]), "0.0.0.0:8080->80/tcp"),
            (json!([port("0.0.0.0", 81, 8081), port("0.0.0.0", 80, 8080)]), "0.0.0.0:8080-8081->80-81/tcp"),
            (
                json!([port("::", 80, 8080), port("0.0.0.0", 80, 8080)]),
                "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
            ),
        ] {
            assert_eq!(ports(&input), expected);
        }
    }
}
