//! nftables' own tracing: packets that match are marked (`meta nftrace set 1`) in a table of ours that lives no longer than its
//! socket, and the kernel reports each rule and policy that decides about them.
//!
//! ```text
//! table inet weft_trace  (owner: this socket)        NFNLGRP_NFTRACE ──▶ table, chain, rule handle, verdict, headers
//!   prerouting, output  -500   the flow, either way: nftrace set 1
//! table bridge weft_trace    the same for frames
//! ```
//!
//! The table belongs to the socket that made it (`NFT_TABLE_F_OWNER`, Linux 5.12): the kernel removes it when the socket is
//! closed, which also happens when this process dies. Where the kernel has no such thing nothing is traced.
//! Source: `nf_tables_trace.c`, `linux/netfilter/nf_tables.h`.

use std::{
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_sys::{Socket as RawSocket, SocketAddr};

use super::{
    NEWCHAIN, NEWRULE, NEWTABLE, SUBSYSTEM, edge,
    seen::{self, Code, Data},
};
use crate::netlink::{
    Channel, Family, Message, NetlinkError, Socket,
    attr::{self, Attrs},
};

/// `NFNLGRP_NFTRACE`.
const GROUP: u32 = 9;
/// `NFT_MSG_TRACE`.
const TRACE: u16 = 17;
/// `NFT_TABLE_F_OWNER`.
const OWNER: u32 = 2;
/// Before connection tracking and every sane chain.
const PRIORITY: i32 = -500;

/// What packets to trace: those with all of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// IP protocol number.
    pub protocol: u8,
    /// IPv6.
    pub v6: bool,
    /// Source address.
    pub from: Option<IpAddr>,
    /// Destination address.
    pub to: Option<IpAddr>,
    /// Source port.
    pub source: Option<u16>,
    /// Destination port.
    pub port: Option<u16>,
}

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A chain ended, and its policy decides.
    Policy,
    /// A chain ended, and it goes on where it was jumped from.
    Return,
    /// A rule.
    Rule,
}

/// One report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The packet's number.
    pub id: u32,
    /// Family of the table.
    pub family: seen::Family,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// What it is about.
    pub step: Step,
    /// The rule.
    pub handle: Option<u64>,
    /// What it says; for a policy `Accept` or `Drop`.
    pub verdict: Option<Code>,
    /// Index of the interface it came in by.
    pub input: Option<u32>,
    /// Index of the interface it leaves by.
    pub output: Option<u32>,
    /// Network header, or its beginning; once for each packet and hook.
    pub network: Vec<u8>,
    /// Transport header, or its beginning.
    pub transport: Vec<u8>,
}

fn failed(call: &'static str) -> impl FnOnce(io::Error) -> NetlinkError {
    move |source| NetlinkError::Socket { call, source }
}

/// A trace. Its tables end with it.
#[derive(Debug)]
pub struct Tracer {
    /// Owns the tables by being open.
    _owner: Socket,
    reports: RawSocket,
    buffer: Vec<u8>,
}

impl Tracer {
    /// Starts tracing in the calling thread's namespace, with tables called `table`.
    ///
    /// # Errors
    /// As the kernel answers: `EOPNOTSUPP` or `EINVAL` from one that is too old.
    pub fn start(table: &str, flows: &[Flow]) -> Result<Self, NetlinkError> {
        let mut reports =
            RawSocket::new(netlink_sys::protocols::NETLINK_NETFILTER).map_err(failed("socket"))?;
        reports.bind(&SocketAddr::new(0, 0)).map_err(failed("bind"))?;
        reports.add_membership(GROUP).map_err(failed("setsockopt"))?;
        let mut owner = Socket::open(Family::Netfilter)?;
        owner.transact(&batch(table, seen::Family::Inet, flows))?;
        // A kernel without the bridge family traces what is routed.
        match owner.transact(&batch(table, seen::Family::Bridge, flows)) {
            Err(error)
                if matches!(error.errno(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::ENOENT)) => {}
            other => other?,
        }
        Ok(Self { _owner: owner, reports, buffer: Vec::with_capacity(32 * 1024) })
    }

    /// Reports that come within `patience`; none when there are none.
    ///
    /// # Errors
    /// The socket failed. Reports that came too fast to be read are lost without one.
    pub fn next(&mut self, patience: Duration) -> Result<Vec<Report>, NetlinkError> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = rustix::event::Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut fds = [rustix::event::PollFd::new(&self.reports, rustix::event::PollFlags::IN)];
            match rustix::event::poll(&mut fds, Some(&timeout)) {
                Ok(0) => return Ok(Vec::new()),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(failed("poll")(error.into())),
            }
            self.buffer.clear();
            match self.reports.recv(&mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(_) => {}
                Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINTR | libc::ENOBUFS)) => {
                    continue;
                }
                Err(error) => return Err(failed("recv")(error)),
            }
            let reports = decode_all(&self.buffer);
            if !reports.is_empty() {
                return Ok(reports);
            }
        }
    }
}

