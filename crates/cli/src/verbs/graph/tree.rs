//! A tree of lines: the host, its interfaces, its networks, who is on them.

use serde_json::Value;

use super::{addresses, published, subnets, traits};
use crate::output::human::{list, text};

/// A line with what hangs below it.
struct Node {
    line: String,
    below: Vec<Node>,
}

impl Node {
    fn leaf(line: String) -> Self {
        Self { line, below: Vec::new() }
    }

    fn draw(&self, first: &str, rest: &str, out: &mut Vec<String>) {
        out.push(format!("{first}{}", self.line));
        for (n, node) in self.below.iter().enumerate() {
            let last = n + 1 == self.below.len();
            let (branch, trunk) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            node.draw(&format!("{rest}{branch}"), &format!("{rest}{trunk}"), out);
        }
    }
}

/// Draws it.
pub(super) fn draw(graph: &Value) -> String {
    let mut host = Node::leaf(format!("host {}", text(graph, "host")));
    for link in list(&graph["links"]) {
        let (name, seen) = (link[0].as_str().unwrap_or_default(), &link[1]);
        let state = if seen["up"] == true { "" } else { ", down" };
        let line = format!("{name}  {}", addresses(seen).join(", "));
        host.below.push(Node::leaf(format!("{}{state}", line.trim_end())));
    }
    for name in list(&graph["on_host"]) {
        host.below.push(Node::leaf(format!(
            "container {} (the host's own stack)",
            name.as_str().unwrap_or_default()
        )));
    }
    host.below.extend(list(&graph["networks"]).iter().filter(|n| shown(n)).map(network));
    let mut lines = Vec::new();
    host.draw("", "", &mut lines);
    lines.join("\n")
}

/// `host` and `none` are no networks to draw.
pub(super) fn shown(network: &Value) -> bool {
    !matches!(text(network, "kind"), "host" | "none") || !list(&network["ports"]).is_empty()
}

fn network(network: &Value) -> Node {
    let mut words = vec![text(network, "kind").to_owned()];
    words.extend([text(network, "link").to_owned()].into_iter().filter(|l| !l.is_empty()));
    words.extend(traits(network).into_iter().map(str::to_owned));
    let line =
        format!("network {} ({})  {}", text(network, "name"), words.join(", "), subnets(network).join(", "));
    let mut node = Node::leaf(line.trim_end().to_owned());
    for port in list(&network["ports"]) {
        let state = match text(port, "state") {
            "running" => String::new(),
            other => format!(" ({other})"),
        };
        let ways = (port["default_route"] == true, port["default_route_v6"] == true);
        let has = |v6: bool| addresses(port).iter().any(|a| a.contains(':') == v6);
        // Which family it is goes without saying where the port has no other.
        let way = match ways {
            (false, false) => "",
            (true, false) if has(true) => ", way out of IPv4",
            (false, true) if has(false) => ", way out of IPv6",
            _ => ", way out",
        };
        let line = format!(
            "{}{state}  {} {}{way}",
            text(port, "container"),
            text(port, "ifname"),
            addresses(port).join(", ")
        );
        let below = published(port).into_iter().map(|p| Node::leaf(format!("published {p}"))).collect();
        node.below.push(Node { line, below });
    }
    node
}

#[cfg(test)]
mod tests {
    #[test]
    fn everything_hangs_where_it_belongs() {
        let text = super::draw(&super::super::example());
        let expected = "\
host h1
├─ eth0  192.0.2.1/24
├─ container probe (the host's own stack)
├─ network web (bridge, wfb1)  10.1.0.0/24 gateway 10.1.0.1
│  └─ app<1>  eth0 10.1.0.2/24, way out
│     └─ published 0.0.0.0:8080->80/tcp
└─ network db (bridge, wfb2, internal)  10.2.0.0/24 gateway 10.2.0.1
   └─ app<1>  eth1 10.2.0.2/24";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_way_out_of_one_family_is_named() {
        let way = |addresses: [&str; 2], v4: bool, v6: bool| {
            let mut all = super::super::example();
            let port = &mut all["networks"][0]["ports"][0];
            port["addresses"] = addresses.into();
            (port["default_route"], port["default_route_v6"]) = (v4.into(), v6.into());
            let text = super::draw(&all);
            let line = text.lines().find(|line| line.contains("app<1>")).unwrap_or_default();
            line.split_once("way out").map_or(String::new(), |(_, rest)| format!("way out{rest}"))
        };
        let both = ["10.1.0.2/24", "fd00::2/64"];
        assert_eq!(way(both, true, true), "way out");
        assert_eq!(way(both, true, false), "way out of IPv4");
        assert_eq!(way(both, false, true), "way out of IPv6");
        assert_eq!(way(both, false, false), "");
        assert_eq!(way(["10.1.0.2/24", "fe80::2/64"], true, false), "way out");
    }
}
