//! `network set`: what changes about a network while containers are on it.

use clap::Args;
use serde_json::{Value, json};

use crate::{client::segment, context::Context, failure::usage, output};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  weft network set web --subnet 10.9.0.0/23\n  \
    weft network set web --add-subnet 10.10.0.0/24 --gateway 10.10.0.254\n  \
    weft network set web --subnet 10.9.0.0/23 --ip-range 10.9.1.0/24")]
pub struct SetArgs {
    /// Larger subnet that one of the network's grows to
    #[arg(long, value_name = "CIDR")]
    subnet: Option<String>,
    /// Further subnet
    #[arg(long, value_name = "CIDR")]
    add_subnet: Vec<String>,
    /// Gateway of a further subnet
    #[arg(long, value_name = "IP")]
    gateway: Vec<String>,
    /// Range that containers get addresses from, of a further subnet or of one that is there
    #[arg(long, value_name = "CIDR")]
    ip_range: Vec<String>,
    /// The network
    network: String,
}

/// `network set`.
pub async fn set(context: &Context, args: SetArgs) -> anyhow::Result<()> {
    let body = body(&args)?;
    let path = format!("/v1/networks/{}/set", segment(&args.network));
    let answer: Value = context.native().post(path).json(&body).fetch().await?;
    if context.json { output::json(&answer) } else { output::line(&args.network) }
}

fn body(args: &SetArgs) -> anyhow::Result<Value> {
    if args.subnet.is_none() && args.add_subnet.is_empty() && args.ip_range.is_empty() {
        return Err(usage("--subnet, --add-subnet or --ip-range is needed"));
    }
    let mut add: Vec<Value> = args.add_subnet.iter().map(|cidr| json!({"subnet": cidr})).collect();
    for gateway in &args.gateway {
        let one = fitting(&mut add, "gateway", gateway);
        one.ok_or_else(|| usage(format!("no --add-subnet for gateway {gateway}")))?["gateway"] =
            json!(gateway);
    }
    let mut ranges = Vec::new();
    for range in &args.ip_range {
        match fitting(&mut add, "range", range) {
            Some(one) => one["range"] = json!(range),
            // The network knows its subnets.
            None => ranges.push(range),
        }
    }
    Ok(json!({"subnet": args.subnet, "ranges": ranges, "add": add}))
}

/// The further subnet that a word is in, and that has no other for it.
fn fitting<'a>(add: &'a mut [Value], key: &str, word: &str) -> Option<&'a mut Value> {
    let holds = |one: &Value| super::network::within(one["subnet"].as_str().unwrap_or_default(), word);
    add.iter_mut().find(|one| one.get(key).is_none() && holds(one))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SetArgs,
    }

    fn made(line: &str) -> anyhow::Result<Value> {
        body(&Line::try_parse_from(std::iter::once("set").chain(line.split_whitespace()))?.args)
    }

    #[test]
    fn gateways_go_to_their_subnets() {
        assert_eq!(
            made("web --subnet 10.1.0.0/16").unwrap(),
            json!({"subnet": "10.1.0.0/16", "ranges": [], "add": []})
        );
        assert_eq!(
            made("web --ip-range 10.9.1.0/25 --add-subnet 10.1.0.0/24 --ip-range 10.1.0.128/25").unwrap(),
            json!({"subnet": null, "ranges": ["10.9.1.0/25"], "add": [{"subnet": "10.1.0.0/24", "range": "10.1.0.128/25"}]})
        );
        assert_eq!(
            made("web --add-subnet 10.1.0.0/24 --add-subnet fd00::/64 --gateway fd00::9").unwrap(),
            json!({"subnet": null, "ranges": [], "add": [{"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64", "gateway": "fd00::9"}]})
        );
        for line in [
            "web",
            "web --add-subnet 10.1.0.0/24 --gateway 10.2.0.1",
            "web --subnet 10.0.0.0/8 --gateway 10.0.0.9",
        ] {
            assert!(made(line).is_err(), "{line}");
        }
    }
}
