//! Who reaches published ports: what the policy in force comes to on this host, read from the rules in the kernel and not
//! from a configuration that may not be in force yet.

use std::collections::BTreeSet;

use weft_sys::{
    netlink::{Family, Socket},
    nft::{self, RuleSeen},
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

const ALL_OPEN: Without = Without {
    finding: Finding::Note,
    loses: "every port of their containers, published or not, is open to hosts with a route to them: that is what \
            nat-unprotected says, and no publish policy is asked",
    remedy: "if that is not meant: make the network anew with gateway mode nat or routed, or drop in user_forward \
             (docs/firewall.md)",
};

/// Comments of rules that let in whatever the policy (`driver-linux`, `direct.rs`), each in the chain `into_BRIDGE`.
const UNPROTECTED: &str = "unprotected: ";
const TRUSTED: &str = "trusted link: ";

pub(super) fn probe() -> Vec<Check> {
    let seen = Socket::open(Family::Netfilter).and_then(|mut socket| nft::rules(&mut socket, TABLE));
    // Without the right to look, the probe of foreign firewalls says so.
    let Ok(rules) = seen else { return Vec::new() };
    let rules = rules.unwrap_or_default();
    let policy = rules.iter().find_map(|rule| rule.tag.strip_prefix(MARK)?.split(' ').next());
    let mut all = vec![effect(policy, firewall::guards(INPUT))];
    all.extend(exceptions(&rules));
    for chain in ["user_forward", "user_publish"] {
        let count = rules.iter().filter(|rule| rule.chain == chain).count();
        if count > 0 {
            let detail = format!("{count} of yours decide before Weft's (docs/firewall.md)");
            all.push(Check::told(GROUP, format!("rules in {chain}"), detail));
        }
    }
    all
}

/// What the policy does not decide.
fn exceptions(rules: &[RuleSeen]) -> Vec<Check> {
    let bridges = |comment: &str| {
        let of = |rule: &RuleSeen| Some(rule.chain.strip_prefix("into_")?.to_owned());
        let found: BTreeSet<String> =
            rules.iter().filter(|rule| rule.tag.starts_with(comment)).filter_map(of).collect();
        (!found.is_empty()).then(|| found.into_iter().collect::<Vec<_>>().join(", "))
    };
    let open = bridges(UNPROTECTED)
        .map(|found| Check::lacks(GROUP, "networks without protection", format!("on {found}"), ALL_OPEN));
    let trusted = bridges(TRUSTED).map(|found| {
        let detail = format!(
            "networks on {found} let in to published ports, by the containers' own addresses, what comes by interfaces that \
             their trusted_host_interfaces names, whatever the policy"
        );
        Check::told(GROUP, "trusted interfaces", detail)
    });
    open.into_iter().chain(trusted).collect()
}

/// What a policy means here. `guards`: whether something else filters incoming packets.
fn effect(policy: Option<&str>, guards: bool) -> Check {
    let name = |policy: &str| format!("publish policy {policy}");
    let told = |policy: &str, detail: &str| Check::told(GROUP, name(policy), detail);
    match policy {
        None => Check::ok(GROUP, "publish policy", "no daemon has made its rules here"),
        Some("host-firewall") if !guards => {
            let detail =
                "published ports are reached where the host's rules for incoming packets let them in";
            Check::lacks(GROUP, name("host-firewall"), detail, UNDECIDED)
        }
        Some("host-firewall") => told(
            "host-firewall",
            "other hosts reach a published port where the host's own rules for incoming packets (ufw allow, firewall-cmd \
             --add-port, INPUT) let them in; a client's first connection in a minute takes a second longer. Ports of routed \
             networks are asked about by the container's port number",
        ),
        Some("deny") => told(
            "deny",
            "no other host reaches a published port, neither by this host's addresses nor, on routed networks, by the \
             container's own; this host and its containers do",
        ),
        Some("open") => told(
            "open",
            "other hosts reach published ports as with Docker: rules for incoming packets (ufw, INPUT) do not apply to \
             them, those for forwarded packets do; --publish-policy host-firewall or deny close them",
        ),
        Some(other) => told(other, "not known to this program: another version's rules are in force"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_policy_does_not_decide_is_told() {
        let rule = |chain: &str, tag: &str| RuleSeen { chain: chain.into(), tag: tag.into() };
        let told = exceptions(&[
            rule("into_wfb1", "published #00000000"),
            rule("into_wfb2", "unprotected: from outside #00000000"),
            rule("into_wfb2", "unprotected: from outside #11111111"),
            rule("into_wfb3", "unprotected: from outside #00000000"),
            rule("into_wfb4", "trusted link: open ports #00000000"),
        ]);
        let [open, trusted] = &told[..] else { panic!("{} checks", told.len()) };
        assert_eq!((open.finding, open.detail.as_str()), (Finding::Note, "on wfb2, wfb3"));
        assert_eq!(trusted.finding, Finding::Told);
        assert!(trusted.detail.starts_with("networks on wfb4 let in"), "{}", trusted.detail);
        assert!(exceptions(&[rule("into_wfb1", "published #00000000")]).is_empty());
    }

    #[test]
    fn each_policy_is_explained() {
        let told = |policy, guards| {
            let check = effect(policy, guards);
            (check.name, check.finding, check.detail)
        };
        let (name, finding, detail) = told(Some("open"), true);
        assert_eq!((name.as_str(), finding), ("publish policy open", Finding::Told));
        assert!(detail.contains("as with Docker"), "{detail}");
        assert_eq!(told(Some("host-firewall"), true).1, Finding::Told);
        assert_eq!(told(Some("host-firewall"), false).1, Finding::Note);
        assert!(told(Some("deny"), false).2.starts_with("no other host"));
        assert!(told(None, false).2.starts_with("no daemon"));
        assert!(told(Some("new"), false).2.contains("another version"));
    }
}
