//! What the publish policy `deny` keeps other hosts from. The rule that would translate passes their packets by, so that what
//! drops them at last (nobody listens; the port is taken for one that nobody published) says nothing of the policy.

use weft_dataplane::insight::RuleAt;
use weft_model::PublishPolicy;
use weft_sys::nft::{
    self,
    seen::{Family, Ruleset},
};

use super::{
    facts::Space,
    packet::{Byte, Packet},
    sets::{Found, find},
};
use crate::{TABLE, direct, publish, rules};

/// Why a packet for a published port is not translated, and what to do about it.
pub(crate) fn untranslated(space: &Space, packet: &Packet) -> Option<(String, String)> {
    let (protocol, port) = packet.service()?;
    let maps = publish::keys(protocol, packet.to, port);
    denied(&space.rules, packet, &maps)
        .map(|(reason, remedy)| (format!("{reason}: connection refused"), remedy))
}

/// Why a packet for a published port of a routed network is dropped by the rule for what nobody published.
pub(crate) fn dropped(space: &Space, rule: &RuleAt, packet: &Packet) -> Option<(String, String)> {
    let ours = rule.table == TABLE && rule.comment.starts_with(rules::UNPUBLISHED);
    let (protocol, port) = packet.service().filter(|_| ours)?;
    denied(&space.rules, packet, &[direct::routed_key(protocol, packet.to, port)])
}

fn denied(
    rules: &Ruleset,
    packet: &Packet,
    keys: &[(&'static nft::Set, Vec<u8>)],
) -> Option<(String, String)> {
    let table = || (Family::Inet, TABLE.to_owned());
    let chain = rules.chains.get(&(table(), "prerouting".to_owned()))?;
    let policy = chain.rules.iter().find_map(|rule| rules::policy_of(&rule.comment))?;
    let has = |(set, key): &(&nft::Set, Vec<u8>)| {
        let key: Vec<Byte> = key.iter().copied().map(Some).collect();
        let set = rules.sets.get(&(table(), set.name.to_owned()));
        set.is_some_and(|set| matches!(find(set, &key), Found::Yes(_)))
    };
    (policy == PublishPolicy::Deny && keys.iter().any(has)).then(|| {
        let (protocol, port) = (packet.transport.as_str(), packet.port.unwrap_or_default());
        let reason = format!(
            "{protocol} port {port} of {} is published, but the publish policy is deny: other hosts do not reach it",
            packet.to
        );
        let remedy = "weft up --publish-policy open lets them in, host-firewall those whom the host's own rules for incoming \
                      packets let in";
        (reason, remedy.to_owned())
    })
}
