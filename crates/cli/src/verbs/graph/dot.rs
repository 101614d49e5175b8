//! The picture in Graphviz' language.

use serde_json::Value;

use super::{addresses, published, subnets, traits, tree::shown};
use crate::output::human::{list, text};

/// A quoted string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// Draws it.
pub(super) fn draw(graph: &Value) -> String {
    let mut lines = vec![
        "graph weft {".to_owned(),
        "  rankdir=LR; node [fontname=\"sans-serif\", shape=box];".to_owned(),
    ];
    let links: Vec<String> = list(&graph["links"])
        .iter()
        .map(|l| format!("{} {}", l[0].as_str().unwrap_or_default(), addresses(&l[1]).join(" ")))
        .collect();
    let label = format!("{}\n{}", text(graph, "host"), links.join("\n"));
    lines.push(format!("  host [label={}, style=filled, fillcolor=\"#e8eef7\"];", quoted(label.trim_end())));
    let mut seen = std::collections::BTreeSet::new();
    for network in list(&graph["networks"]).iter().filter(|n| shown(n)) {
        let name = quoted(&format!("network {}", text(network, "name")));
        let about = [subnets(network), traits(network).into_iter().map(str::to_owned).collect()].concat();
        let label = quoted(format!("{}\n{}", text(network, "name"), about.join("\n")).trim_end());
        lines.push(format!("  {name} [label={label}, shape=ellipse, style=filled, fillcolor=\"#eaf5ea\"];"));
        let style = if network["internal"] == true { " [style=dashed]" } else { "" };
        lines.push(format!("  host -- {name}{style};"));
        for port in list(&network["ports"]) {
            let id = quoted(text(port, "id"));
            if seen.insert(text(port, "id")) {
                lines.push(format!("  {id} [label={}];", quoted(text(port, "container"))));
            }
            let label = [vec![text(port, "ifname").to_owned()], addresses(port), published(port)].concat();
            lines.push(format!("  {name} -- {id} [label={}];", quoted(&label.join("\n"))));
        }
    }
    lines.push("}".into());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_container_on_two_networks_is_one_node() {
        let text = super::draw(&super::super::example());
        assert_eq!(text.matches("\n  \"aa\" [label=").count(), 1, "{text}");
        assert_eq!(text.matches(" -- \"aa\"").count(), 2, "{text}");
        assert!(text.contains("host -- \"network db\" [style=dashed];"), "{text}");
        assert_eq!(super::quoted("a\"b"), "\"a\\\"b\"");
    }
}
