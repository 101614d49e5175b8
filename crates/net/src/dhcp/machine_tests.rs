//! Conversations with a server that is a few lines long.

use proptest::prelude::*;

use super::*;

const MAC: MacAddr = MacAddr([2, 0x42, 0, 0, 0, 9]);
const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

fn now() -> Timestamp {
    Timestamp::from_unix(1000, 0).unwrap()
}

fn machine(phase: Phase) -> Machine {
    Machine::new(Client { mac: MAC, hostname: "web".into() }, phase, 7)
}

/// What the client said.
fn said(outgoing: &Outgoing) -> Message {
    let mut packet = outgoing.0.clone();
    // The other direction, so that the same reader takes it.
    packet[20..24].copy_from_slice(&[0, 67, 0, 68]);
    Message::from_bytes(datagram::unwrap(&packet).unwrap()).unwrap()
}

fn answer(kind: MessageType, change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = Message::default();
    message.set_xid(7).set_chaddr(&MAC.0).set_yiaddr([192, 168, 7, 50]);
    message.set_opcode(dhcproto::v4::Opcode::BootReply);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    message.opts_mut().insert(DhcpOption::ServerIdentifier([192, 168, 7, 1].into()));
    message.opts_mut().insert(DhcpOption::AddressLeaseTime(80));
    message.opts_mut().insert(DhcpOption::SubnetMask([255, 255, 255, 0].into()));
    message.opts_mut().insert(DhcpOption::Router(vec![[192, 168, 7, 1].into()]));
    change(&mut message);
    let mut packet = datagram::wrap([192, 168, 7, 1].into(), [255; 4].into(), &message.to_vec().unwrap());
    packet[20..24].copy_from_slice(&[0, 67, 0, 68]);
    packet
}

fn bound() -> Lease {
    let mut machine =
        machine(Phase::Request { address: [192, 168, 7, 50].into(), server: [192, 168, 7, 1].into() });
    match machine.hear(&answer(MessageType::Ack, |_| ()), SERVER_MAC, now()) {
        Heard::Bound(lease) => lease,
        other => panic!("{other:?}"),
    }
}

#[test]
fn four_messages_make_a_lease() {
    let mut machine = machine(Phase::Discover);
    let discover = machine.message().unwrap();
    assert_eq!(discover.1, EVERYBODY);
    let message = said(&discover);
    assert_eq!(message.opts().msg_type(), Some(MessageType::Discover));
    assert_eq!(message.opts().get(OptionCode::Hostname), Some(&DhcpOption::Hostname("web".into())));
    assert_eq!(
        machine.hear(&answer(MessageType::Ack, |_| ()), SERVER_MAC, now()),
        Heard::Nothing,
        "not asked"
    );
    let stranger = answer(MessageType::Offer, |m| {
        m.set_xid(8);
    });
    assert_eq!(machine.hear(&stranger, SERVER_MAC, now()), Heard::Nothing);
    let other = answer(MessageType::Offer, |m| {
        m.set_chaddr(&[2; 6]);
    });
    assert_eq!(machine.hear(&other, SERVER_MAC, now()), Heard::Nothing);
    assert_eq!(machine.hear(&answer(MessageType::Offer, |_| ()), SERVER_MAC, now()), Heard::Next);
    let request = said(&machine.message().unwrap());
    assert_eq!(request.opts().msg_type(), Some(MessageType::Request));
    let wanted = DhcpOption::RequestedIpAddress([192, 168, 7, 50].into());
    assert_eq!(request.opts().get(OptionCode::RequestedIpAddress), Some(&wanted));
    let lease = bound();
    assert_eq!((lease.address, lease.prefix), ([192, 168, 7, 50].into(), 24));
    assert_eq!((lease.renew, lease.rebind, lease.seconds), (40, 70, 80));
    assert_eq!((lease.gateway, lease.server_mac), (Some([192, 168, 7, 1].into()), SERVER_MAC));
}

#[test]
fn refusals_begin_anew() {
    let mut asking =
        machine(Phase::Request { address: [192, 168, 7, 50].into(), server: [192, 168, 7, 1].into() });
    let other = DhcpOption::ServerIdentifier([192, 168, 7, 2].into());
    let foreign = answer(MessageType::Nak, |m| drop(m.opts_mut().insert(other)));
    assert_eq!(asking.hear(&foreign, SERVER_MAC, now()), Heard::Nothing);
    assert_eq!(asking.hear(&answer(MessageType::Nak, |_| ()), SERVER_MAC, now()), Heard::Refused);
    assert_eq!(
        machine(Phase::Renew(bound())).hear(&answer(MessageType::Nak, |_| ()), SERVER_MAC, now()),
        Heard::Refused
    );
}

#[test]
fn renewing_goes_to_the_server_and_rebinding_to_all() {
    let lease = bound();
    let renew = machine(Phase::Renew(lease.clone())).message().unwrap();
    assert_eq!((renew.1, &renew.0[16..20]), (SERVER_MAC.0, &[192, 168, 7, 1][..]));
    let message = said(&renew);
    assert_eq!((message.ciaddr(), message.opts().get(OptionCode::ServerIdentifier)), (lease.address, None));
    let rebind = machine(Phase::Rebind(lease.clone())).message().unwrap();
    assert_eq!((rebind.1, &rebind.0[16..20]), (EVERYBODY, &[255; 4][..]));
    let client = Client { mac: MAC, hostname: String::new() };
    let release = said(&Machine::release(&client, &lease, 9).unwrap());
    assert_eq!(release.opts().msg_type(), Some(MessageType::Release));
    assert_eq!(release.ciaddr(), lease.address);
}

