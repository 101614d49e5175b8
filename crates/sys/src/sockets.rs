//! Which sockets wait for packets in the calling thread's network namespace (`/proc/net/{tcp,udp}{,6}`, proc(5)).

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A waiting socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// 6 or 17.
    pub protocol: u8,
    /// Its address; unspecified for all. `::` takes IPv4, too, unless the socket forbids that.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// All of them. Tables that are not there (no IPv6) hold none.
///
/// # Errors
/// A table cannot be read.
pub fn listeners() -> io::Result<Vec<Listener>> {
    let mut all = Vec::new();
    for (file, protocol, state) in
        [("tcp", 6, "0A"), ("tcp6", 6, "0A"), ("udp", 17, "07"), ("udp6", 17, "07")]
    {
        match fs::read_to_string(format!("/proc/thread-self/net/{file}")) {
            Ok(text) => all.extend(text.lines().skip(1).filter_map(|line| parse(line, protocol, state))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// `sl: address:port peer:port state …`; addresses are words of the host's order in hexadecimal.
fn parse(line: &str, protocol: u8, state: &str) -> Option<Listener> {
    let mut words = line.split_whitespace().skip(1);
    let (address, port) = words.next()?.split_once(':')?;
    if words.nth(1)? != state {
        return None;
    }
    let word =
        |at: usize| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let octets: [u8; 16] = [word(0)?, word(1)?, word(2)?, word(3)?].concat().try_into().ok()?;
            let address = Ipv6Addr::from(octets);
            address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4)
        }
        _ => return None,
    };
    Some(Listener { protocol, address, port: u16::from_str_radix(port, 16).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_listener_is_found_and_its_end_too() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let mine = Listener { protocol: 6, address: Ipv4Addr::LOCALHOST.into(), port };
        assert!(listeners().unwrap().contains(&mine));
        drop(socket);
        assert!(!listeners().unwrap().contains(&mine));
    }

    #[test]
    fn lines_that_are_not_of_the_form_are_none() {
        for line in ["", "0:", "0: 0100007F:0050", "0: 01:0050 0:0 0A", "0: ZZ00007F:0050 00:0 0A"] {
            assert_eq!(parse(line, 6, "0A"), None, "{line:?}");
        }
        let v6 = "0: 00000000000000000000000001000000:0050 0:0 0A";
        assert_eq!(parse(v6, 6, "0A").map(|l| l.address), Some(Ipv6Addr::LOCALHOST.into()));
    }
}
