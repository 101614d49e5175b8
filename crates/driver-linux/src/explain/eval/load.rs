//! What a rule loads into its registers: headers, interfaces, the connection, what the routes say.

use std::net::IpAddr;

use weft_dataplane::insight::Transport;
use weft_sys::netlink::lookup::{Lookup, Way};

use super::{Flow, Machine, address_type};
use crate::explain::{
    facts::Ask,
    packet::{self, Byte, EPHEMERAL, Packet, Via},
};

impl Machine<'_> {
    pub(super) fn payload(
        &mut self,
        base: u32,
        offset: usize,
        length: usize,
        to: usize,
        packet: &Packet,
    ) -> Flow {
        let header = match base {
            1 => packet.network(),
            2 => packet.transport_header(),
            _ => {
                let mut link: Vec<Byte> = vec![None; 14];
                let ether: [u8; 2] = if packet.v6() { [0x86, 0xdd] } else { [8, 0] };
                (link[12], link[13]) = (Some(ether[0]), Some(ether[1]));
                link
            }
        };
        let value: Vec<Byte> = (offset..offset.saturating_add(length.min(64)))
            .map(|at| header.get(at).copied().flatten())
            .collect();
        self.put(to, &value);
        Flow::On
    }

    pub(super) fn meta(&mut self, key: u32, to: usize, packet: &Packet) -> Flow {
        let name = |via: &Option<Via>| {
            let mut bytes = via.as_ref().map(|v| v.name.clone().into_bytes()).unwrap_or_default();
            bytes.resize(16, 0);
            bytes
        };
        let kind = |via: &Option<Via>| {
            let mut bytes = via.as_ref().map(|v| v.kind.clone().into_bytes()).unwrap_or_default();
            bytes.resize(16, 0);
            bytes
        };
        let index = |via: &Option<Via>| via.as_ref().map_or(0, |v| v.index).to_ne_bytes();
        match key {
            // Without an interface its name is empty and its index 0, but it has no kind.
            26 if packet.input.is_none() => return Flow::Out,
            27 if packet.output.is_none() => return Flow::Out,
            1 => self.known(to, if packet.v6() { &[0x86, 0xdd] } else { &[8, 0] }),
            3 => {
                let mark = self.mark.unwrap_or_else(|| packet.mark.to_ne_bytes().map(Some));
                self.put(to, &mark);
            }
            4 => self.known(to, &index(&packet.input)),
            5 => self.known(to, &index(&packet.output)),
            6 => self.known(to, &name(&packet.input)),
            7 => self.known(to, &name(&packet.output)),
            15 => self.known(to, &[if packet.v6() { 10 } else { 2 }]),
            16 => self.known(to, &[packet.protocol()]),
            26 => self.known(to, &kind(&packet.input)),
            27 => self.known(to, &kind(&packet.output)),
            // NFT_META_PKTTYPE: to this host.
            19 => self.known(to, &[0]),
            _ => self.put(to, &[None; 16]),
        }
        Flow::On
    }

    pub(super) fn ct(&mut self, key: u32, direction: Option<u8>, to: usize, packet: &Packet) -> Flow {
        if !self.at.tracked || packet.untracked {
            // NF_CT_STATE_INVALID_BIT where nothing is known of connections.
            let state: u32 = if packet.untracked { 64 } else { 1 };
            if key == 0 {
                self.known(to, &state.to_ne_bytes());
                return Flow::On;
            }
            return Flow::Out;
        }
        let answers = direction == Some(1);
        let tuple = packet.tuple(answers);
        match key {
            0 => self.known(to, &packet.state().to_ne_bytes()),
            1 => self.known(to, &[u8::from(packet.answer)]),
            2 => self.known(to, &packet.status().to_ne_bytes()),
            7 => self.known(to, &[if packet.v6() { 10 } else { 2 }]),
            // NFT_CT_SRC_IP and its like end a rule that is asked of the other family.
            19 | 20 if packet.v6() => return Flow::Out,
            21 | 22 if !packet.v6() => return Flow::Out,
            8 | 19 | 21 => self.known(to, &octets(tuple.from)),
            9 | 20 | 22 => self.known(to, &octets(tuple.to)),
            10 => self.known(to, &[packet.protocol()]),
            11 | 12 => {
                let port = match (packet.transport, key) {
                    (Transport::Icmp, 11) => Some(EPHEMERAL.to_be_bytes()),
                    // Type and code.
                    (Transport::Icmp, _) => Some([packet::echo(packet.v6(), answers), 0]),
                    (_, 11) => tuple.source.map(u16::to_be_bytes),
                    _ => tuple.port.map(u16::to_be_bytes),
                };
                match port {
                    Some(port) => self.known(to, &port),
                    None => self.put(to, &[None; 2]),
                }
            }
            _ => self.put(to, &[None; 16]),
        }
        Flow::On
    }

    pub(super) fn fib(&mut self, flags: u32, result: u32, to: usize, packet: &Packet) -> Result<Flow, Ask> {
        const SADDR: u32 = 1;
        const IIF: u32 = 8;
        const PRESENT: u32 = 32;
        let ip = if flags & SADDR != 0 { packet.from } else { packet.to };
        if result == 3 {
            self.known(to, &address_type(self.at.space, ip).to_ne_bytes());
            return Ok(Flow::On);
        }
        // Whether there is a way to that address, by the interface the packet came by where that is asked for.
        let output = packet.input.as_ref().filter(|_| flags & IIF != 0).map(|v| v.index);
        let lookup = Lookup { to: ip, from: None, input: None, output, mark: packet.mark, service: None };
        let link = match self.at.facts.way(self.at.place, lookup)? {
            Way::Out { link, .. } if output.is_none_or(|want| want == link) => link,
            Way::Local { .. } if output.is_none() => 1,
            _ => 0,
        };
        match (flags & PRESENT != 0, result) {
            (true, _) => self.known(to, &[u8::from(link != 0)]),
            (false, 1) => self.known(to, &link.to_ne_bytes()),
            _ => {
                let mut name =
                    self.at.space.link(link).map(|l| l.name.clone().into_bytes()).unwrap_or_default();
                name.resize(16, 0);
                self.known(to, &name);
            }
        }
        Ok(Flow::On)
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
