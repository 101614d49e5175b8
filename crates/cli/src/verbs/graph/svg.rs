//! The picture as one self-contained SVG: no fonts, scripts or files besides it, readable in light and dark surroundings.
//!
//! ```text
//!  host and its       networks,             containers, each once, beside the first network it is on,
//!  interfaces    ───  one below the    ───  with a line from every network it is on to the
//!                     other                 interface that is plugged into it
//! ```

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;

use super::{addresses, published, subnets, traits, tree::shown};
use crate::output::human::{list, text};

const MARGIN: usize = 24;
/// Left edges and widths of the three columns.
const HOST: (usize, usize) = (MARGIN, 220);
const NETWORK: (usize, usize) = (330, 270);
const CONTAINER: (usize, usize) = (740, 270);
const LINE: usize = 18;
const GAP: usize = 22;
/// Characters that fit a column at this size of letters.
const FITS: usize = 38;

const STYLE: &str = "text{font:13px ui-sans-serif,system-ui,sans-serif;fill:#1d2733}.n{font-weight:600;font-size:14px}\
.s{fill:#586474;font-size:12px}rect{stroke-width:1.4}.h{fill:#e8eef7;stroke:#5b7bb0}\
.b{fill:#eaf5ea;stroke:#5a9a5f}.i{fill:#fbf1e2;stroke:#c08a35}.c{fill:#fff;stroke:#8792a0}.o{stroke-dasharray:4 3}\
path{fill:none;stroke:#9aa5b1;stroke-width:1.4}.d{stroke-dasharray:5 4}";

/// A box: title, further lines, class.
struct Card {
    at: (usize, usize),
    width: usize,
    class: &'static str,
    title: String,
    lines: Vec<String>,
}

impl Card {
    fn height(&self) -> usize {
        18 + LINE * (1 + self.lines.len())
    }

    /// The middle of a side.
    fn middle(&self) -> usize {
        self.at.1 + self.height() / 2
    }

    /// The height of a line of text, for a wire that ends there.
    fn line(&self, nth: usize) -> usize {
        self.at.1 + 18 + LINE * (nth + 1)
    }

    fn draw(&self, out: &mut String) {
        let (x, y) = self.at;
        let (width, height) = (self.width, self.height());
        let _ = write!(
            out,
            "<rect class=\"{}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>",
            self.class
        );
        label(out, "n", (x + 12, y + 22), &self.title, FITS - 10);
        for (n, line) in self.lines.iter().enumerate() {
            label(out, "s", (x + 12, y + 22 + LINE * (n + 1)), line, FITS);
        }
    }
}

