//! What this host asks of itself at `::1`, answered by a container.
//!
//! IPv4 has `route_localnet`. IPv6 takes a packet from or to `::1` by no other interface than `lo` (RFC 4291, section 2.5.3),
//! and where the bridge shows packets to IP's hooks an answer is translated back to `::1` before that is asked. So an answer
//! is led to `lo` at the port of the bridge that it comes in by, and is translated back there:
//!
//! ```text
//!  ::1 ─▶ ::1:8080   output: to fd01::2:80   hairpin: from SOURCE   ─▶ bridge ─▶ port ─▶ container
//!  container ─▶ port: fd01::2 ─▶ SOURCE      netdev weft: out by lo ─▶ in by lo, translated back ─▶ ::1
//! ```
//!
//! The container sees [`SOURCE`] as its client, and answers by its default route. There is a chain for each port that
//! publishes on `::` or `::1`, and no other. What a container sends there that answers nothing is dropped (chain `forward`).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use weft_dataplane::Loopbacks;
use weft_sys::{
    netlink::{Channel, Family, NetlinkError, Socket, link},
    nft::{
        self, Batch, Names,
        expr::{Base, Expr, Meta, Reg},
    },
};

use crate::{
    LinuxError, TABLE,
    driver::{LinuxDriver, REPLACE_TRIES, raced},
    rules,
};

/// An address that nobody has: a unique local one, its 40 bits drawn once for all (RFC 4193, section 3.2.2). What is sent to it
/// is sent to nobody but us.
pub(crate) const SOURCE: Ipv6Addr = Ipv6Addr::new(0xfdcb, 0xe83e, 0xb6cc, 0, 0, 0, 0, 1);

const R0: Reg = Reg(0);
/// Where source and destination stand in an IPv6 header (RFC 8200, section 3).
const FROM: u32 = 8;
const TO: u32 = 24;
/// `LOOPBACK_IFINDEX`: the same in each namespace.
const LO: u32 = 1;
const COMMENT: &str = "answers for ::1, of ";

fn is(offset: u32, ip: Ipv6Addr) -> [Expr; 2] {
    [Expr::Payload(Base::Network, offset, 16, R0), Expr::Cmp(R0, true, ip.octets().to_vec())]
}

/// `::1` at this offset of an IPv6 header.
pub(crate) fn at(offset: u32) -> Vec<Expr> {
    [rules::nfproto(rules::V6), is(offset, Ipv6Addr::LOCALHOST).to_vec()].concat()
}

/// To [`SOURCE`]: still so after translation, it answers nothing.
pub(crate) fn to_source() -> Vec<Expr> {
    [rules::nfproto(rules::V6), is(TO, SOURCE).to_vec()].concat()
}

/// Translates to [`SOURCE`].
pub(crate) fn as_source() -> Vec<Expr> {
    vec![Expr::Load(SOURCE.octets().to_vec(), R0), Expr::SnatAddress(true, R0)]
}

/// The rule at a port: answers of its own address go out by `lo`. They come in there by Ethernet's rules, too: they are for the
/// bridge, which is somebody else to the port, and must be for `lo`, whose address is zero. A frame that was once found to be
/// for others stays so (`eth_type_trans`) unless it is said.
fn rule(batch: &mut Batch, link: &str, from: Ipv6Addr) -> String {
    let ethertype = vec![Expr::Meta(Meta::Protocol, R0), Expr::Cmp(R0, true, vec![0x86, 0xdd])];
    let away = vec![
        Expr::Load(vec![0; 6], R0),
        Expr::SetPayload(Base::Link, 0, 6, R0),
        Expr::Load(vec![0], R0),
        Expr::SetMeta(Meta::Pkttype, R0),
        Expr::Load(LO.to_ne_bytes().to_vec(), R0),
        Expr::Forward(R0),
    ];
    let exprs = [ethertype, is(FROM, from).to_vec(), is(TO, SOURCE).to_vec(), away].concat();
    batch.add_rule(link, &format!("{COMMENT}{from}"), &exprs)
}

