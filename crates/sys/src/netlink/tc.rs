//! Traffic control: queueing disciplines, classes and filters (`RTM_*QDISC`, `RTM_*TCLASS`, `RTM_*TFILTER`), as far as
//! bandwidth limits need them.
//!
//! ```text
//!  shape          a token bucket at a link's root                        tbf
//!  tree           classes below a link's root that share a total         htb, with a queue counted in bytes below each class
//!  clsact         hooks for what comes in and goes out by a link         filters that redirect all to another link
//! ```
//!
//! Rates are bytes a second. Every message that makes something also brings what is there to the same configuration, in
//! place: what waits in a queue stays in it. Source: `linux/pkt_sched.h`, `pkt_cls.h`, `tc_act/tc_mirred.h`.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};

use super::{
    Channel, Message, NetlinkError,
    attr::{self, Attrs},
};

const NEWQDISC: u16 = 36;
const DELQDISC: u16 = 37;
const GETQDISC: u16 = 38;
const NEWCLASS: u16 = 40;
const DELCLASS: u16 = 41;
const GETCLASS: u16 = 42;
const NEWFILTER: u16 = 44;
const DELFILTER: u16 = 45;
const GETFILTER: u16 = 46;

const ROOT: u32 = 0xffff_ffff;
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// Handle `1:` of what we put at a root.
const MAIN: u32 = 0x1_0000;

const KIND: u16 = 1;
const OPTIONS: u16 = 2;
/// `struct tcmsg`.
const HEADER: usize = 20;
/// As good as none: what the kernel is told where there is no total.
pub const UNLIMITED: u64 = 100_000_000_000_000 / 8;

/// Where a filter sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// What arrives by the link.
    In = 0xffff_fff2,
    /// What leaves by it.
    Out = 0xffff_fff3,
    /// What the tree at its root sorts into classes.
    Tree = MAIN,
}

fn request(kind: u16, flags: u16, index: u32, place: [u32; 3], attrs: &Attrs, what: String) -> Message {
    let mut body = vec![0u8; 4];
    body.extend_from_slice(&index.to_ne_bytes());
    for word in place {
        body.extend_from_slice(&word.to_ne_bytes());
    }
    body.extend_from_slice(attrs.as_bytes());
    Message { kind, flags, body, tolerate: &[], what }
}

/// `struct tc_ratespec`: the link layer is said to be Ethernet, so that the kernel computes times itself and needs no table.
fn ratespec(rate: u64) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(&u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
    bytes
}

/// Bytes that may go at once: what flows in 4 ms, so that one tick of a slow timer does not cost throughput.
fn burst(rate: u64) -> u32 {
    u32::try_from(rate / 250).unwrap_or(u32::MAX).clamp(16 * 1024, 64 * 1024 * 1024)
}

/// Bytes that may wait: 50 ms of them, and room for two of the largest packets.
fn backlog(rate: u64) -> u32 {
    u32::try_from(rate / 20).unwrap_or(u32::MAX).clamp(128 * 1024, 256 * 1024 * 1024)
}

/// The time `bytes` take at `rate`, in the kernel's ticks of 64 ns.
fn ticks(bytes: u32, rate: u64) -> u32 {
    let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    u32::try_from(nanoseconds / 64).unwrap_or(u32::MAX)
}

/// A 64-bit attribute in host order.
fn ne64(attrs: Attrs, kind: u16, value: u64) -> Attrs {
    attrs.bytes(kind, &value.to_ne_bytes())
}

/// A token bucket at the root of a link.
#[must_use]
pub fn shape(index: u32, rate: u64) -> Message {
    let mut parameters = ratespec(rate);
    parameters.extend(ratespec(0));
    for word in [backlog(rate).saturating_add(burst(rate)), ticks(burst(rate), rate), 0] {
        parameters.extend_from_slice(&word.to_ne_bytes());
    }
    let options = ne64(Attrs::new().bytes(1, &parameters), 4, rate).ne32(6, burst(rate));
    let attrs = Attrs::new().text(KIND, "tbf").nest(OPTIONS, &options);
    let place = [MAIN, ROOT, 0];
    request(NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, index, place, &attrs, "limit a link".to_owned())
}

