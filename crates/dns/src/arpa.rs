//! Names that stand for addresses: those under `in-addr.arpa` (RFC 1035 section 3.5) and `ip6.arpa` (RFC 3596 section
//! 2.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What such a name is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    /// All addresses that it covers; one, if its digits are complete.
    pub(crate) net: IpNet,
    /// It has further labels in front, as those of service discovery do (`lb._dns-sd._udp.0.1.168.192.in-addr.arpa`).
    pub(crate) below: bool,
}

impl Subject {
    /// Reads a name in lower case without its final dot.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(labels) = text.strip_suffix(".in-addr.arpa") {
            let (octets, count, below) = digits(labels, |label| label.parse().ok());
            let size = u8::try_from(count * 8).ok()?;
            return Some(Self { net: IpNet::new(Ipv4Addr::from(octets).into(), size).ok()?, below });
        }
        let labels = text.strip_suffix(".ip6.arpa")?;
        let nibble = |label: &str| (label.len() == 1).then(|| u8::from_str_radix(label, 16).ok()).flatten();
        let (nibbles, count, below) = digits::<32>(labels, nibble);
        let size = u8::try_from(count * 4).ok()?;
        let ip = nibbles.iter().fold(0, |ip, nibble| ip << 4 | u128::from(*nibble));
        Some(Self { net: IpNet::new(Ipv6Addr::from(ip).into(), size).ok()?, below })
    }

    /// The one address that it stands for.
    pub(crate) fn address(self) -> Option<IpAddr> {
        (!self.below && self.net.prefix_len() == self.net.max_prefix_len()).then(|| self.net.addr())
    }
}

/// The last labels as digits of an address, the first one last; how many there are, and whether others are in front.
fn digits<const N: usize>(labels: &str, read: impl Fn(&str) -> Option<u8>) -> ([u8; N], usize, bool) {
    let (mut digits, mut count) = ([0; N], 0);
    let mut labels = labels.rsplit('.').peekable();
    while count < N
        && let Some(digit) = labels.peek().and_then(|label| read(label))
    {
        digits[count] = digit;
        count += 1;
        labels.next();
    }
    (digits, count, labels.peek().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_addresses() {
        let show = |text: &str| {
            let subject = Subject::parse(text)?;
            let digits = if subject.net.addr().is_ipv4() { 32 } else { 128 };
            assert_eq!(
                subject.address().is_some(),
                !subject.below && subject.net.prefix_len() == digits,
                "{text}"
            );
            Some(format!("{}{}", subject.net, if subject.below { " below" } else { "" }))
        };
        let six = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa";
        for (text, wanted) in [
            ("3.0.1.10.in-addr.arpa", Some("10.1.0.3/32")),
            ("0.1.10.in-addr.arpa", Some("10.1.0.0/24")),
            ("lb._dns-sd._udp.0.0.1.10.in-addr.arpa", Some("10.1.0.0/32 below")),
            // RFC 2317.
            ("1.0/25.2.0.192.in-addr.arpa", Some("192.0.2.0/24 below")),
            ("1.2.3.4.5.in-addr.arpa", Some("5.4.3.2/32 below")),
            ("x.in-addr.arpa", Some("0.0.0.0/0 below")),
            ("in-addr.arpa", None),
            (six, Some("fd00:1::2/128")),
            (&six[48..], Some("fd00:1::/32")),
            (&format!("a.b.{six}"), Some("fd00:1::2/128 below")),
            ("10.1.ip6.arpa", Some("1000::/4 below")),
            ("db.app", None),
        ] {
            assert_eq!(show(text).as_deref(), wanted, "{text}");
        }
    }
}
