//! `explain FROM TO [tcp|udp|icmp] [PORT]`: each hop of a packet, or what drops it and what to do about it.

use clap::Args;
use serde_json::Value;

use crate::{
    client::{Call, JsonStream},
    context::Context,
    failure::{exit, usage},
    output::{
        self,
        human::{list, text},
    },
};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  weft explain web db tcp 5432         from one container to another\n  \
    weft explain outside host 8080       from the world to a published port\n  \
    weft explain web outside             a ping out\n  \
    weft explain outside@eth0 10.1.0.2 udp 53\n  \
    weft explain --watch web db tcp 5432 packets as they pass, until Ctrl-C\n\n\
    FROM and TO are a container, an address, `host`, or `outside` (`outside@INTERFACE`, `outside@ADDRESS`); TO may be\n\
    a name that FROM can resolve. Exit codes: 0 it passes, 1 it is dropped or cannot be told.")]
pub struct ExplainArgs {
    /// Follow real packets, with each rule that decides about them
    #[arg(long)]
    watch: bool,
    /// Who sends
    from: String,
    /// To whom
    to: String,
    /// tcp, udp, sctp or icmp; or the port, of tcp
    protocol: Option<String>,
    /// The destination port
    port: Option<String>,
}

/// Protocol and port, as they were written: `tcp 80`, `80`, `80/tcp`, `icmp`.
fn service(protocol: Option<&str>, port: Option<&str>) -> anyhow::Result<(String, String)> {
    let number = |text: &str| match text.parse::<u16>() {
        Ok(1..) => Ok(text.to_owned()),
        _ => Err(usage(format!("invalid port: {text}"))),
    };
    Ok(match (protocol.unwrap_or_default(), port) {
        (first, None) if first.starts_with(|c: char| c.is_ascii_digit()) => match first.split_once('/') {
            Some((port, protocol)) => (protocol.to_owned(), number(port)?),
            None => ("tcp".into(), number(first)?),
        },
        (protocol, None) => (protocol.to_owned(), String::new()),
        (protocol, Some(port)) => (protocol.to_owned(), number(port)?),
    })
}

/// Explains, or watches.
pub async fn explain(context: &Context, args: ExplainArgs) -> anyhow::Result<()> {
    let (protocol, port) = service(args.protocol.as_deref(), args.port.as_deref())?;
    let client = context.native();
    let asked = |path: &str| -> Call<'_> {
        let call = client.get(path).query("from", &args.from).query("to", &args.to);
        call.query_some("protocol", Some(&protocol)).query_some("port", Some(&port))
    };
    if args.watch {
        return watch(context, asked("/v1/explain/watch")).await;
    }
    let answer: Value = asked("/v1/explain").fetch().await?;
    if context.json {
        output::json(&answer)?;
    } else {
        output::line(shown(&answer))?;
    }
    if text(&answer, "verdict") == "passes" { Ok(()) } else { Err(exit(1)) }
}

async fn watch(context: &Context, call: Call<'_>) -> anyhow::Result<()> {
    let answer = call.send().await?;
    if !context.json {
        output::note("watching; Ctrl-C ends it");
    }
    let mut events = JsonStream::new(answer.into_body());
    let mut last = Value::Null;
    while let Some(event) = events.next().await? {
        if context.json {
            output::json_line(&event)?;
            continue;
        }
        if event["packet"] != last {
            last = event["packet"].clone();
            output::line(format!("packet {:08x}  {}", last.as_u64().unwrap_or(0), text(&event, "what")))?;
        }
        output::line(passed(&event))?;
    }
    Ok(())
}

/// One event of a trace.
fn passed(event: &Value) -> String {
    let rule = &event["rule"];
    let at = format!("{} {} {}", text(rule, "family"), text(rule, "table"), text(rule, "chain"));
    let first = text(event, "verdict") == "seen";
    let at = if first { format!("{} prerouting or output", text(rule, "family")) } else { at };
    let links = format!("{} > {}", text(event, "input"), text(event, "output"));
    let links = links.trim_matches([' ', '>']).to_owned();
    let rule = if first { String::new() } else { described(rule) };
    format!("  {:<9} {at:<32} {links:<24} {rule}", text(event, "verdict")).trim_end().to_owned()
}

/// A rule: handle, comment, text.
fn described(rule: &Value) -> String {
    let comment = text(rule, "comment");
    let comment = if comment.is_empty() { String::new() } else { format!(" ({comment})") };
    match rule["handle"].as_u64() {
        Some(handle) => format!("rule {handle}{comment}: {}", text(rule, "text")),
        None => text(rule, "text").to_owned(),
    }
}

/// The whole way, one line for each hop.
fn shown(answer: &Value) -> String {
    let mut lines = vec![text(answer, "packet").to_owned()];
    let hops = list(&answer["hops"]);
    let width = hops.iter().map(|h| text(h, "place").chars().count()).max().unwrap_or(0);
    let mut back = false;
    for hop in hops {
        if hop["answer"] == true && !back {
            back = true;
            lines.push("and the answer".into());
        }
        let mark = match text(hop, "verdict") {
            "passes" => " ",
            "dropped" => "X",
            _ => "?",
        };
        let mut line =
            format!("{mark} {:<width$}  {:<9} {}", text(hop, "place"), text(hop, "kind"), text(hop, "text"));
        let rule = &hop["rule"];
        if rule.is_object() {
            let at = format!("{} {} {}", text(rule, "family"), text(rule, "table"), text(rule, "chain"));
            line += &format!("\n  {:width$}            {at}, {}", "", described(rule));
        }
        lines.push(line.trim_end().to_owned());
    }
    lines.push(format!("{}: {}", text(answer, "verdict"), text(answer, "reason")));
    if !text(answer, "remedy").is_empty() {
        lines.push(format!("what to do: {}", text(answer, "remedy")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn services_are_written_in_several_ways() {
        let check = |protocol: &str, port: Option<&str>, expected: Option<(&str, &str)>| {
            let seen = service(Some(protocol), port).ok();
            let expected = expected.map(|(a, b)| (a.to_owned(), b.to_owned()));
            assert_eq!(seen, expected, "{protocol} {port:?}");
        };
        check("tcp", Some("80"), Some(("tcp", "80")));
        check("80", None, Some(("tcp", "80")));
        check("53/udp", None, Some(("udp", "53")));
        check("icmp", None, Some(("icmp", "")));
        for (protocol, port) in [("tcp", Some("0")), ("tcp", Some("x")), ("70000", None), ("tcp", Some("-1"))]
        {
            check(protocol, port, None);
        }
    }

    #[test]
    fn a_drop_names_its_rule() {
        let rule = json!({"family": "inet", "table": "fw", "chain": "f", "handle": 7, "text": "drop", "comment": "no"});
        let hop = json!({"place": "host", "kind": "chain", "verdict": "dropped", "text": "filter", "rule": rule, "answer": false});
        let all = json!({"packet": "tcp a -> b:1", "hops": [hop], "verdict": "dropped", "reason": "r", "remedy": "do"});
        let text = shown(&all);
        assert!(text.contains("X host  chain     filter\n"), "{text}");
        assert!(text.contains("inet fw f, rule 7 (no): drop"), "{text}");
        assert!(text.ends_with("dropped: r\nwhat to do: do"), "{text}");
    }
}