#[test]
fn senseless_leases_are_not_taken() {
    let check = |change: fn(&mut Message)| {
        let phase = Phase::Request { address: [192, 168, 7, 50].into(), server: [192, 168, 7, 1].into() };
        assert_eq!(machine(phase).hear(&answer(MessageType::Ack, change), SERVER_MAC, now()), Heard::Nothing);
    };
    check(|m| {
        m.set_yiaddr([0; 4]);
    });
    check(|m| {
        m.set_yiaddr([127, 0, 0, 1]);
    });
    check(|m| drop(m.opts_mut().insert(DhcpOption::SubnetMask([255, 0, 255, 0].into()))));
    check(|m| drop(m.opts_mut().remove(OptionCode::ServerIdentifier)));
}

/// A find of the fuzzer: who was told that the Ethernet address has 113 bytes looked for them, and was gone.
#[test]
fn an_address_longer_than_its_place_is_no_message() {
    let mut offer = answer(MessageType::Offer, |_| ());
    // Behind the headers of IPv4 and UDP: op, htype, hlen.
    for (length, heard) in [(6, Heard::Next), (16, Heard::Next), (17, Heard::Nothing), (113, Heard::Nothing)]
    {
        offer[28 + 2] = length;
        assert_eq!(machine(Phase::Discover).hear(&offer, SERVER_MAC, now()), heard, "{length}");
    }
}

/// Another find: a late T1 without a T2 was renewed after it had been asked for of everybody.
#[test]
fn renewing_comes_before_rebinding() {
    let times = |t1: u32, t2: Option<u32>| {
        let request = Phase::Request { address: [192, 168, 7, 50].into(), server: [192, 168, 7, 1].into() };
        let ack = answer(MessageType::Ack, |m| {
            m.opts_mut().insert(DhcpOption::Renewal(t1));
            if let Some(t2) = t2 {
                m.opts_mut().insert(DhcpOption::Rebinding(t2));
            }
        });
        match machine(request).hear(&ack, SERVER_MAC, now()) {
            Heard::Bound(lease) => (lease.renew, lease.rebind),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(times(10, Some(20)), (10, 20));
    assert_eq!(times(10, None), (10, 70));
    assert_eq!(times(74, None), (74, 74));
    assert_eq!(times(74, Some(60)), (74, 74));
    assert_eq!(times(80, None), (40, 70));
}

/// What anybody on the wire may send to port 68, in each state of the conversation.
#[test]
fn fuzz_dhcp() {
    let seeds = [
        answer(MessageType::Offer, |_| ()),
        answer(MessageType::Ack, |m| {
            m.opts_mut()
                .insert(DhcpOption::DomainNameServer(vec![[192, 168, 7, 1].into(), [192, 168, 7, 2].into()]));
            m.opts_mut().insert(DhcpOption::Renewal(10));
            m.opts_mut().insert(DhcpOption::Rebinding(20));
            m.opts_mut().insert(DhcpOption::DomainName("lan".into()));
        }),
        answer(MessageType::Nak, |m| drop(m.opts_mut().insert(DhcpOption::Message("no".into())))),
    ];
    let request = Phase::Request { address: [192, 168, 7, 50].into(), server: [192, 168, 7, 1].into() };
    let phases = [Phase::Discover, request, Phase::Renew(bound()), Phase::Rebind(bound())];
    let words = ["\u{35}\u{1}\u{5}", "\u{33}\u{4}\0\0\0\0", "\u{36}\u{4}", "\u{1}\u{4}", "\u{52}", "\u{3}\0"];
    weft_testkit::fuzz::run("dhcp", &seeds, &words, |input| {
        for phase in &phases {
            let mut machine = machine(phase.clone());
            if let Heard::Bound(lease) = machine.hear(input, SERVER_MAC, now()) {
                assert!(lease.prefix <= 32 && !lease.address.is_unspecified(), "{lease:?}");
                assert!(lease.renew <= lease.rebind && lease.rebind <= lease.seconds, "{lease:?}");
            }
            let _ = machine.message();
        }
        // Also what an IPv4 and UDP header that does not fit would keep from the decoder.
        if let Some(plain) = datagram::plain(input.get(28..).unwrap_or_default()) {
            let _ = Message::from_bytes(&plain);
        }
    });
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 0usize..320) {
        let mut machine = machine(Phase::Discover);
        let _ = machine.hear(&bytes, SERVER_MAC, now());
        let mut whole = answer(MessageType::Offer, |_| ());
        let at = 28 + cut.min(whole.len() - 29);
        whole.splice(at.., bytes);
        let _ = machine.hear(&whole, SERVER_MAC, now());
    }

    /// Every option there is, with any length: a client FQDN of one byte once was a panic of the decoder.
    #[test]
    fn options_of_any_length_are_passed_over(code in any::<u8>(), data in prop::collection::vec(any::<u8>(), 0..20)) {
        let mut bytes = vec![0; 236];
        bytes.extend([0x63, 0x82, 0x53, 0x63, code, u8::try_from(data.len()).unwrap()]);
        bytes.extend(&data);
        bytes.push(255);
        // Padding and the end are no options: what follows them is read as it comes.
        if let Some(plain) = datagram::plain(&bytes) {
            let _ = Message::from_bytes(&plain);
        }
    }
}