fn batch(table: &str, family: seen::Family, flows: &[Flow]) -> Vec<Message> {
    let message = |kind: u16, flags: u16, attrs: &Attrs, what: &str| {
        let mut body = vec![family.number(), 0, 0, 0];
        body.extend_from_slice(attrs.as_bytes());
        Message { kind: SUBSYSTEM | kind, flags, body, tolerate: &[], what: what.to_owned() }
    };
    let mut messages = vec![edge(super::BATCH_BEGIN, "begin trace")];
    let owned = Attrs::new().text(1, table).be32(2, OWNER);
    messages.push(message(NEWTABLE, NLM_F_CREATE, &owned, "add trace table"));
    for (chain, hook) in [("prerouting", 0), ("output", 3)] {
        let point = Attrs::new().be32(1, hook).be32(2, PRIORITY.cast_unsigned());
        let attrs = Attrs::new().text(1, table).text(3, chain).nest(4, &point).be32(5, 1).text(7, "filter");
        messages.push(message(NEWCHAIN, NLM_F_CREATE, &attrs, "add trace chain"));
        for flow in flows {
            let attrs = Attrs::new().text(1, table).text(2, chain).nest(4, &program(flow));
            messages.push(message(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, &attrs, "add trace rule"));
        }
    }
    messages.push(edge(super::BATCH_END, "commit trace"));
    messages
}

/// The expressions of one rule: register 8 is the first of the four-byte ones.
fn program(flow: &Flow) -> Attrs {
    let a = Attrs::new;
    let value = |bytes: &[u8]| a().bytes(1, bytes);
    let mut list = a();
    let mut expr = |name: &str, data: Attrs| {
        list = std::mem::take(&mut list).nest(1, &a().text(1, name).nest(2, &data));
    };
    let equal = |bytes: &[u8]| a().be32(1, 8).be32(2, 0).nest(3, &value(bytes));
    // `meta protocol`: EtherType, in every family.
    let ether: u16 = if flow.v6 { 0x86dd } else { 0x0800 };
    expr("meta", a().be32(1, 8).be32(2, 1));
    expr("cmp", equal(&ether.to_be_bytes()));
    if flow.protocol != 0 {
        expr("meta", a().be32(1, 8).be32(2, 16));
        expr("cmp", equal(&[flow.protocol]));
    }
    let (from, to) = if flow.v6 { (8, 24) } else { (12, 16) };
    for (ip, offset) in [(flow.from, from), (flow.to, to)] {
        let octets = match ip {
            None => continue,
            Some(IpAddr::V4(ip)) => ip.octets().to_vec(),
            Some(IpAddr::V6(ip)) => ip.octets().to_vec(),
        };
        let length = u32::try_from(octets.len()).unwrap_or_default();
        expr("payload", a().be32(1, 8).be32(2, 1).be32(3, offset).be32(4, length));
        expr("cmp", equal(&octets));
    }
    for (port, offset) in [(flow.source, 0), (flow.port, 2)] {
        if let Some(port) = port {
            expr("payload", a().be32(1, 8).be32(2, 2).be32(3, offset).be32(4, 2));
            expr("cmp", equal(&port.to_be_bytes()));
        }
    }
    expr("immediate", a().be32(1, 8).nest(2, &value(&[1])));
    // NFT_META_NFTRACE from a register.
    expr("meta", a().be32(2, 12).be32(3, 8));
    list
}

/// All reports of one datagram.
fn decode_all(mut bytes: &[u8]) -> Vec<Report> {
    const HEADER: usize = 16;
    let mut reports = Vec::new();
    while let Some(header) = bytes.get(..HEADER) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(body) = bytes.get(HEADER..length) else { break };
        if u16::from_ne_bytes([header[4], header[5]]) == SUBSYSTEM | TRACE {
            reports.extend(decode(body));
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    reports
}

fn decode(body: &[u8]) -> Option<Report> {
    let (family, a) = seen::split(body)?;
    let text = |kind| attr::find(a, kind).and_then(attr::as_text).map(str::to_owned);
    let word = |kind| attr::find(a, kind).and_then(attr::as_be32);
    let step = match word(4)? {
        1 => Step::Policy,
        2 => Step::Return,
        3 => Step::Rule,
        _ => return None,
    };
    let policy = word(16).map(|policy| if policy == 0 { Code::Drop } else { Code::Accept });
    // NFTA_TRACE_VERDICT holds what NFTA_DATA_VERDICT does.
    let verdict =
        attr::find(a, 5).and_then(|verdict| match Data::decode(Attrs::new().bytes(2, verdict).as_bytes()) {
            Some(Data::Verdict(code)) => Some(code),
            _ => None,
        });
    Some(Report {
        id: word(6)?,
        family,
        table: text(1)?,
        chain: text(2)?,
        step,
        handle: attr::find(a, 3).and_then(|h| Some(u64::from_be_bytes(h.get(..8)?.try_into().ok()?))),
        verdict: if step == Step::Policy { policy } else { verdict },
        input: word(10),
        output: word(12),
        network: attr::find(a, 8).unwrap_or_default().to_vec(),
        transport: attr::find(a, 9).unwrap_or_default().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzz_trace_reports() {
        let verdict = Attrs::new().be32(1, 0);
        let a = Attrs::new().text(1, "t").text(2, "c").bytes(3, &[0, 0, 0, 0, 0, 0, 0, 9]).be32(4, 3);
        let a = a.nest(5, &verdict).be32(6, 77).be32(10, 2).bytes(8, &[0x45; 20]);
        let body = [&[1, 0, 0, 0], a.as_bytes()].concat();
        let mut frame = u32::try_from(body.len() + 16).unwrap().to_ne_bytes().to_vec();
        frame.extend((SUBSYSTEM | TRACE).to_ne_bytes());
        frame.extend([0; 10]);
        frame.extend(&body);
        let seen = decode_all(&frame);
        assert_eq!((seen[0].id, seen[0].handle, &seen[0].verdict), (77, Some(9), &Some(Code::Drop)));
        weft_testkit::fuzz::run("nft-trace", &[frame], &[], |bytes| drop(decode_all(bytes)));
    }
}
