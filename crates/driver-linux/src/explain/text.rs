//! Rules in words close to those of `nft list`, so that people find them there. For reading only: what is shortened here
//! could not be loaded again.

mod load;
mod value;

use std::collections::BTreeMap;

use weft_dataplane::insight::RuleAt;
use weft_sys::nft::seen::{
    Code, Data, Expr, NatKind, PortOf, Rule, Ruleset, Set, TableKey, VERDICT, XtMatch, XtTarget,
};

use load::{Held, length, load};
use value::{Kind, hex, states, value};

/// Beginning of the names of tables that stand for those of iptables-legacy; the text of their rules is the comment.
pub(crate) const LEGACY: &str = "iptables-legacy ";

/// Elements of a set that are shown.
const SHOWN: usize = 8;

/// A rule as it is shown.
pub(crate) fn rule_at(rules: &Ruleset, table: &TableKey, chain: &str, rule: &Rule) -> RuleAt {
    let legacy = table.1.starts_with(LEGACY);
    RuleAt {
        family: table.0.as_str().to_owned(),
        table: table.1.clone(),
        chain: chain.to_owned(),
        handle: Some(rule.handle),
        text: if legacy { rule.comment.clone() } else { text(rules, table, rule) },
        comment: if legacy { String::new() } else { undigested(&rule.comment).to_owned() },
    }
}

/// A comment without the digest that ours end in.
pub(crate) fn undigested(comment: &str) -> &str {
    comment.rsplit_once(" #").filter(|(_, digest)| digest.len() == 8).map_or(comment, |(text, _)| text)
}

fn text(rules: &Ruleset, table: &TableKey, rule: &Rule) -> String {
    let mut held: BTreeMap<usize, Held> = BTreeMap::new();
    let mut words: Vec<String> = Vec::new();
    for expr in &rule.exprs {
        words.extend(word(rules, table, &mut held, expr).filter(|w| !w.is_empty()));
    }
    // `nft` names ports by their protocol, which the kernel checks first.
    let text = words.join(" ");
    ["tcp", "udp", "sctp"].iter().fold(text, |text, protocol| {
        text.replace(&format!("meta l4proto {protocol} th "), &format!("{protocol} "))
    })
}

fn word(rules: &Ruleset, table: &TableKey, held: &mut BTreeMap<usize, Held>, expr: &Expr) -> Option<String> {
    let get = |held: &BTreeMap<usize, Held>, at: &usize| held.get(at).cloned().unwrap_or_default();
    match expr {
        Expr::Meta { to, .. } | Expr::Ct { to, .. } | Expr::Payload { to, .. } | Expr::Fib { to, .. } => {
            // What was in the registers below is overwritten.
            let covered = *to + 1..to.saturating_add(length(expr));
            held.retain(|at, _| !covered.contains(at));
            held.insert(*to, load(expr));
            None
        }
        Expr::Bitwise { from, to, mask, .. } => {
            let masked = Held { mask: mask.clone(), ..get(held, from) };
            held.insert(*to, masked);
            None
        }
        Expr::Byteorder { from, to, .. } => {
            let same = get(held, from);
            held.insert(*to, same);
            None
        }
        Expr::Cmp { from, op, value } => Some(compared(&get(held, from), *op, value)),
        Expr::Range { from, inside, first, last } => {
            let h = get(held, from);
            let not = if *inside { "" } else { "!= " };
            Some(format!("{} {not}{}-{}", h.name, value(h.kind, first), value(h.kind, last)))
        }
        Expr::Lookup { set, from, to, inverted } => {
            // A concatenation lies in registers one after the other.
            let key = (table.clone(), set.clone());
            let set_seen = rules.sets.get(&key);
            let end = from + set_seen.map_or(1, |s| s.key_length.max(1));
            let parts: Vec<&Held> = held.range(*from..end).map(|(_, h)| h).collect();
            let names: Vec<&str> = parts.iter().map(|h| h.name.as_str()).collect();
            let kind = if let [one] = parts.as_slice() { one.kind } else { Kind::Bytes };
            let shown =
                set_seen.filter(|s| s.anonymous()).map_or_else(|| format!("@{set}"), |s| elements(s, kind));
            let joined = names.join(" . ");
            if let Some(to) = to.filter(|to| *to != VERDICT) {
                let name = format!("{joined} map {shown}");
                held.insert(to, Held { name, ..Held::default() });
                return None;
            }
            let verb = match (to, inverted) {
                (Some(_), _) => "vmap ",
                (None, true) => "!= ",
                (None, false) => "",
            };
            Some(format!("{joined} {verb}{shown}"))
        }
        Expr::Immediate { to, data: Data::Value(value) } => {
            held.insert(*to, Held { name: hex(value), ..Held::default() });
            None
        }
        Expr::Immediate { data: Data::Verdict(code), .. } => Some(verdict(code)),
        Expr::Nat { kind, .. } => Some(nat(*kind).to_owned()),
        other => Some(plain(other)),
    }
}