/// Text, cut to what fits; all of it is told to who points at it.
fn label(out: &mut String, class: &str, (x, y): (usize, usize), text: &str, fits: usize) {
    let short = if text.chars().count() > fits {
        text.chars().take(fits - 1).chain(['…']).collect()
    } else {
        text.to_owned()
    };
    let _ = write!(out, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}", escaped(&short));
    if short != text {
        let _ = write!(out, "<title>{}</title>", escaped(text));
    }
    out.push_str("</text>");
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn curve(out: &mut String, class: &str, from: (usize, usize), to: (usize, usize)) {
    let bend = to.0.saturating_sub(from.0) / 2;
    let _ = write!(
        out,
        "<path class=\"{class}\" d=\"M{} {}C{} {} {} {} {} {}\"/>",
        from.0,
        from.1,
        from.0 + bend,
        from.1,
        to.0 - bend,
        to.1,
        to.0,
        to.1
    );
}

/// A line from a network to one of a container's lines of text.
struct Wire {
    network: usize,
    container: usize,
    line: usize,
}

/// Where everything is.
#[derive(Default)]
struct Layout {
    networks: Vec<(Card, bool)>,
    containers: Vec<Card>,
    wires: Vec<Wire>,
}

fn layout(graph: &Value) -> Layout {
    let mut all = Layout::default();
    let mut place: BTreeMap<String, usize> = BTreeMap::new();
    let mut below = [MARGIN, MARGIN];
    for network in list(&graph["networks"]).iter().filter(|n| shown(n)) {
        let top = below[0].max(below[1]);
        let internal = network["internal"] == true;
        let mut lines = subnets(network);
        let words: Vec<&str> = std::iter::once(text(network, "link")).chain(traits(network)).collect();
        lines.push(words.into_iter().filter(|w| !w.is_empty()).collect::<Vec<_>>().join(", "));
        lines.retain(|l| !l.is_empty());
        let class = if internal { "i" } else { "b" };
        let title = text(network, "name").to_owned();
        let mut card = Card { at: (NETWORK.0, top), width: NETWORK.1, class, title, lines };
        let mut y = top;
        for port in list(&network["ports"]) {
            let known = place.get(text(port, "id")).copied();
            let container = known.unwrap_or_else(|| {
                let running = text(port, "state") == "running";
                let mut lines = every(graph, text(port, "id"));
                if !running {
                    lines.push(text(port, "state").to_owned());
                }
                let class = if running { "c" } else { "c o" };
                let card = Card {
                    at: (CONTAINER.0, y),
                    width: CONTAINER.1,
                    class,
                    title: text(port, "container").to_owned(),
                    lines,
                };
                y += card.height() + GAP;
                place.insert(text(port, "id").to_owned(), all.containers.len());
                all.containers.push(card);
                all.containers.len() - 1
            });
            // Its interfaces are in the order of networks, as the wires are.
            let line = all.wires.iter().filter(|w| w.container == container).count();
            all.wires.push(Wire { network: all.networks.len(), container, line });
        }
        // Beside the middle of its containers.
        let tall = y.saturating_sub(top + GAP);
        if tall > card.height() {
            card.at.1 = top + (tall - card.height()) / 2;
        }
        below = [card.at.1 + card.height() + GAP, y];
        all.networks.push((card, internal));
    }
    all
}

/// A container's interfaces on all networks, then what it publishes.
fn every(graph: &Value, id: &str) -> Vec<String> {
    let ports = || list(&graph["networks"]).iter().filter(|n| shown(n)).flat_map(|n| list(&n["ports"]));
    let mine = || ports().filter(|p| text(p, "id") == id);
    let interface = |p: &Value| format!("{} {}", text(p, "ifname"), addresses(p).join(" "));
    mine().map(interface).chain(mine().flat_map(published)).collect()
}

/// Draws it.
pub(super) fn draw(graph: &Value) -> String {
    let all = layout(graph);
    let mut lines: Vec<String> = Vec::new();
    for link in list(&graph["links"]) {
        let down = if link[1]["up"] == true { "" } else { " (down)" };
        lines.push(format!("{}{down}", link[0].as_str().unwrap_or_default()));
        lines.extend(addresses(&link[1]).into_iter().map(|a| format!("  {a}")));
    }
    lines.extend(list(&graph["on_host"]).iter().map(|n| format!("runs {}", n.as_str().unwrap_or_default())));
    let mut host = Card {
        at: (HOST.0, MARGIN),
        width: HOST.1,
        class: "h",
        title: text(graph, "host").to_owned(),
        lines,
    };
    let cards = all.networks.iter().map(|(c, _)| c).chain(&all.containers);
    let bottom = cards.map(|c| c.at.1 + c.height()).max().unwrap_or(0).max(MARGIN + host.height());
    host.at.1 = MARGIN + (bottom - MARGIN).saturating_sub(host.height()) / 2;
    let (width, height) = (CONTAINER.0 + CONTAINER.1 + MARGIN, bottom + MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\
         <title>Networks of {}</title><style>{STYLE}</style><rect fill=\"#fff\" width=\"100%\" height=\"100%\"/>",
        escaped(text(graph, "host"))
    );
    for (card, internal) in &all.networks {
        let class = if *internal { "d" } else { "" };
        curve(&mut out, class, (HOST.0 + HOST.1, host.middle()), (NETWORK.0, card.middle()));
    }
    for wire in &all.wires {
        let (Some((from, _)), Some(to)) =
            (all.networks.get(wire.network), all.containers.get(wire.container))
        else {
            continue;
        };
        curve(&mut out, "", (NETWORK.0 + NETWORK.1, from.middle()), (CONTAINER.0, to.line(wire.line)));
    }
    host.draw(&mut out);
    for card in all.networks.iter().map(|(c, _)| c).chain(&all.containers) {
        card.draw(&mut out);
    }
    out.push_str("</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_picture() {
        let text = draw(&super::super::example());
        assert!(text.contains("app&lt;1&gt;") && !text.contains("app<1>"), "{text}");
        assert_eq!(text.matches("<svg").count(), 1);
        assert!(text.ends_with("</svg>"));
    }

    #[test]
    fn boxes_of_a_column_do_not_overlap() {
        let mut graph = super::super::example();
        let web = graph["networks"][0].clone();
        for n in 0..5 {
            let mut more = web.clone();
            more["name"] = format!("n{n}").into();
            for (m, port) in more["ports"].as_array_mut().unwrap().iter_mut().enumerate() {
                port["id"] = format!("{n}-{m}").into();
            }
            graph["networks"].as_array_mut().unwrap().push(more);
        }
        let all = layout(&graph);
        assert!(all.containers.len() >= 6);
        for column in
            [all.networks.iter().map(|(c, _)| c).collect::<Vec<_>>(), all.containers.iter().collect()]
        {
            for pair in column.windows(2) {
                assert!(
                    pair[0].at.1 + pair[0].height() < pair[1].at.1,
                    "{} and {}",
                    pair[0].title,
                    pair[1].title
                );
            }
        }
    }
}
