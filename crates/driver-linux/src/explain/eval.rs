//! One rule on one packet. A rule is a program over registers; registers hold bytes that may be unknown, so a rule matches,
//! does not, or cannot be told (with the reason).

mod load;
mod xt;

use std::net::IpAddr;

use weft_dataplane::insight::Transport;
use weft_sys::nft::seen::{Code, Data, Expr, NatKind, Ruleset, TableKey, VERDICT};

use super::{
    facts::{Ask, Facts, Place, Space},
    packet::{Byte, Packet},
    sets::{Answer, Found, compare, find},
};
use crate::{TABLE, consent};

/// What a rule does to a packet that it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The next rule.
    None,
    Code(Code),
    Reject,
    /// A queue or another thing that decides outside of what is known.
    Away(String),
    /// Goes on by the interface of this number, if that is known.
    Hand(Option<u32>),
    /// A translation, with what is known of where to.
    Nat(NatKind, Option<IpAddr>, Option<u16>),
}

/// Whether a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Matched {
    No,
    Yes(Effect),
    /// Why it cannot be told, and what it would do.
    Maybe(String, Effect),
}

/// Where a rule is evaluated.
pub(crate) struct Context<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) place: Place,
    pub(crate) space: &'a Space,
    pub(crate) rules: &'a Ruleset,
    pub(crate) table: &'a TableKey,
    /// Connections are known from here on.
    pub(crate) tracked: bool,
}

struct Machine<'a> {
    at: &'a Context<'a>,
    registers: [Byte; 64],
    /// The packet's mark, where this rule has set it.
    mark: Option<[Byte; 4]>,
    doubt: Option<String>,
    /// It matches as long as a limit is not reached.
    limited: bool,
}

/// Evaluates a rule. What it sets (marks, no tracking) is set in the packet if it certainly matches so far.
pub(crate) fn rule(at: &Context<'_>, exprs: &[Expr], packet: &mut Packet) -> Result<Matched, Ask> {
    let mut machine = Machine { at, registers: [None; 64], mark: None, doubt: None, limited: false };
    for expr in exprs {
        match machine.step(expr, packet)? {
            Flow::On => {}
            Flow::Out => return Ok(Matched::No),
            Flow::End(effect) => return Ok(machine.matched(effect)),
        }
    }
    Ok(machine.matched(Effect::None))
}

enum Flow {
    On,
    Out,
    End(Effect),
}

