//! Use cases around policy: what may pass between endpoints, and what holds for a network without a policy that fits.

mod selectors;

use std::{collections::BTreeMap, sync::Arc};

use weft_model::{
    Labels, Network, NetworkKind, Policy, PolicyAction, PolicyId, PolicyProtocol, PolicySpec, PortRange,
    Selector,
};
use weft_store::Stored;

use crate::{Action, Caller, Cloud, CloudError, Kind, Result};

/// A policy as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDraft {
    /// Who begins: a selector, `network=` by name or id, `id=` and words alone for a container that is there.
    pub from: String,
    /// Who is reached.
    pub to: String,
    /// `tcp`, `udp`, `sctp`, `icmp`; all when absent.
    pub protocol: Option<String>,
    /// `80` or `80-90`; all when absent.
    pub ports: Option<String>,
    /// What becomes of it.
    pub action: PolicyAction,
}

/// A policy and what it has decided on this host.
#[derive(Clone, Debug)]
pub struct PolicyView {
    /// The policy.
    pub policy: Arc<Policy>,
    /// Its selectors with names of networks where they have one: from, to.
    pub shown: [String; 2],
    /// Ids of the networks and containers that its selectors mean, where there are such: from, to.
    pub ids: [Option<String>; 2],
    /// Packets and bytes, both ways.
    pub counted: (u64, u64),
    /// Selectors that mean a network or a container that is not there: of a network that was removed it never will be, of a
    /// name it may.
    pub missing: Vec<String>,
}

fn ports(text: &str) -> Result<PortRange> {
    let invalid =
        || CloudError::Invalid(format!("invalid port range {text:?}: N or N-M of 1 to 65535 is expected"));
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(invalid);
    let range = PortRange { start: number(start)?, end: number(end)? };
    if range.start <= range.end { Ok(range) } else { Err(invalid()) }
}

/// Selectors with names of networks where they have one.
fn shown(networks: &[Stored<Network>]) -> impl Fn(&Selector) -> String {
    let names: BTreeMap<_, _> = networks.iter().map(|n| (n.spec.id, n.spec.name.to_string())).collect();
    move |selector| match selector {
        Selector::Network(id) => names
            .get(id)
            .map_or_else(|| format!("network={} (removed)", id.short()), |n| format!("network={n}")),
        other => other.to_string(),
    }
}

impl Cloud {
    /// Makes a policy; answers when the kernel has it, with what there is to warn of. One that cannot be made to hold is taken
    /// back.
    pub async fn policy_create(
        &self,
        caller: &Caller,
        draft: PolicyDraft,
    ) -> Result<(Arc<Policy>, Vec<String>)> {
        // A policy speaks of every container of this host.
        caller.authorise(Action::Host, caller.project)?;
        let protocol = draft.protocol.as_deref().map(str::parse::<PolicyProtocol>).transpose();
        let protocol = protocol.map_err(CloudError::Invalid)?;
        let ports = draft.ports.as_deref().map(ports).transpose()?;
        if ports.is_some() && matches!(protocol, None | Some(PolicyProtocol::Icmp)) {
            return Err(CloudError::Invalid("ports need a protocol that has them: tcp, udp or sctp".into()));
        }
        let (from, to) = (self.selector(caller, &draft.from).await?, self.selector(caller, &draft.to).await?);
        if [&from, &to].iter().all(|end| matches!(end, Selector::Outside | Selector::Host)) {
            return Err(CloudError::Invalid(format!("what passes from {from} to {to} is no container's")));
        }
        self.0.parts.net.policy_possible().await?;
        let missing = self.missing(&[&from, &to]).await?;
        let mut warnings: Vec<String> =
            missing.iter().map(|name| format!("{name} is not there: the policy holds once it is")).collect();
        warnings.extend(self.out_of_reach(&[&from, &to]).await?);
        let spec = PolicySpec { id: PolicyId::new(), from, to, protocol, ports, action: draft.action };
        let turn = self.0.policing.lock().await;
        if let Some(other) = self.0.policies.list_shared().await?.iter().find(|p| p.spec.same(&spec)) {
            return Err(CloudError::Conflict(format!("policy {} says so already", other.spec.id.short())));
        }
        let policy = Policy::new(caller.project, self.now(), Labels::new(), spec);
        self.0.policies.create(&policy).await?;
        drop(turn);
        if let Err(failed) = self.0.parts.net.policy_ready().await {
            self.0.policies.delete(&policy.spec.id).await?;
            return Err(failed.into());
        }
        Ok((Arc::new(policy), warnings))
    }

    /// All policies that the caller sees, by age, with what they have decided.
    pub async fn policy_list(&self, caller: &Caller) -> Result<Vec<PolicyView>> {
        let policies = self.0.policies.list_shared().await?;
        let networks = self.0.networks.list_shared().await?;
        let counted = self.0.parts.net.policy_counters().await?;
        let shown = shown(&networks);
        let mut views: Vec<PolicyView> = policies
            .iter()
            .filter(|p| caller.sees(p.meta.project))
            .map(|p| PolicyView {
                policy: Arc::clone(&p.value),
                shown: [shown(&p.spec.from), shown(&p.spec.to)],
                ids: [None, None],
                counted: counted.get(&p.spec.id).copied().unwrap_or_default(),
                missing: Vec::new(),
            })
            .collect();
        for view in &mut views {
            let (from, to) = (&view.policy.spec.from, &view.policy.spec.to);
            view.ids = [self.meant(from).await?, self.meant(to).await?];
            view.missing = self.missing(&[from, to]).await?;
        }
        views.sort_by_key(|view| (view.policy.meta.created, view.policy.spec.id));
        Ok(views)
    }

