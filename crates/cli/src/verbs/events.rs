//! `events`.

use clap::Args;
use serde_json::Value;

use super::{filters, moment};
use crate::{
    client::JsonStream,
    context::Context,
    output::{self, human::text},
};

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  weft events --since 1h --until 0s\n  weft events -f type=container -f event=die --json"
)]
pub struct EventsArgs {
    /// Only what matches: type=, event=, container=, image=, network=, volume=, label=
    #[arg(short = 'f', long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// From then on
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<String>,
    /// Until then, then end
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<String>,
}

/// Prints events until there are no more.
pub async fn events(context: &Context, args: EventsArgs) -> anyhow::Result<()> {
    let call = context.client.get("/events").query_some("filters", filters(&args.filter)?);
    let call = call.query_some("since", args.since).query_some("until", args.until);
    let mut events = JsonStream::new(call.send().await?.into_body());
    while let Some(event) = events.next().await? {
        if context.json { output::json_line(&event)? } else { output::line(shown(&event))? }
    }
    Ok(())
}

fn shown(event: &Value) -> String {
    let nanoseconds =
        event["timeNano"].as_i64().unwrap_or_else(|| event["time"].as_i64().unwrap_or(0) * 1_000_000_000);
    let time = chrono::DateTime::from_timestamp_nanos(nanoseconds).with_timezone(&chrono::Local);
    let actor = &event["Actor"];
    let attributes = actor["Attributes"].as_object().into_iter().flatten();
    let attributes: Vec<String> =
        attributes.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or(""))).collect();
    let what = format!("{} {} {}", text(event, "Type"), text(event, "Action"), text(actor, "ID"));
    let time = time.format("%Y-%m-%dT%H:%M:%S%.9f%:z");
    if attributes.is_empty() {
        format!("{time} {what}")
    } else {
        format!("{time} {what} ({})", attributes.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_line_for_each() {
        let event = json!({"Type": "container", "Action": "die", "timeNano": 1_i64,
            "Actor": {"ID": "abc", "Attributes": {"exitCode": "1", "name": "x"}}});
        assert!(shown(&event).ends_with(" container die abc (exitCode=1, name=x)"), "{}", shown(&event));
    }
}
