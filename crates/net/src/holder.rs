//! Which process of the host has a port: read from `/proc`, and only once a bind was refused, for it looks at every open
//! file of every process. What another process-id namespace hides stays unnamed.
//! Source: proc(5), `/proc/net/tcp` and `/proc/PID/fd`.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use weft_model::Protocol;

/// State of a listening TCP socket in `/proc/net/tcp` (`TCP_LISTEN`).
const LISTEN: &str = "0A";

/// `name, process 123`, where it can be found.
pub(crate) fn holder(protocol: Protocol, at: SocketAddr) -> Option<String> {
    let tables = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
        // Its table names no inodes.
        Protocol::Sctp => return None,
    };
    let read = |t: &str| fs::read_to_string(format!("/proc/thread-self/net/{t}")).unwrap_or_default();
    let texts = tables.map(read);
    let rows: Vec<Row> = texts.iter().flat_map(|t| t.lines()).filter_map(Row::parse).collect();
    let in_the_way = rows.iter().filter(|row| {
        row.at.port() == at.port() && (protocol != Protocol::Tcp || row.state == LISTEN) && row.meets(at.ip())
    });
    in_the_way.map(|row| row.inode).find_map(owner)
}

/// A socket as the tables show it.
struct Row<'a> {
    at: SocketAddr,
    state: &'a str,
    inode: u64,
}

impl<'a> Row<'a> {
    /// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …`
    fn parse(line: &'a str) -> Option<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (address, port) = fields.get(1)?.split_once(':')?;
        let at = SocketAddr::new(ip(address)?, u16::from_str_radix(port, 16).ok()?);
        Some(Self { at, state: fields.get(3)?, inode: fields.get(9)?.parse().ok().filter(|i| *i != 0)? })
    }

    /// Whether it can be in the way of a listener there: `::` also listens for IPv4, unless it said otherwise.
    fn meets(&self, ip: IpAddr) -> bool {
        self.at.ip() == ip || self.at.ip().is_unspecified() || ip.is_unspecified()
    }
}

/// Four-byte words, each printed as a number of the host's order.
fn ip(text: &str) -> Option<IpAddr> {
    let word = |i: usize| Some(u32::from_str_radix(text.get(i * 8..i * 8 + 8)?, 16).ok()?.to_ne_bytes());
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for i in 0..4 {
                bytes[i * 4..i * 4 + 4].copy_from_slice(&word(i)?);
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

fn owner(inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    let has = |pid: &str| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.into_iter().any(|f| fs::read_link(f.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str()))
    };
    let all = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = all.filter_map(|e| e.file_name().into_string().ok().filter(|n| n.parse::<u32>().is_ok()));
    let pid = pids.find(|pid| has(pid))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("{}, process {pid}", name.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_read() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0";
        let row = Row::parse(line).unwrap();
        assert_eq!((row.at.to_string().as_str(), row.state, row.inode), ("127.0.0.1:8080", LISTEN, 4242));
        assert!(row.meets("0.0.0.0".parse().unwrap()) && !row.meets("10.0.0.1".parse().unwrap()));
        assert_eq!(ip("00000000000000000000000001000000").unwrap().to_string(), "::1");
        for nonsense in ["", "sl local_address rem_address st", "0: 0100007F 0 0A 0 0 0 0 0 1", "0: é:1 0 0A"]
        {
            assert!(Row::parse(nonsense).is_none(), "{nonsense}");
        }
    }

    #[test]
    fn this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = holder(Protocol::Tcp, listener.local_addr().unwrap()).unwrap();
        assert!(found.ends_with(&format!(", process {}", std::process::id())), "{found}");
        let socket = std::net::UdpSocket::bind("[::]:0").unwrap();
        let at = SocketAddr::new("0.0.0.0".parse().unwrap(), socket.local_addr().unwrap().port());
        assert!(holder(Protocol::Udp, at).is_some());
    }
}
