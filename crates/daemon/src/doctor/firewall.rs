//! Other people's firewalls: base chains in the forward hook whose policy is to drop.

use weft_sys::netlink::{
    Channel, Family, Message, Socket,
    attr::{as_be32, as_text, find},
};

use super::{Check, Finding, Without, read};

const GROUP: &str = "firewall";
/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN`.
const GETCHAIN: u16 = 0x0a04;
const NLM_F_DUMP: u16 = 0x300;
const NF_INET_FORWARD: u32 = 2;
const NF_DROP: u32 = 0;

/// Tables that are ours, by name.
const OURS: [&str; 3] = ["weft", "weft-policy", "weft-keep"];

const LOSES: &str = "it drops what none of its rules accepts, whatever Weft allows: without rules for links that begin with wf, all \
                     packets between containers and the world";

const DROPS: Without = Without {
    finding: Finding::Note,
    loses: LOSES,
    remedy: "if it has none: nft add rule FAMILY TABLE CHAIN iifname \"wf*\" accept (and oifname); docs/firewall.md",
};

/// The old iptables' tools, and where the kernel tells which of their tables there are.
const LEGACY: [(&str, &str); 2] =
    [("iptables-legacy", "/proc/net/ip_tables_names"), ("ip6tables-legacy", "/proc/net/ip6_tables_names")];

const LEGACY_DROPS: Without = Without {
    finding: Finding::Note,
    loses: LOSES,
    remedy: "if it has none: iptables-legacy -I FORWARD -i wf+ -j ACCEPT (and -o wf+); docs/firewall.md",
};

const LEGACY_DROPS6: Without = Without {
    remedy: "if it has none: ip6tables-legacy -I FORWARD -i wf+ -j ACCEPT (and -o wf+); docs/firewall.md",
    ..LEGACY_DROPS
};

pub(super) fn probe() -> Vec<Check> {
    let dropping = match chains() {
        Ok(dropping) => dropping,
        Err(error) => {
            let without = Without {
                finding: Finding::Note,
                loses: "whether another firewall drops forwarded packets is not known",
                remedy: "run as root",
            };
            return vec![Check::lacks(GROUP, "foreign firewalls", error, without)];
        }
    };
    let mut all: Vec<Check> = dropping
        .into_iter()
        .map(|chain| Check::lacks(GROUP, format!("forward policy of {chain}"), "drop", DROPS))
        .collect();
    for (tool, without) in [(LEGACY[0], LEGACY_DROPS), (LEGACY[1], LEGACY_DROPS6)] {
        if legacy(tool, "FORWARD").first().is_some_and(|line| line == "-P FORWARD DROP") {
            all.push(Check::lacks(GROUP, format!("forward policy of {} filter", tool.0), "drop", without));
        }
    }
    if all.is_empty() {
        all.push(Check::ok(GROUP, "foreign firewalls", "none drops forwarded packets by policy"));
    }
    all
}

/// Chains of others that hook into forwarding and drop by policy.
fn chains() -> Result<Vec<String>, String> {
    let foreign = foreign()?.into_iter();
    Ok(foreign.filter(|c| c.hook == NF_INET_FORWARD && c.policy == NF_DROP).map(|c| c.name).collect())
}

/// Whether somebody else filters at a hook: by a chain of nftables, or by the old iptables.
pub(super) fn guards(hook: u32) -> bool {
    let filters = |chain: &Chain| chain.hook == hook && chain.kind == "filter";
    // Its policy is the first line; one that accepts and has no rules filters nothing.
    let old = |tool| {
        let lines = legacy(tool, "INPUT");
        lines.len() > 1 || lines.first().is_some_and(|line| line != "-P INPUT ACCEPT")
    };
    foreign().is_ok_and(|all| all.iter().any(filters)) || LEGACY.into_iter().any(old)
}

/// What a chain of the old iptables' table `filter` holds, as its tool tells; nothing where there is no such table. It keeps its
/// rules elsewhere, and only its own tool can read them (and would make the table by asking).
fn legacy((tool, tables): (&str, &str), chain: &str) -> Vec<String> {
    if !read(tables).lines().any(|table| table == "filter") {
        return Vec::new();
    }
    let listed = std::process::Command::new(tool).args(["-S", chain]).output();
    let text = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A base chain.
struct Chain {
    /// `family table chain`.
    name: String,
    kind: String,
    hook: u32,
    policy: u32,
}

/// Base chains that are not ours.
fn foreign() -> Result<Vec<Chain>, String> {
    let mut socket = Socket::open(Family::Netfilter).map_err(|e| weft_base::chain(&e))?;
    let list = Message {
        kind: GETCHAIN,
        flags: NLM_F_DUMP,
        body: vec![0; 4],
        tolerate: &[],
        what: "list chains".into(),
    };
    let answers = socket.query(&list).map_err(|e| weft_base::chain(&e))?;
    Ok(answers.iter().filter_map(|(_, body)| decode(body)).collect())
}

fn decode(body: &[u8]) -> Option<Chain> {
    let (family, attributes) = (*body.first()?, body.get(4..)?);
    let (table, chain) = (as_text(find(attributes, 1)?)?, as_text(find(attributes, 3)?)?);
    let hook = as_be32(find(find(attributes, 4)?, 1)?)?;
    let policy = as_be32(find(attributes, 5)?)?;
    let kind = find(attributes, 7).and_then(as_text).unwrap_or_default().to_owned();
    let family = match family {
        1 => "inet",
        2 => "ip",
        10 => "ip6",
        7 => "bridge",
        _ => return None,
    };
    (!OURS.contains(&table)).then(|| Chain { name: format!("{family} {table} {chain}"), kind, hook, policy })
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_sys::netlink::attr::Attrs;

    #[test]
    fn fuzz_chains_only_foreign_forward_drops_are_told() {
        let body = |table: &str, hook: u32, policy: u32| {
            let hook = Attrs::new().be32(1, hook).be32(2, 0);
            let attrs = Attrs::new().text(1, table).text(3, "FORWARD").nest(4, &hook).be32(5, policy);
            [&[2, 0, 0, 0], attrs.as_bytes()].concat()
        };
        let dropping = |body: &[u8]| {
            let drops = |c: &Chain| c.hook == NF_INET_FORWARD && c.policy == NF_DROP;
            decode(body).filter(drops).map(|c| c.name)
        };
        assert_eq!(dropping(&body("filter", 2, 0)).as_deref(), Some("ip filter FORWARD"));
        assert_eq!(dropping(&body("filter", 2, 1)), None);
        assert_eq!(dropping(&body("filter", 1, 0)), None);
        for ours in OURS {
            assert_eq!(dropping(&body(ours, 2, 0)), None);
        }
        assert_eq!(dropping(&[2, 0, 0, 0]), None);
        weft_testkit::fuzz::run("doctor-chains", &[body("filter", 2, 0)], &[], |bytes| {
            let _ = decode(bytes);
        });
    }
}
