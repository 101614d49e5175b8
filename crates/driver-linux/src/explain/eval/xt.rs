//! Matches and targets of iptables that rules of nftables carry.

use weft_sys::nft::seen::{NatKind, PortOf, TRANSLATED, XtMatch, XtTarget};

use super::{Effect, Flow, Machine, address_type};
use crate::explain::{
    packet::{DST_NAT, Packet},
    sets::Answer,
};

impl Machine<'_> {
    pub(super) fn xt_match(&mut self, m: &XtMatch, packet: &Packet) -> Flow {
        let answer = match m {
            XtMatch::Comment(_) => Some(true),
            XtMatch::State { mask, inverted } => {
                let tracked = self.at.tracked;
                let state = if tracked { packet.state() } else { 1 };
                let translated = mask & TRANSLATED != 0 && packet.translated & DST_NAT != 0;
                Some((state & mask != 0 || translated) != *inverted)
            }
            XtMatch::Ports { protocol, .. } if *protocol != packet.protocol() => Some(false),
            XtMatch::Ports { source, destination, inverted, .. } => {
                let one = |port: Option<u16>, range: (u16, u16), inverted: bool| match port {
                    _ if range == (0, u16::MAX) && !inverted => Some(true),
                    Some(port) => Some((range.0..=range.1).contains(&port) != inverted),
                    None => None,
                };
                and(one(packet.source, *source, inverted.0), one(packet.port, *destination, inverted.1))
            }
            XtMatch::ListedPorts { of, ranges, inverted } if packet.service_protocol() => {
                let one = |port: Option<u16>| {
                    port.map(|port| ranges.iter().any(|(first, last)| (*first..=*last).contains(&port)))
                };
                let found = match of {
                    PortOf::Source => one(packet.source),
                    PortOf::Destination => one(packet.port),
                    PortOf::Either => match (one(packet.source), one(packet.port)) {
                        (Some(true), _) | (_, Some(true)) => Some(true),
                        (Some(false), Some(false)) => Some(false),
                        _ => None,
                    },
                };
                found.map(|found| found != *inverted)
            }
            XtMatch::ListedPorts { .. } => Some(false),
            XtMatch::OriginalPort { range: (first, last), inverted } => match packet.tuple(false).port {
                _ if !self.at.tracked || packet.untracked || !packet.service_protocol() => Some(false),
                port => port.map(|port| (*first..=*last).contains(&port) != *inverted),
            },
            XtMatch::AddressType { source, destination } => {
                let fits = |mask: u16, ip| mask == 0 || mask & (1 << address_type(self.at.space, ip)) != 0;
                Some(fits(*source, packet.from) && fits(*destination, packet.to))
            }
            XtMatch::Other(_) => None,
        };
        let name = if let XtMatch::Other(name) = m { name.clone() } else { String::new() };
        self.decide(answer, || match name.as_str() {
            "" => "it asks for what is not known of the packet".into(),
            name => format!("the match {name:?} of iptables is not understood"),
        })
    }

    pub(super) fn xt_target(&mut self, target: &XtTarget) -> Flow {
        match target {
            XtTarget::Reject => Flow::End(Effect::Reject),
            XtTarget::Masquerade => Flow::End(Effect::Nat(NatKind::Masquerade, None, None)),
            XtTarget::Destination(ip, port) => Flow::End(Effect::Nat(NatKind::Destination, *ip, *port)),
            XtTarget::Source(ip) => Flow::End(Effect::Nat(NatKind::Source, *ip, None)),
            XtTarget::Harmless(_) => Flow::On,
            XtTarget::Other(name) => {
                Flow::End(Effect::Away(format!("the target {name:?} of iptables is not understood")))
            }
        }
    }
}

fn and(a: Answer, b: Answer) -> Answer {
    match (a, b) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}