/// Takes away what stands at a link's root. Nothing there is success.
#[must_use]
pub fn clear_root(index: u32) -> Message {
    let message =
        request(DELQDISC, 0, index, [0, ROOT, 0], &Attrs::new(), "remove a link's queue".to_owned());
    message.tolerating(&[libc::ENOENT, libc::EINVAL])
}

/// A tree at the root of a link; what no filter sorts goes to class `rest`. Being there already is success.
#[must_use]
pub fn tree(index: u32, rest: u16) -> Message {
    // `struct tc_htb_glob`: version 3.
    let global: Vec<u8> = [3, 10, u32::from(rest), 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    let attrs = Attrs::new().text(KIND, "htb").nest(OPTIONS, &Attrs::new().bytes(2, &global));
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    let message = request(NEWQDISC, flags, index, [MAIN, ROOT, 0], &attrs, "make a queue".to_owned());
    message.tolerating(&[libc::EEXIST])
}

/// What each class is granted whatever the others do, in bytes a second. All of them together stay far below any total; what
/// is above it is lent by the class above, in turns.
const GRANT: u64 = 100;
/// Bytes of each turn.
const QUANTUM: u32 = 15_140;

/// A class of a tree that keeps to `ceiling`; `top`: the one that lends to all others.
#[must_use]
pub fn class(index: u32, top: bool, minor: u16, ceiling: u64) -> Message {
    let rate = if top { ceiling } else { GRANT };
    let mut parameters = ratespec(rate);
    parameters.extend(ratespec(ceiling));
    let (least, most) = if top { (burst(rate), burst(ceiling)) } else { (1600, burst(ceiling)) };
    for word in [ticks(least, rate), ticks(most, ceiling), QUANTUM, 0, 0] {
        parameters.extend_from_slice(&word.to_ne_bytes());
    }
    let options = ne64(ne64(Attrs::new().bytes(1, &parameters), 6, rate), 7, ceiling);
    let attrs = Attrs::new().text(KIND, "htb").nest(OPTIONS, &options);
    let parent = if top { MAIN } else { MAIN | 1 };
    let place = [MAIN | u32::from(minor), parent, 0];
    request(NEWCLASS, NLM_F_CREATE | NLM_F_REPLACE, index, place, &attrs, "limit a class".to_owned())
}

/// The queue of a class, counted in bytes: packets of 64 KiB and of 64 bytes wait equally long in it.
#[must_use]
pub fn class_queue(index: u32, minor: u16, ceiling: u64) -> Message {
    let attrs = Attrs::new().text(KIND, "bfifo").bytes(OPTIONS, &backlog(ceiling).to_ne_bytes());
    let place = [u32::from(minor) << 16, MAIN | u32::from(minor), 0];
    request(NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, index, place, &attrs, "make a class's queue".to_owned())
}

/// Removes a class with its queue. Not being there is success.
#[must_use]
pub fn remove_class(index: u32, minor: u16) -> Message {
    let place = [MAIN | u32::from(minor), 0, 0];
    let message = request(DELCLASS, 0, index, place, &Attrs::new(), "remove a class".to_owned());
    message.tolerating(&[libc::ENOENT])
}

/// Hooks for filters on a link. Being there already is success.
#[must_use]
pub fn hooks(index: u32) -> Message {
    let attrs = Attrs::new().text(KIND, "clsact");
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    let message =
        request(NEWQDISC, flags, index, [CLSACT_HANDLE, CLSACT, 0], &attrs, "hook a link".to_owned());
    message.tolerating(&[libc::EEXIST])
}

/// Takes the hooks away, and all filters with them. Not being there is success.
#[must_use]
pub fn clear_hooks(index: u32) -> Message {
    let message =
        request(DELQDISC, 0, index, [CLSACT_HANDLE, CLSACT, 0], &Attrs::new(), "unhook a link".to_owned());
    message.tolerating(&[libc::ENOENT, libc::EINVAL])
}

/// Priority (upper half) and protocol (`ETH_P_ALL`, network order) of a filter.
fn info(priority: u16) -> u32 {
    u32::from(priority) << 16 | u32::from(3u16.to_be())
}

/// A match of `cls_u32`: 32 bits at an offset from the network header.
type Key = ([u8; 4], [u8; 4], i32);

/// `struct tc_u32_sel` with its keys: value, mask, offset.
fn selector(keys: &[Key]) -> Vec<u8> {
    let mut bytes = vec![1, 0, u8::try_from(keys.len()).unwrap_or_default(), 0];
    bytes.resize(16, 0);
    for (value, mask, offset) in keys {
        bytes.extend_from_slice(mask);
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(&offset.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
    }
    bytes
}

/// Sends all that passes a hook to another link instead, which sends it back to where it was.
#[must_use]
pub fn redirect(index: u32, hook: Hook, priority: u16, to: u32) -> Message {
    // `struct tc_mirred`: index, capabilities, action (stolen), two counts, what (egress redirect), where.
    let mirred: Vec<u8> = [0, 0, 4, 0, 0, 1, to].into_iter().flat_map(u32::to_ne_bytes).collect();
    let action = Attrs::new().text(1, "mirred").nest(2, &Attrs::new().bytes(2, &mirred));
    let options =
        Attrs::new().bytes(5, &selector(&[([0; 4], [0; 4], 0)])).nest(7, &Attrs::new().nest(1, &action));
    let attrs = Attrs::new().text(KIND, "u32").nest(OPTIONS, &options);
    let place = [0, hook as u32, info(priority)];
    request(NEWFILTER, NLM_F_CREATE | NLM_F_EXCL, index, place, &attrs, "redirect a link".to_owned())
}

/// Sorts what comes from an Ethernet address into the class of that number; the number is the filter's priority, too.
#[must_use]
pub fn sort(index: u32, source: [u8; 6], minor: u16) -> Message {
    let [a, b, c, d, e, f] = source;
    // The source address is 8 bytes before the network header, the type 2 bytes.
    let keys = [([a, b, c, d], [0xff; 4], -8), ([e, f, 0, 0], [0xff, 0xff, 0, 0], -4)];
    let options = Attrs::new().ne32(1, MAIN | u32::from(minor)).bytes(5, &selector(&keys));
    let attrs = Attrs::new().text(KIND, "u32").nest(OPTIONS, &options);
    let place = [0, Hook::Tree as u32, info(minor)];
    request(NEWFILTER, NLM_F_CREATE | NLM_F_EXCL, index, place, &attrs, "sort packets".to_owned())
}

/// Removes the filters of one priority. None there is success.
#[must_use]
pub fn clear_filter(index: u32, hook: Hook, priority: u16) -> Message {
    let place = [0, hook as u32, info(priority)];
    let message = request(DELFILTER, 0, index, place, &Attrs::new(), "remove a filter".to_owned());
    message.tolerating(&[libc::ENOENT, libc::EINVAL])
}

/// A queueing discipline as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qdisc {
    /// Its link.
    pub index: u32,
    /// `tbf`, `htb`, `clsact`, ….
    pub kind: String,
    /// It stands at the link's root.
    pub root: bool,
    /// Bytes a second of a `tbf`.
    pub rate: Option<u64>,
}

/// A filter as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Its priority.
    pub priority: u16,
    /// The link it redirects to.
    pub redirect: Option<u32>,
    /// The Ethernet address it sorts by.
    pub source: Option<[u8; 6]>,
}

