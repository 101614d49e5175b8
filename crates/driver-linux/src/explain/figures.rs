//! Counters: of every link of the host, and of our rules that drop.

use std::collections::BTreeMap;

use weft_dataplane::insight::{DropCounter, Figures, LinkCounters, SeenLink};
use weft_sys::{
    netlink::detail::{self, Passed},
    nft::seen::{self, Code, Data, Expr, Rule},
};

use super::text;
use crate::{LinuxError, TABLE, driver::LinuxDriver};

pub(crate) fn figures(driver: &LinuxDriver) -> Result<Figures, LinuxError> {
    let (links, addresses) = {
        let mut socket = driver.route.lock();
        (detail::links(&mut *socket)?, detail::addresses(&mut *socket)?)
    };
    let names: BTreeMap<u32, String> = links.iter().map(|l| (l.index, l.name.clone())).collect();
    let mut figures = Figures::default();
    for link in links {
        let own = addresses.iter().filter(|(index, _)| *index == link.index).map(|(_, net)| *net);
        let seen = SeenLink {
            kind: link.kind,
            up: link.up && link.carrier,
            mtu: link.mtu,
            master: link.master.and_then(|m| names.get(&m).cloned()),
            addresses: own.collect(),
            counters: counters(&link.passed),
        };
        figures.links.insert(link.name, seen);
    }
    let rules = seen::ruleset_of(&mut *driver.netfilter.lock(), TABLE)?;
    for (chain, rule) in rules {
        figures.drops.extend(dropped(&chain, &rule));
    }
    Ok(figures)
}

fn counters(passed: &Passed) -> LinkCounters {
    LinkCounters {
        rx_packets: passed.packets.0,
        rx_bytes: passed.bytes.0,
        rx_errors: passed.errors.0,
        rx_dropped: passed.dropped.0,
        tx_packets: passed.packets.1,
        tx_bytes: passed.bytes.1,
        tx_errors: passed.errors.1,
        tx_dropped: passed.dropped.1,
    }
}

/// The counter of a rule that drops. The chain's name ends in its segment's link (`into_<link>`).
fn dropped(chain: &str, rule: &Rule) -> Option<DropCounter> {
    let drops =
        |e: &Expr| matches!(e, Expr::Reject | Expr::Immediate { data: Data::Verdict(Code::Drop), .. });
    let counted = rule.exprs.iter().find_map(|e| match e {
        Expr::Counter { packets, bytes } => Some((*packets, *bytes)),
        _ => None,
    });
    let (packets, bytes) = counted.filter(|_| rule.exprs.iter().any(drops))?;
    let link = chain.split_once('_').map(|(_, link)| link.to_owned());
    Some(DropCounter { link, reason: text::undigested(&rule.comment).to_owned(), packets, bytes })
}
