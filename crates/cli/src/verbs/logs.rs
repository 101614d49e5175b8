//! `logs`.

use anyhow::Context as _;
use clap::Args;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::{container, moment, session};
use crate::{
    client::{Channel, Frames},
    context::Context,
    output,
};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  weft logs -f --tail 100 web\n  weft logs --since 10m -t web")]
pub struct LogsArgs {
    /// Go on as more is printed
    #[arg(short = 'f', long)]
    follow: bool,
    /// The attributes of log options, too
    #[arg(long)]
    details: bool,
    /// Only from then on: 10m, 2024-01-31T12:00:00, seconds since 1970
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<String>,
    /// Only until then
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<String>,
    /// Only the last N lines
    #[arg(short = 'n', long, value_name = "N", default_value = "all")]
    tail: String,
    /// With the time of each line
    #[arg(short = 't', long)]
    timestamps: bool,
    /// The container
    container: String,
}

/// Prints the log. With `--json`, each piece as `{"Stream", "Text"}`.
pub async fn logs(context: &Context, args: LogsArgs) -> anyhow::Result<()> {
    let name = args.container.as_str();
    let facts: Value = context.client.get(container(name, "/json")).fetch().await?;
    let call = context.client.get(container(name, "/logs")).query("stdout", 1).query("stderr", 1);
    let call =
        call.flag("follow", args.follow).flag("details", args.details).flag("timestamps", args.timestamps);
    let call = call.query_some("since", args.since).query_some("until", args.until).query("tail", args.tail);
    let mut body = call.send().await?.into_body();
    let tty = facts["Config"]["Tty"] == true;
    let mut frames = Frames::default();
    let show = |channel: Channel, bytes: &[u8]| {
        if context.json {
            let stream = if channel == Channel::Out { "stdout" } else { "stderr" };
            return output::json_line(&json!({"Stream": stream, "Text": String::from_utf8_lossy(bytes)}));
        }
        session::write(channel, bytes)
    };
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.context("reading the log")?.into_data() else { continue };
        if tty {
            show(Channel::Out, &bytes)?;
        } else {
            frames.feed(&bytes, show)?;
        }
    }
    Ok(())
}
