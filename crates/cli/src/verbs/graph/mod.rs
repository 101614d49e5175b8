//! `network graph`: the picture of all networks, as a tree for terminals, as SVG for people, as DOT and JSON for programs.

mod dot;
mod svg;
mod tree;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::{
    context::Context,
    output::{
        self,
        human::{list, text},
    },
};

/// How it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A tree of lines
    Text,
    /// A picture
    Svg,
    /// For Graphviz
    Dot,
    /// As it is
    Json,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  weft network graph\n  weft network graph --svg networks.svg\n  weft network graph --svg - | display\n  \
    weft network graph --format dot | dot -Tpng > networks.png"
)]
pub struct GraphArgs {
    /// Write a picture to this file; - is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "format")]
    svg: Option<std::path::PathBuf>,
    /// How it is drawn [default: text]
    #[arg(long, value_enum)]
    format: Option<Format>,
}

/// Draws.
pub async fn graph(context: &Context, args: GraphArgs) -> anyhow::Result<()> {
    let graph: Value = context.native().get("/v1/graph").fetch().await?;
    if let Some(file) = args.svg.as_ref().filter(|file| file.as_os_str() != "-") {
        return std::fs::write(file, svg::draw(&graph))
            .with_context(|| format!("writing {}", file.display()));
    }
    let other = if context.json { Format::Json } else { Format::Text };
    match args.format.unwrap_or(if args.svg.is_some() { Format::Svg } else { other }) {
        Format::Text => output::line(tree::draw(&graph)),
        Format::Svg => output::line(svg::draw(&graph)),
        Format::Dot => output::line(dot::draw(&graph)),
        Format::Json => output::json(&graph),
    }
}

/// `0.0.0.0:8080->80/tcp`, each.
fn published(port: &Value) -> Vec<String> {
    let one = |p: &Value| {
        let ip = text(p, "host_ip");
        let ip = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        format!("{ip}:{}->{}/{}", p["host_port"], p["container_port"], text(p, "protocol"))
    };
    list(&port["publish"]).iter().map(one).collect()
}

/// `10.1.0.0/24 gateway 10.1.0.1`, each.
fn subnets(network: &Value) -> Vec<String> {
    let one = |s: &Value| {
        let net = s[0].as_str().unwrap_or_default();
        s[1].as_str().map_or_else(|| net.to_owned(), |gateway| format!("{net} gateway {gateway}"))
    };
    list(&network["subnets"]).iter().map(one).collect()
}

/// What a network lets pass, in a few words.
fn traits(network: &Value) -> Vec<&'static str> {
    let mut words = Vec::new();
    if network["internal"] == true {
        words.push("internal");
    } else if network["masquerade"] == false && text(network, "kind") == "bridge" {
        words.push("not masqueraded");
    }
    if network["inter_container"] == false {
        words.push("containers apart");
    }
    if network["up"] == false && !text(network, "link").is_empty() {
        words.push("down");
    }
    words
}

/// Addresses as text, but for those that every link has of itself.
fn addresses(of: &Value) -> Vec<String> {
    let all = list(&of["addresses"]).iter().filter_map(Value::as_str);
    all.filter(|a| !a.starts_with("fe80:")).map(str::to_owned).collect()
}

#[cfg(test)]
fn example() -> Value {
    serde_json::json!({
        "host": "h1",
        "links": [["eth0", {"kind": "", "up": true, "mtu": 1500, "addresses": ["192.0.2.1/24"]}]],
        "networks": [
            {"name": "web", "kind": "bridge", "link": "wfb1", "up": true, "internal": false, "masquerade": true,
             "inter_container": true, "subnets": [["10.1.0.0/24", "10.1.0.1"]],
             "ports": [{"container": "app<1>", "state": "running", "id": "aa", "ifname": "eth0", "link": "wfp1",
                 "addresses": ["10.1.0.2/24"], "default_route": true,
                 "publish": [{"host_ip": "0.0.0.0", "host_port": 8080, "container_port": 80, "protocol": "tcp"}]}]},
            {"name": "db", "kind": "bridge", "link": "wfb2", "up": true, "internal": true, "masquerade": true,
             "inter_container": true, "subnets": [["10.2.0.0/24", "10.2.0.1"]],
             "ports": [{"container": "app<1>", "state": "running", "id": "aa", "ifname": "eth1", "link": "wfp2",
                 "addresses": ["10.2.0.2/24"], "default_route": false, "publish": []}]},
            {"name": "none", "kind": "none", "link": "", "up": false, "internal": false, "masquerade": true,
             "inter_container": true, "subnets": [], "ports": []},
        ],
        "on_host": ["probe"],
    })
}