/// All queueing disciplines of the channel's namespace.
///
/// # Errors
/// As the kernel answers.
pub fn qdiscs(channel: &mut dyn Channel) -> Result<Vec<Qdisc>, NetlinkError> {
    let message = request(GETQDISC, NLM_F_DUMP, 0, [0; 3], &Attrs::new(), "list queues".to_owned());
    Ok(channel.query(&message)?.iter().filter_map(|(_, body)| decode_qdisc(body)).collect())
}

/// The classes of a link's tree: number and ceiling.
///
/// # Errors
/// As the kernel answers.
pub fn classes(channel: &mut dyn Channel, index: u32) -> Result<Vec<(u16, u64)>, NetlinkError> {
    let message = request(GETCLASS, NLM_F_DUMP, index, [0; 3], &Attrs::new(), "list classes".to_owned());
    Ok(channel.query(&message)?.iter().filter_map(|(_, body)| decode_class(body)).collect())
}

/// The filters of a hook.
///
/// # Errors
/// As the kernel answers.
pub fn filters(channel: &mut dyn Channel, index: u32, hook: Hook) -> Result<Vec<Filter>, NetlinkError> {
    let place = [0, hook as u32, 0];
    let message = request(GETFILTER, NLM_F_DUMP, index, place, &Attrs::new(), "list filters".to_owned());
    match channel.query(&message) {
        Ok(answers) => Ok(answers.iter().filter_map(|(_, body)| decode_filter(body)).collect()),
        // No hooks there.
        Err(error) if matches!(error.errno(), Some(libc::EINVAL | libc::ENOENT)) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn long(payload: Option<&[u8]>) -> Option<u64> {
    Some(u64::from_ne_bytes(payload?.get(..8)?.try_into().ok()?))
}

fn decode_qdisc(body: &[u8]) -> Option<Qdisc> {
    let attributes = body.get(HEADER..)?;
    let kind = attr::as_text(attr::find(attributes, KIND)?)?.to_owned();
    let options = attr::find(attributes, OPTIONS).unwrap_or_default();
    let short = || word(attr::find(options, 1)?, 8).map(u64::from);
    let rate = if kind == "tbf" { long(attr::find(options, 4)).or_else(short) } else { None };
    Some(Qdisc { index: word(body, 4)?, kind, root: word(body, 12)? == ROOT, rate })
}

fn decode_class(body: &[u8]) -> Option<(u16, u64)> {
    let attributes = body.get(HEADER..)?;
    let options = attr::find(attributes, OPTIONS)?;
    let short = || word(attr::find(options, 1)?, 20).map(u64::from);
    let minor = u16::try_from(word(body, 8)? & 0xffff).ok()?;
    Some((minor, long(attr::find(options, 7)).or_else(short)?))
}

fn decode_filter(body: &[u8]) -> Option<Filter> {
    let attributes = body.get(HEADER..)?;
    let options = attr::find(attributes, OPTIONS)?;
    // The hash tables of `cls_u32` come in the same dump, without a selector.
    let keys = attr::find(options, 5)?.get(16..)?;
    let action = attr::find(options, 7).and_then(|list| attr::find(list, 1)).unwrap_or_default();
    let redirect = attr::find(action, 2).and_then(|o| attr::find(o, 2)).and_then(|parms| word(parms, 24));
    let source = match keys {
        [0xff, 0xff, 0xff, 0xff, a, b, c, d, .., 0xff, 0xff, 0, 0, e, f, 0, 0, _, _, _, _, _, _, _, _]
            if keys.len() == 32 =>
        {
            Some([*a, *b, *c, *d, *e, *f])
        }
        _ => None,
    };
    Some(Filter { priority: u16::try_from(word(body, 16)? >> 16).ok()?, redirect, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let qdisc = decode_qdisc(&shape(7, 1_000_000).body).unwrap();
        let expected = Qdisc { index: 7, kind: "tbf".into(), root: true, rate: Some(1_000_000) };
        assert_eq!(qdisc, expected);
        assert_eq!(decode_class(&class(7, false, 0x12, 5_000_000_000).body), Some((0x12, 5_000_000_000)));
        let filter = decode_filter(&redirect(7, Hook::In, 9, 11).body).unwrap();
        assert_eq!(filter, Filter { priority: 9, redirect: Some(11), source: None });
        let mac = [2, 0x42, 1, 2, 3, 4];
        let filter = decode_filter(&sort(7, mac, 0x12).body).unwrap();
        assert_eq!(filter, Filter { priority: 0x12, redirect: None, source: Some(mac) });
    }

    #[test]
    fn malformed_answers_are_nothing() {
        for body in [&[][..], &[0; 19], &[0xff; 24], &[0; 64]] {
            assert!(decode_qdisc(body).is_none() && decode_class(body).is_none());
            assert!(decode_filter(body).is_none());
        }
    }

    #[test]
    fn buckets_are_neither_empty_nor_without_end() {
        for rate in [1000, 1_000_000, 125_000_000, UNLIMITED] {
            assert!(burst(rate) >= 16 * 1024 && backlog(rate) >= burst(rate).min(128 * 1024), "{rate}");
            assert!(ticks(burst(rate), rate) > 0, "{rate}");
        }
        // 1600 bytes at 100 bytes a second are 16 s.
        assert_eq!(u64::from(ticks(1600, GRANT)) * 64, 16_000_000_000);
    }
}
