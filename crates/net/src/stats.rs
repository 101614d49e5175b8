//! What passed each interface of a running process's network namespace.
//!
//! Read from `/proc/PID/net/dev` (proc(5)): seen from inside, so receive and transmit need no swapping, and
//! right in whichever namespace the daemon itself lives.

use std::{collections::BTreeMap, io};

/// Counters of one interface, from its own point of view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Received and dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Transmit errors.
    pub tx_errors: u64,
    /// Dropped instead of sent.
    pub tx_dropped: u64,
}

/// Counters of each interface but loopback in the namespace of process `pid`.
///
/// # Errors
/// The process is gone.
pub fn interface_counters(pid: u32) -> io::Result<BTreeMap<String, Counters>> {
    Ok(parse_net_dev(&std::fs::read_to_string(format!("/proc/{pid}/net/dev"))?))
}

/// Reads the text of `/proc/PID/net/dev`; lines that are not of its form are skipped.
#[must_use]
pub fn parse_net_dev(text: &str) -> BTreeMap<String, Counters> {
    text.lines().filter_map(line).filter(|(name, _)| name != "lo").collect()
}

fn line(text: &str) -> Option<(String, Counters)> {
    let (name, rest) = text.split_once(':')?;
    let n: Vec<u64> = rest.split_whitespace().map_while(|n| n.parse().ok()).collect();
    let [
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped,
        _,
        _,
        _,
        _,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
        ..,
    ] = n[..]
    else {
        return None;
    };
    let counters =
        Counters { rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped };
    Some((name.trim().to_owned(), counters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table() {
        let text = "Inter-|   Receive                                                |  Transmit\n face |bytes    \
                    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls \
                    carrier compressed\n    lo:       1       1    0    0    0     0          0         0        1       \
                    1    0    0    0     0       0          0\n  eth0:1234 5 6 7 0 0 0 0 8 9 10 11 0 0 0 0\n";
        let seen = parse_net_dev(text);
        assert_eq!(seen.len(), 1);
        let eth0 = seen["eth0"];
        assert_eq!((eth0.rx_bytes, eth0.rx_dropped, eth0.tx_bytes, eth0.tx_dropped), (1234, 7, 8, 11));
        assert!(interface_counters(std::process::id()).is_ok());
    }
}