    /// All policies of this host in words: `deny name=web -> name=db, tcp 5432`.
    pub(crate) async fn policy_words(&self) -> Result<BTreeMap<PolicyId, String>> {
        let networks = self.0.networks.list_shared().await?;
        let shown = shown(&networks);
        let words = |spec: &PolicySpec| {
            let protocol = spec.protocol.map(|protocol| format!(", {protocol}")).unwrap_or_default();
            let ports = match spec.ports {
                Some(PortRange { start, end }) if start == end => format!(" {start}"),
                Some(PortRange { start, end }) => format!(" {start}-{end}"),
                None => String::new(),
            };
            format!("{} {} -> {}{protocol}{ports}", spec.action, shown(&spec.from), shown(&spec.to))
        };
        Ok(self.0.policies.list_shared().await?.iter().map(|p| (p.spec.id, words(&p.spec))).collect())
    }

    /// One policy, by its id or the beginning of it.
    pub async fn policy_view(&self, caller: &Caller, text: &str) -> Result<PolicyView> {
        let id = self.policy_find(caller, text).await?.spec.id;
        let views = self.policy_list(caller).await?;
        views.into_iter().find(|view| view.policy.spec.id == id).ok_or_else(|| missing(text))
    }

    async fn policy_find(&self, caller: &Caller, text: &str) -> Result<Stored<Policy>> {
        let policies = self.0.policies.list_shared().await?;
        let fits =
            |p: &&Stored<Policy>| caller.sees(p.meta.project) && p.spec.id.to_string().starts_with(text);
        let mut fitting = policies.iter().filter(|_| !text.is_empty()).filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(one), None) => Ok(one.clone()),
            (Some(_), Some(_)) => Err(CloudError::Invalid(format!("policy {text} is ambiguous"))),
            (None, _) => Err(missing(text)),
        }
    }

    /// Removes a policy; answers when the kernel has forgotten it. What cannot be removed stays.
    pub async fn policy_remove(&self, caller: &Caller, text: &str) -> Result<PolicyId> {
        let found = self.policy_find(caller, text).await?;
        caller.authorise(Action::Host, found.meta.project)?;
        self.0.policies.delete(&found.spec.id).await?;
        if let Err(failed) = self.0.parts.net.policy_ready().await {
            self.0.policies.create(&found.value).await?;
            return Err(failed.into());
        }
        Ok(found.spec.id)
    }

    /// A network's name, and whether what begins or ends on it passes without a policy that allows it.
    pub async fn policy_default_of(&self, caller: &Caller, text: &str) -> Result<(String, PolicyAction)> {
        let found = self.network_find(caller, text).await?;
        for_bridges(found.spec.kind)?;
        Ok((found.spec.name.to_string(), default_of(&found)))
    }

    /// Says whether what begins or ends on a network passes without a policy that allows it.
    pub async fn policy_default(
        &self,
        caller: &Caller,
        text: &str,
        action: PolicyAction,
    ) -> Result<Arc<Network>> {
        let found = self.network_find(caller, text).await?;
        let needed = if found.spec.predefined { Action::Host } else { Action::Write };
        caller.authorise(needed, found.meta.project)?;
        for_bridges(found.spec.kind)?;
        if action == PolicyAction::Deny {
            self.0.parts.net.policy_possible().await?;
        }
        let id = found.spec.id;
        let set = |closed: bool| async move {
            let write = self.0.networks.update(&id, |network| {
                let changed = network.spec.closed != closed;
                network.spec.closed = closed;
                network.meta.generation += u64::from(changed);
                changed
            });
            match write.await {
                Err(error) if error.conflict().is_some() => Err(CloudError::not_found(Kind::Network, text)),
                other => Ok(other?),
            }
        };
        let stored = set(action == PolicyAction::Deny).await?;
        if let Err(failed) = self.0.parts.net.policy_ready().await {
            set(found.spec.closed).await?;
            return Err(failed.into());
        }
        Ok(stored.value)
    }
}

/// What holds on a bridge network where no policy speaks.
pub(crate) fn default_of(network: &Network) -> PolicyAction {
    if network.spec.closed { PolicyAction::Deny } else { PolicyAction::Allow }
}

fn for_bridges(kind: NetworkKind) -> Result<()> {
    if kind == NetworkKind::Bridge {
        return Ok(());
    }
    Err(CloudError::Invalid("policy is for bridge networks".into()))
}

fn missing(text: &str) -> CloudError {
    CloudError::Missing(format!("No such policy: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read() {
        assert_eq!(ports("80").unwrap(), PortRange { start: 80, end: 80 });
        assert_eq!(ports("80-90").unwrap(), PortRange { start: 80, end: 90 });
        for bad in ["", "0", "90-80", "80-", "-80", "65536", "http", "1-2-3"] {
            let error = ports(bad).unwrap_err().to_string();
            assert!(error.starts_with("invalid port range"), "{error}");
        }
    }
}