/// Whether this kernel can: tried in a transaction that takes it back.
pub(crate) fn probe() -> bool {
    let tried = || -> Result<(), NetlinkError> {
        let mut batch = Batch::netdev("weft-probe");
        batch.add_table();
        batch.add_ingress("lo");
        rule(&mut batch, "lo", Ipv6Addr::LOCALHOST);
        batch.delete_table();
        Socket::open(Family::Netfilter)?.transact(&batch.finish())
    };
    match tried() {
        Ok(()) => true,
        Err(error) => {
            tracing::info!(%error, "published ports do not answer on ::1");
            false
        }
    }
}

/// The ports whose answers are led. One whose chain is not as it must be is among them, with an address that none has.
pub(crate) fn observe(socket: &mut Socket) -> Result<Loopbacks, LinuxError> {
    let chains = nft::netdev_chains(socket, TABLE)?;
    if chains.is_empty() {
        return Ok(Loopbacks::new());
    }
    let mut tags: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for rule in nft::netdev_rules(socket, TABLE)? {
        tags.entry(rule.chain).or_default().push(rule.tag);
    }
    let seen = |link: String| {
        let from = tags.get(&link).and_then(|tags| led(&link, tags)).unwrap_or(Ipv6Addr::UNSPECIFIED);
        (link, from)
    };
    Ok(chains.into_iter().map(seen).collect())
}

/// Whose answers a chain with these rules leads; `None` where it is not ours as we made it.
fn led(link: &str, tags: &[String]) -> Option<Ipv6Addr> {
    let [tag] = tags else { return None };
    let from = tag.strip_prefix(COMMENT)?.split(' ').next()?.parse().ok()?;
    (rule(&mut Batch::netdev(TABLE), link, from) == *tag).then_some(from)
}

/// One transaction. A table without a chain goes.
pub(crate) fn change(
    driver: &LinuxDriver,
    remove: &BTreeSet<String>,
    add: &Loopbacks,
) -> Result<(), LinuxError> {
    let mut there = Loopbacks::new();
    for (name, from) in add {
        // What became of a port that is not there is told elsewhere.
        if link::get(&mut *driver.route.lock(), name)?.is_some() {
            there.insert(name.clone(), *from);
        }
    }
    let mut socket = driver.netfilter.lock();
    let mut tries = 0;
    loop {
        let present = nft::netdev_chains(&mut *socket, TABLE)?;
        tries += 1;
        match socket.transact(&batch(present, remove, &there).finish()) {
            Err(error) if tries < REPLACE_TRIES && raced(&error) => {}
            other => return Ok(other?),
        }
    }
}

fn batch(present: Vec<String>, remove: &BTreeSet<String>, add: &Loopbacks) -> Batch {
    let goes = |link: &String| remove.contains(link) || add.contains_key(link);
    let (chains, stay): (Vec<_>, Vec<_>) = present.into_iter().partition(goes);
    let mut batch = Batch::netdev(TABLE);
    batch.add_table();
    batch.delete(&Names { chains, sets: Vec::new() });
    for (link, from) in add {
        batch.add_ingress(link);
        rule(&mut batch, link, *from);
    }
    if stay.is_empty() && add.is_empty() {
        batch.delete_table();
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_that_others_changed_leads_nobody() {
        let from: Ipv6Addr = "fd01::2".parse().unwrap();
        let tag = rule(&mut Batch::netdev(TABLE), "wfp0", from);
        assert_eq!(led("wfp0", std::slice::from_ref(&tag)), Some(from));
        assert_eq!(led("wfp0", &[tag.clone(), String::new()]), None);
        assert_eq!(led("wfp0", &[tag.replace("::2", "::3")]), None);
        assert_eq!(led("wfp0", &[]), None);
    }
}
