//! Who reaches published ports: what the policy in force comes to on this host, read from the rules in the kernel and not
//! from a configuration that may not be in force yet.

use weft_sys::{
    netlink::{Family, Socket},
    nft,
};

use super::{Check, Finding, Without, firewall};

const GROUP: &str = "firewall";
const TABLE: &str = "weft";
/// `NF_INET_LOCAL_IN`.
const INPUT: u32 = 1;
/// How the rule that the policy is begins (`driver-linux`, `rules.rs`).
const MARK: &str = "published: ";

const UNDECIDED: Without = Without {
    finding: Finding::Note,
    loses: "nothing on this host filters incoming packets, so host-firewall lets everybody in, like open",
    remedy: "load a firewall (ufw, firewalld, nftables, iptables), or use --publish-policy deny",
};

pub(super) fn probe() -> Vec<Check> {
    let seen = Socket::open(Family::Netfilter).and_then(|mut socket| nft::rules(&mut socket, TABLE));
    // Without the right to look, the probe of foreign firewalls says so.
    let Ok(rules) = seen else { return Vec::new() };
    let rules = rules.unwrap_or_default();
    let policy = rules.iter().find_map(|rule| rule.tag.strip_prefix(MARK)?.split(' ').next());
    let mut all = vec![effect(policy, firewall::guards(INPUT))];
    for chain in ["user_forward", "user_publish"] {
        let count = rules.iter().filter(|rule| rule.chain == chain).count();
        if count > 0 {
            let detail = format!("{count} of yours decide before Weft's (docs/firewall.md)");
            all.push(Check::ok(GROUP, format!("rules in {chain}"), detail));
        }
    }
    all
}

/// What a policy means here. `guards`: whether something else filters incoming packets.
fn effect(policy: Option<&str>, guards: bool) -> Check {
    let name = |policy: &str| format!("publish policy {policy}");
    let ok = |policy: &str, detail: &str| Check::ok(GROUP, name(policy), detail);
    match policy {
        None => Check::ok(GROUP, "publish policy", "no daemon has made its rules here"),
        Some("host-firewall") if !guards => {
            let detail =
                "published ports are reached where the host's rules for incoming packets let them in";
            Check::lacks(GROUP, name("host-firewall"), detail, UNDECIDED)
        }
        Some("host-firewall") => ok(
            "host-firewall",
            "other hosts reach a published port where the host's own rules for incoming packets (ufw allow, firewall-cmd \
             --add-port, INPUT) let them in; a client's first connection in a minute takes a second longer",
        ),
        Some("deny") => ok(
            "deny",
            "no other host reaches a published port by this host's addresses; this host and its containers do. Routed networks \
             and trusted interfaces let in by their own rules",
        ),
        Some("open") => ok(
            "open",
            "other hosts reach published ports as with Docker: rules for incoming packets (ufw, INPUT) do not apply to \
             them, those for forwarded packets do; --publish-policy host-firewall or deny close them",
        ),
        Some(other) => ok(other, "not known to this program: another version's rules are in force"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_is_explained() {
        let told = |policy, guards| {
            let check = effect(policy, guards);
            (check.name, check.finding, check.detail)
        };
        let (name, finding, detail) = told(Some("open"), true);
        assert_eq!((name.as_str(), finding), ("publish policy open", Finding::Ok));
        assert!(detail.contains("as with Docker"), "{detail}");
        assert_eq!(told(Some("host-firewall"), true).1, Finding::Ok);
        assert_eq!(told(Some("host-firewall"), false).1, Finding::Note);
        assert!(told(Some("deny"), false).2.starts_with("no other host"));
        assert!(told(None, false).2.starts_with("no daemon"));
        assert!(told(Some("new"), false).2.contains("another version"));
    }
}
