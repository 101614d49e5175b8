//! Policy as the rest of the program asks for it: whether it holds, whether it can, and what it has decided.

use std::collections::{BTreeMap, BTreeSet};

use weft_base::chain;
use weft_dataplane::{Count, Flow, PolicyCounters, insight::DropCounter};
use weft_model::PolicyId;

use super::{Net, ready::data_plane};
use crate::{NetError, policy::Decided};

impl Net {
    /// Waits until policy is as the store has it now.
    ///
    /// # Errors
    /// [`NetError::DataPlane`] with the driver's reason.
    pub async fn policy_ready(&self) -> Result<(), NetError> {
        let ready = self.settled().await?;
        data_plane(if ready.general.is_empty() { &ready.policy } else { &ready.general })
    }

    /// Whether this machine can hold policy between containers.
    ///
    /// # Errors
    /// [`NetError::Lacking`] with what is missing.
    pub async fn policy_possible(&self) -> Result<(), NetError> {
        let lacking = self.ask(|driver| Ok(driver.refuses_policy())).await?;
        lacking.map_or(Ok(()), |lacking| Err(NetError::Lacking(lacking.to_string())))
    }

    /// Packets and bytes that each policy has decided on this host, since it is there or the daemon was started.
    ///
    /// # Errors
    /// [`NetError::DataPlane`] when the data plane cannot be read.
    pub async fn policy_counters(&self) -> Result<BTreeMap<PolicyId, Count>, NetError> {
        let seen = self.ask(|driver| driver.policy_counters()).await?;
        Ok(self.0.ledger.lock().counts(&seen.flows))
    }

    /// Which policy decides which flow, as of the last run.
    pub(crate) fn deciding(&self) -> BTreeMap<Flow, PolicyId> {
        self.0.ledger.lock().deciding()
    }

    /// What was dropped by policy, by link: by policies, and because nothing allowed it.
    pub(crate) async fn policy_drops(&self) -> Result<Vec<DropCounter>, NetError> {
        let seen = self.ask(|driver| driver.policy_counters()).await?;
        let counter = |link: String, reason: String, (packets, bytes): Count| DropCounter {
            link: Some(link),
            reason,
            packets,
            bytes,
        };
        let by_policy = self.0.ledger.lock().drops(&seen.flows);
        let by_policy = by_policy
            .into_iter()
            .map(|((link, policy), count)| counter(link, format!("policy {}", policy.short()), count));
        let by_default =
            seen.closed.into_iter().map(|(link, count)| counter(link, "policy default".into(), count));
        Ok(by_policy.chain(by_default).collect())
    }

    /// Goes on counting by what is decided from now on; see [`crate::ledger::Ledger`].
    pub(super) async fn keep_counts(&self, decided: Decided, alive: BTreeSet<PolicyId>) {
        let needed = self.0.ledger.lock().loses(&decided, &alive);
        let seen = if needed {
            let read = self.ask(|driver| driver.policy_counters()).await;
            read.unwrap_or_else(|error| {
                tracing::warn!(error = chain(&error), "counters of policy that changes are lost");
                PolicyCounters::default()
            })
        } else {
            PolicyCounters::default()
        };
        self.0.ledger.lock().turn(decided, &alive, &seen.flows);
    }
}
