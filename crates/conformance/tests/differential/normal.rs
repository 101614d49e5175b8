//! Makes alike what differs by nature between two hosts.

/// The words that stand for a host's own addresses, and for what is chosen at random.
pub struct Normal {
    /// Address and the word for it.
    pub own: Vec<(String, &'static str)>,
}

impl Normal {
    /// `text` with its words made alike, line by line.
    pub fn lines(&self, text: &str) -> String {
        // The length of a queue that a link with `noqueue` does not use.
        let bare =
            |line: &str| line.split_once(" qlen ").map_or(line.to_owned(), |(line, _)| line.to_owned());
        let line =
            |line: &str| bare(line).split_whitespace().map(|w| self.word(w)).collect::<Vec<_>>().join(" ");
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    fn word(&self, word: &str) -> String {
        let (core, end) = word.split_at(word.trim_end_matches([':', ',']).len());
        if let Some((_, name)) = self.own.iter().find(|(address, _)| address == core) {
            return format!("{name}{end}");
        }
        // `eth0@if12:`, the number of the other end of a pair.
        if let Some((name, peer)) = core.split_once("@if")
            && peer.bytes().all(|b| b.is_ascii_digit())
        {
            return format!("{name}{end}");
        }
        // `12:`, the number of an interface.
        if end == ":" && !core.is_empty() && core.bytes().all(|b| b.is_ascii_digit()) {
            return "N:".to_owned();
        }
        if is_mac(core) {
            return "MAC".to_owned();
        }
        if let Some(rest) = core.strip_prefix("fe80::") {
            let prefix = rest.split_once('/').map(|(_, prefix)| format!("/{prefix}")).unwrap_or_default();
            return format!("fe80::X{prefix}{end}");
        }
        let hex = core.len() >= 12 && core.bytes().all(|b| b.is_ascii_hexdigit());
        if hex { format!("ID{end}") } else { word.to_owned() }
    }
}

fn is_mac(word: &str) -> bool {
    let pairs: Vec<&str> = word.split(':').collect();
    pairs.len() == 6 && pairs.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// `resolv.conf` without comments, its lines in alphabetical order: dockerd changed their order with version 25.
pub fn resolv(text: &str) -> String {
    let mut lines: Vec<&str> =
        text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    // The order of servers means something.
    lines.sort_by_key(|line| line.split(' ').next().map(str::to_owned));
    lines.join("\n")
}

#[test]
fn words_are_made_alike() {
    let normal = Normal { own: vec![("198.18.0.2".into(), "HOST")] };
    let check = |text: &str, wanted: &str| assert_eq!(normal.lines(text), wanted);
    check("12: eth0@if13: <UP> mtu 1500 qlen 1000", "N: eth0: <UP> mtu 1500");
    check("  link/ether 02:42:ac:11:00:02 brd ff:ff:ff:ff:ff:ff", "link/ether MAC brd MAC");
    check("inet6 fe80::42:acff:fe11:2/64 scope link", "inet6 fe80::X/64 scope link");
    check("172.17.0.2\t0123456789ab", "172.17.0.2 ID");
    check("from 198.18.0.2: 10.81.1.2", "from HOST: 10.81.1.2");
    assert_eq!(resolv("# a\nsearch x\nnameserver 2\nnameserver 1\n"), "nameserver 2\nnameserver 1\nsearch x");
}