impl Machine<'_> {
    fn matched(self, effect: Effect) -> Matched {
        match self.doubt {
            // What lets packets pass up to a limit lets this one pass; what drops up to one may have dropped enough.
            None if self.limited && matches!(effect, Effect::Code(Code::Drop) | Effect::Reject) => {
                Matched::Maybe("whether its limit is reached is not known".into(), effect)
            }
            None => Matched::Yes(effect),
            Some(why) => Matched::Maybe(why, effect),
        }
    }

    fn put(&mut self, to: usize, value: &[Byte]) {
        for (slot, byte) in self.registers.iter_mut().skip(to).zip(value) {
            *slot = *byte;
        }
        // The rest of the last word is zero.
        for slot in
            self.registers.iter_mut().take((to + value.len()).next_multiple_of(4)).skip(to + value.len())
        {
            *slot = Some(0);
        }
    }

    fn known(&mut self, to: usize, value: &[u8]) {
        let value: Vec<Byte> = value.iter().copied().map(Some).collect();
        self.put(to, &value);
    }

    fn get(&self, from: usize, length: usize) -> Vec<Byte> {
        (from..from.saturating_add(length)).map(|at| self.registers.get(at).copied().flatten()).collect()
    }

    fn whole(&self, from: usize, length: usize) -> Option<Vec<u8>> {
        self.get(from, length).into_iter().collect()
    }

    fn decide(&mut self, answer: Answer, why: impl FnOnce() -> String) -> Flow {
        match answer {
            Some(true) => Flow::On,
            Some(false) => Flow::Out,
            None => {
                self.doubt.get_or_insert_with(why);
                Flow::On
            }
        }
    }

    fn step(&mut self, expr: &Expr, packet: &mut Packet) -> Result<Flow, Ask> {
        Ok(match expr {
            Expr::Meta { key, to } => return Ok(self.meta(*key, *to, packet)),
            Expr::Ct { key, direction, to } => return Ok(self.ct(*key, *direction, *to, packet)),
            Expr::Payload { base, offset, length, to } => self.payload(*base, *offset, *length, *to, packet),
            Expr::Fib { flags, result, to } => self.fib(*flags, *result, *to, packet)?,
            Expr::SetMeta { key: 3, from } => {
                let bytes = self.get(*from, 4);
                self.mark = bytes.clone().try_into().ok();
                match bytes.into_iter().collect::<Option<Vec<u8>>>().and_then(|b| b.try_into().ok()) {
                    Some(bytes) if self.doubt.is_none() => packet.mark = u32::from_ne_bytes(bytes),
                    _ => {}
                }
                Flow::On
            }
            Expr::SetMeta { .. }
            | Expr::SetCt { .. }
            | Expr::Counter { .. }
            | Expr::Log
            | Expr::Harmless(_) => Flow::On,
            // Ethernet addresses are not followed.
            Expr::SetPayload { base: 0 } => Flow::On,
            Expr::Forward { device } => {
                let index = self.whole(*device, 4).and_then(|b| Some(u32::from_ne_bytes(b.try_into().ok()?)));
                Flow::End(Effect::Hand(index))
            }
            Expr::SetPayload { .. } => self.decide(None, || "it changes the packet itself".into()),
            Expr::Notrack => {
                if self.doubt.is_none() {
                    packet.untracked = true;
                }
                Flow::On
            }
            Expr::Limit { over } => {
                self.limited |= !over;
                self.decide(Some(!over), String::new)
            }
            Expr::Reject => Flow::End(Effect::Reject),
            Expr::Queue => Flow::End(Effect::Away("a program decides (queue)".into())),
            Expr::Other(name) => {
                self.registers = [None; 64];
                let name = name.clone();
                self.decide(None, || format!("its expression {name:?} is not understood"))
            }
            Expr::XtMatch(m) => self.xt_match(m, packet),
            Expr::XtTarget(t) => self.xt_target(t),
            Expr::Immediate { to, data } => self.immediate(*to, data),
            Expr::Nat { kind, address, port } => {
                let ip = address.and_then(|at| self.address(at, packet.v6()));
                let port = port.and_then(|at| self.whole(at, 2)).map(|b| u16::from_be_bytes([b[0], b[1]]));
                Flow::End(Effect::Nat(*kind, ip, port))
            }
            other => self.compare(other, packet),
        })
    }

    fn address(&self, at: usize, v6: bool) -> Option<IpAddr> {
        if v6 {
            let bytes: [u8; 16] = self.whole(at, 16)?.try_into().ok()?;
            Some(bytes.into())
        } else {
            let bytes: [u8; 4] = self.whole(at, 4)?.try_into().ok()?;
            Some(bytes.into())
        }
    }

    fn immediate(&mut self, to: usize, data: &Data) -> Flow {
        match data {
            Data::Verdict(Code::Continue | Code::Break) => Flow::On,
            Data::Verdict(Code::Queue) => Flow::End(Effect::Away("a program decides (queue)".into())),
            Data::Verdict(Code::Stolen) => Flow::End(Effect::Away("it is taken out of the stack".into())),
            Data::Verdict(code) => Flow::End(Effect::Code(code.clone())),
            Data::Value(value) => {
                if to != VERDICT {
                    self.known(to, value);
                }
                Flow::On
            }
        }
    }

    fn compare(&mut self, expr: &Expr, packet: &Packet) -> Flow {
        let why = || "it asks for what is not known of the packet".to_owned();
        match expr {
            Expr::Cmp { from, op, value } => {
                let answer = compare(&self.get(*from, value.len()), *op, value);
                self.decide(answer, why)
            }
            Expr::Range { from, inside, first, last } => {
                let value = self.whole(*from, first.len());
                let answer = value.map(|v| (v >= *first && v <= *last) == *inside);
                self.decide(answer, why)
            }
            Expr::Bitwise { from, to, mask, xor } => {
                let value = self.get(*from, mask.len());
                let masked: Vec<Byte> = value
                    .iter()
                    .zip(mask)
                    .zip(xor)
                    .map(|((byte, mask), xor)| match (byte, mask) {
                        (_, 0) => Some(*xor),
                        (byte, mask) => byte.map(|b| (b & mask) ^ xor),
                    })
                    .collect();
                self.put(*to, &masked);
                Flow::On
            }
            Expr::Byteorder { from, to, length, size } => {
                let mut value = self.get(*from, *length);
                if cfg!(target_endian = "little") && *size > 1 {
                    value.chunks_mut(*size).for_each(<[Byte]>::reverse);
                }
                self.put(*to, &value);
                Flow::On
            }
            Expr::Lookup { set, inverted, .. }
                if packet.let_in && self.at.table.1 == TABLE && consent::tells_who_is_known(set) =>
            {
                if *inverted {
                    Flow::Out
                } else {
                    Flow::On
                }
            }
            Expr::Lookup { set, from, to, inverted } => self.lookup(set, *from, *to, *inverted),
            _ => Flow::On,
        }
    }

    fn lookup(&mut self, name: &str, from: usize, to: Option<usize>, inverted: bool) -> Flow {
        let key = (self.at.table.clone(), name.to_owned());
        let Some(set) = self.at.rules.sets.get(&key) else {
            return self.decide(None, || format!("set {name} cannot be read"));
        };
        let value = self.get(from, set.key_length);
        let found = match find(set, &value) {
            Found::No => return if inverted { Flow::On } else { Flow::Out },
            Found::Maybe => {
                return self.decide(None, || "it asks for what is not known of the packet".into());
            }
            Found::Yes(element) => element,
        };
        match (to, &found.data) {
            (None, _) => return if inverted { Flow::Out } else { Flow::On },
            (Some(VERDICT), Some(data)) => return self.immediate(VERDICT, &data.clone()),
            (Some(to), Some(Data::Value(value))) => self.known(to, &value.clone()),
            _ => {}
        }
        Flow::On
    }
}

/// `RTN_*` of an address here.
fn address_type(space: &Space, ip: IpAddr) -> u32 {
    let broadcast = |net: &ipnet::IpNet| match (net, ip) {
        (ipnet::IpNet::V4(net), IpAddr::V4(ip)) => net.prefix_len() < 31 && net.broadcast() == ip,
        _ => false,
    };
    match ip {
        ip if ip.is_multicast() => 5,
        IpAddr::V4(v4) if v4.is_broadcast() => 3,
        ip if space.owns(ip) => 2,
        _ if space.addresses.iter().any(|(_, net)| broadcast(net)) => 3,
        _ => 1,
    }
}

/// Whether listeners matter to it.
pub(crate) fn has_ports(transport: Transport) -> bool {
    transport != Transport::Icmp
}
