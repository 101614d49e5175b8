//! `explain FROM TO [tcp|udp|icmp] [PORT]`: each hop of a packet, or what drops it and what to do about it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

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
    weft explain outside@10.9.0.5%eth1 web 80\n  \
    weft explain web.front db.back 5432  by their addresses on these networks\n  \
    weft explain --watch web db tcp 5432 packets as they pass, until Ctrl-C\n\n\
    FROM and TO are one of\n  \
    CONTAINER                  by name, id or the beginning of an id\n  \
    CONTAINER.NETWORK          by its address on that network\n  \
    ADDRESS                    whoever has it\n  \
    host                       this machine\n  \
    outside                    somebody beyond it, where the default route leads\n  \
    outside@INTERFACE          somebody behind that interface\n  \
    outside@ADDRESS            that one, behind the interface that routes name\n  \
    outside@ADDRESS%INTERFACE  that one, coming by this interface: what rp_filter decides about\n\
    TO may also be what FROM, a container, calls somebody: a name, alias or host name on its networks, a link, or\n\
    a name given with --add-host. Both ends speak one family, IPv4 if they can; an address decides.\n\n\
    Exit codes: 0 it passes, 1 it is dropped or cannot be told.")]
pub struct ExplainArgs {
    /// Follow real packets, with each rule that decides about them, and tell when the explanation changes
    #[arg(long)]
    watch: bool,
    /// Who sends, see below
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
        let answer = asked("/v1/explain/watch").send().await?;
        return watch(context, JsonStream::new(answer.into_body()), || asked("/v1/explain")).await;
    }
    let answer: Value = asked("/v1/explain").fetch().await?;
    if context.json {
        output::json(&answer)?;
    } else {
        output::line(shown(&answer))?;
    }
    if text(&answer, "verdict") == "passes" { Ok(()) } else { Err(exit(1)) }
}

/// A trace ends with its daemon.
const GONE: &str = "the daemon has ended, and with it the watch: begin it again when the daemon is back";

/// How often it is looked whether the explanation has changed: what drops packets before any rule shows in no trace.
const LOOK: Duration = Duration::from_secs(2);

async fn watch<'a>(
    context: &Context,
    mut events: JsonStream,
    explain: impl Fn() -> Call<'a>,
) -> anyhow::Result<()> {
    if !context.json {
        output::note("watching; Ctrl-C ends it");
    }
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut last, mut known) = (Value::Null, Value::Null);
    loop {
        let event = tokio::select! {
            event = events.next() => event.context(GONE)?,
            _ = looks.tick() => {
                let now = changed(explain().fetch::<Value>().await);
                if uncounted(&now) != uncounted(&known) {
                    told(context, &now)?;
                    known = now;
                }
                continue;
            }
        };
        let Some(event) = event else { bail!(GONE) };
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
}

/// Of an explanation, what is worth a word when it changes. One that is refused (the container is gone) is a change, too.
fn changed(explained: anyhow::Result<Value>) -> Value {
    match explained {
        Ok(answer) => {
            let part = |key: &str| (key.to_owned(), answer[key].clone());
            ["packet", "ends", "verdict", "reason", "remedy"].into_iter().map(part).collect()
        }
        Err(error) => json!({"verdict": "unclear", "reason": error.to_string()}),
    }
}

/// Without the counters of rules that are named, which packets change.
fn uncounted(explained: &Value) -> String {
    let all = explained.to_string();
    let mut words: Vec<&str> = all.split(' ').collect();
    for at in 1..words.len() {
        if matches!(words[at - 1], "packets" | "bytes") {
            words[at] = "";
        }
    }
    words.join(" ")
}

fn told(context: &Context, now: &Value) -> anyhow::Result<()> {
    if context.json {
        return output::json_line(&json!({ "explained": now }));
    }
    output::line(headed(now))?;
    ending(now).iter().try_for_each(output::line)
}

/// The packet, by addresses and by names.
fn headed(answer: &Value) -> String {
    match text(answer, "ends") {
        "" => text(answer, "packet").to_owned(),
        ends => format!("{}  ({ends})", text(answer, "packet")),
    }
}

/// How it ends, and what to do about it.
fn ending(answer: &Value) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", text(answer, "verdict"), text(answer, "reason"))];
    if !text(answer, "remedy").is_empty() {
        lines.push(format!("what to do: {}", text(answer, "remedy")));
    }
    lines
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
    let mut lines = vec![headed(answer)];
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
    lines.extend(ending(answer));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_change_is_the_end_of_the_way_and_not_each_hop() {
        let answer = |verdict: &str, hops: &str| json!({"packet": "tcp a -> b:1", "ends": "a.n -> b.n", "verdict": verdict, "hops": [hops]});
        let seen = |verdict: &str, hops: &str| changed(Ok(answer(verdict, hops)));
        assert_eq!(seen("passes", "counter packets 1"), seen("passes", "counter packets 2"));
        assert_ne!(seen("passes", ""), seen("dropped", ""));
        let counted = |packets: u8, of: &str| {
            uncounted(&json!({"reason": format!("rule 7 of {of}: counter packets {packets} bytes 9 drop")}))
        };
        assert_eq!(counted(1, "ip x f"), counted(2, "ip x f"));
        assert_ne!(counted(1, "ip x f"), counted(1, "ip y f"));
        let gone = changed(Err(anyhow::anyhow!("No such container: b")));
        assert_eq!(ending(&gone), ["unclear: No such container: b"]);
        assert_eq!(headed(&answer("", "")), "tcp a -> b:1  (a.n -> b.n)");
    }
}