fn plain(expr: &Expr) -> String {
    match expr {
        Expr::Counter { packets, bytes } => format!("counter packets {packets} bytes {bytes}"),
        Expr::Reject => "reject".into(),
        Expr::Log => "log".into(),
        Expr::Notrack => "notrack".into(),
        Expr::Queue => "queue".into(),
        Expr::Limit { over } => format!("limit rate {}…", if *over { "over " } else { "" }),
        Expr::SetMeta { key: 3, .. } => "meta mark set …".into(),
        Expr::SetMeta { .. } => "meta set …".into(),
        Expr::SetCt { .. } => "ct set …".into(),
        Expr::SetPayload { .. } => "payload set …".into(),
        Expr::Forward { .. } => "fwd to …".into(),
        Expr::XtMatch(m) => xt_match(m),
        Expr::XtTarget(t) => match t {
            XtTarget::Reject => "-j REJECT".into(),
            XtTarget::Masquerade => "-j MASQUERADE".into(),
            XtTarget::Destination(ip, port) => format!(
                "-j DNAT --to-destination {}{}",
                ip.map(|i| i.to_string()).unwrap_or_default(),
                port.map(|p| format!(":{p}")).unwrap_or_default()
            ),
            XtTarget::Source(ip) => {
                format!("-j SNAT --to-source {}", ip.map(|i| i.to_string()).unwrap_or_default())
            }
            XtTarget::Harmless(name) | XtTarget::Other(name) => format!("-j {name}"),
        },
        Expr::Harmless(name) | Expr::Other(name) => name.clone(),
        _ => String::new(),
    }
}

fn ports((first, last): (u16, u16)) -> String {
    if first == last { first.to_string() } else { format!("{first}:{last}") }
}

fn xt_match(m: &XtMatch) -> String {
    match m {
        XtMatch::Comment(text) => format!("/* {text} */"),
        XtMatch::State { mask, inverted } => {
            format!("{}ct state {}", if *inverted { "! " } else { "" }, states(*mask))
        }
        XtMatch::Ports { protocol, source, destination, inverted } => {
            let name = if *protocol == 6 { "tcp" } else { "udp" };
            let one = |word: &str, range: (u16, u16), not: bool| match range {
                (0, u16::MAX) => String::new(),
                (first, last) => {
                    let not = if not { "!= " } else { "" };
                    let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
                    format!("{name} {word} {not}{range}")
                }
            };
            let both = [one("sport", *source, inverted.0), one("dport", *destination, inverted.1)];
            both.into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join(" ")
        }
        XtMatch::ListedPorts { of, ranges, inverted } => {
            let option = match of {
                PortOf::Source => "--sports",
                PortOf::Destination => "--dports",
                PortOf::Either => "--ports",
            };
            let ranges: Vec<String> = ranges.iter().copied().map(ports).collect();
            format!("{}{option} {}", if *inverted { "! " } else { "" }, ranges.join(","))
        }
        XtMatch::OriginalPort { range, inverted } => {
            format!("{}--ctorigdstport {}", if *inverted { "! " } else { "" }, ports(*range))
        }
        XtMatch::AddressType { source, destination } => format!("addrtype {source:#x} {destination:#x}"),
        XtMatch::Other(name) => format!("-m {name}"),
    }
}

fn nat(kind: NatKind) -> &'static str {
    match kind {
        NatKind::Source => "snat to …",
        NatKind::Destination => "dnat to …",
        NatKind::Masquerade => "masquerade",
        NatKind::Redirect => "redirect",
    }
}

/// A verdict as `nft` writes it.
pub(crate) fn verdict(code: &Code) -> String {
    match code {
        Code::Drop => "drop".into(),
        Code::Accept => "accept".into(),
        Code::Stolen => "stolen".into(),
        Code::Queue => "queue".into(),
        Code::Continue | Code::Break => "continue".into(),
        Code::Jump(chain) => format!("jump {chain}"),
        Code::Goto(chain) => format!("goto {chain}"),
        Code::Return => "return".into(),
    }
}

fn compared(h: &Held, op: u32, want: &[u8]) -> String {
    let sign = ["", "!= ", "< ", "<= ", "> ", ">= "].get(op as usize).copied().unwrap_or_default();
    // "Any of these bits" is a mask and a difference from zero.
    if op == 1 && want.iter().all(|b| *b == 0) && !h.mask.is_empty() {
        return format!("{} {}", h.name, value(h.kind, &h.mask));
    }
    if h.kind == Kind::Address {
        let prefix = match h.mask.as_slice() {
            [] if want.len() != 4 && want.len() != 16 => format!("/{}", want.len() * 8),
            [] => String::new(),
            mask => format!("/{}", mask.iter().map(|b| b.count_ones()).sum::<u32>()),
        };
        return format!("{} {sign}{}{prefix}", h.name, value(h.kind, want));
    }
    let masked = if h.mask.is_empty() { String::new() } else { format!(" & {}", hex(&h.mask)) };
    let wildcard = if h.kind == Kind::Name && want.len() < 16 && !want.contains(&0) { "*" } else { "" };
    let shown = value(h.kind, want);
    if h.kind == Kind::Name {
        let shown = shown.trim_matches('"');
        return format!("{}{masked} {sign}\"{shown}{wildcard}\"", h.name);
    }
    format!("{}{masked} {sign}{shown}", h.name)
}

fn elements(set: &Set, kind: Kind) -> String {
    let mut shown: Vec<String> = Vec::new();
    for element in set.elements.iter().filter(|e| !e.end).take(SHOWN) {
        let key = if element.catch_all { "*".into() } else { value(kind, &element.key) };
        shown.push(match &element.data {
            Some(Data::Verdict(code)) => format!("{key} : {}", verdict(code)),
            Some(Data::Value(data)) => format!("{key} : {}", hex(data)),
            None => key,
        });
    }
    if set.elements.len() > SHOWN {
        shown.push("…".into());
    }
    format!("{{ {} }}", shown.join(", "))
}
