//! `network limit …`.

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use crate::{
    client::segment,
    context::Context,
    output::{
        self, Table,
        human::{list, text},
    },
};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  weft network limit web --ingress 100mbit --egress 100mbit\n  \
    weft network limit db --egress 8mbit\n  weft network limit web --clear\n  weft network limit\n\n\
    Rates are tc's: kbit, mbit, gbit are bits a second; kbps, mbps, gbps bytes. Ingress is what containers receive. A \
    network's limit is for all its containers together, a container's for each of its interfaces.")]
pub struct LimitArgs {
    /// Most that may be received
    #[arg(long, value_name = "RATE", allow_hyphen_values = true)]
    ingress: Option<String>,
    /// Most that may be sent
    #[arg(long, value_name = "RATE", allow_hyphen_values = true)]
    egress: Option<String>,
    /// Take what is there away first
    #[arg(long)]
    clear: bool,
    /// The network or container; all that have limits if none is named
    #[arg(required_if_eq("clear", "true"), value_name = "NETWORK|CONTAINER")]
    target: Option<String>,
}

/// `network limit …`.
pub async fn limit(context: &Context, args: LimitArgs) -> anyhow::Result<()> {
    let native = context.native();
    let change = args.clear || args.ingress.is_some() || args.egress.is_some();
    let Some(target) = &args.target else {
        if change {
            return Err(crate::failure::usage("whose limit is meant? NETWORK or CONTAINER is expected"));
        }
        return show(context, &native.get("/v1/limits").fetch().await?);
    };
    let path = format!("/v1/limits/{}", segment(target));
    if !change {
        return show(context, &native.get(path).fetch().await?);
    }
    let body = json!({"clear": args.clear, "ingress": args.ingress, "egress": args.egress});
    let answer: Value = native.call(Method::PUT, path).json(&body).fetch().await?;
    if context.json { output::json(&answer) } else { output::line(text(&answer, "name")) }
}

fn show(context: &Context, answer: &Value) -> anyhow::Result<()> {
    if context.json {
        return output::json(answer);
    }
    let mut table = Table::new(&["KIND", "NAME", "INGRESS", "EGRESS"]);
    let one = std::slice::from_ref(answer);
    for view in if answer.is_array() { list(answer) } else { one } {
        let rate = |key: &str| view["limit"][key].as_str().unwrap_or("-").to_owned();
        table.row([text(view, "kind").into(), text(view, "name").into(), rate("ingress"), rate("egress")]);
    }
    table.print()
}
