//! What came of a run of the reconciler, sorted by whom it concerns: a failure is told to those it hurts, and to nobody else.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use weft_base::chain;
use weft_dataplane::{Desired, DriverError, Outcome, SandboxId, Step};
use weft_model::{NetworkId, Port, PortId, PortOwner};
use weft_store::Stored;

/// What came of a run, sorted by whom it concerns.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) healthy: bool,
    /// Concerns everything.
    pub(crate) general: String,
    /// What of the policy could not be made to hold.
    pub(crate) policy: String,
    pub(crate) ports: BTreeMap<PortId, String>,
    pub(crate) networks: BTreeMap<NetworkId, String>,
    pub(crate) sandboxes: BTreeMap<SandboxId, String>,
}

impl Report {
    pub(crate) fn new(
        desired: &Desired,
        faults: BTreeMap<PortId, String>,
        result: Result<Outcome, DriverError>,
    ) -> Self {
        let mut report = Self { healthy: true, ports: faults, ..Self::default() };
        let failed = match result {
            Ok(outcome) => outcome.failed,
            Err(error) => {
                report.general = chain(&error);
                report.healthy = false;
                tracing::warn!(error = %report.general, "the network cannot be made as it should be");
                return report;
            }
        };
        let links: HashMap<&str, PortId> =
            desired.ports.iter().map(|(id, port)| (port.link.as_str(), *id)).collect();
        for (step, error) in failed {
            report.healthy = false;
            let text = chain(&error);
            tracing::warn!(%step, error = %text, "a step towards the network failed");
            report.blame(&step, text, &links, desired);
        }
        report.spread(desired);
        report
    }

    fn blame(&mut self, step: &Step, text: String, links: &HashMap<&str, PortId>, desired: &Desired) {
        match step {
            Step::CreateSandbox { id, .. } => {
                self.sandboxes.insert(*id, text);
            }
            Step::PutSegment { id, .. } => {
                self.networks.insert(*id, text);
            }
            Step::LimitPort { link, .. } => {
                if let Some(id) = links.get(link.as_str()) {
                    self.ports.entry(*id).or_insert(text);
                }
            }
            Step::ChangeLoopbacks { add, .. } => {
                for id in add.keys().filter_map(|link| links.get(link.as_str())) {
                    self.ports.entry(*id).or_insert_with(|| text.clone());
                }
            }
            Step::GuardSegment { link, .. } => {
                self.policy.clone_from(&text);
                if let Some((id, _)) = desired.segments.iter().find(|(_, s)| s.link == *link) {
                    self.networks.entry(*id).or_insert(text);
                }
            }
            Step::PutQueue { link, .. } => {
                let of = |id: &&NetworkId| crate::limits::queue_links(id).contains(link);
                if let Some(id) = desired.segments.keys().find(of) {
                    self.networks.entry(*id).or_insert(text);
                }
            }
            Step::CreatePort { port, .. }
            | Step::ConfigurePort { port, .. }
            | Step::AttachPort { port, .. } => {
                if let Some(id) = links.get(port.link.as_str()) {
                    self.ports.insert(*id, text);
                }
            }
            Step::ReplaceRules { .. }
            | Step::ChangeOpen { .. }
            | Step::ChangePublishes { .. }
            | Step::ReplacePolicy { .. }
            | Step::ChangePolicy { .. }
            // Policy that was taken back and still stands would cut off who starts now.
            | Step::ClearPolicy => self.general = text,
            // What could not be removed hurts nobody who is to start.
            Step::DeleteSandbox { .. }
            | Step::DeleteBrokenSandbox { .. }
            | Step::DeleteSegment { .. }
            | Step::DeleteQueue { .. }
            | Step::DeletePort { .. }
            | Step::ClearRules => {}
        }
    }

    /// A port suffers with its segment and its sandbox.
    fn spread(&mut self, desired: &Desired) {
        for (id, port) in &desired.ports {
            let cause = self.sandboxes.get(&port.sandbox).or_else(|| self.networks.get(&port.segment));
            if let Some(cause) = cause {
                self.ports.entry(*id).or_insert_with(|| cause.clone());
            }
        }
    }

    pub(crate) fn port(&self, id: PortId) -> String {
        self.ports.get(&id).unwrap_or(&self.general).clone()
    }

    pub(crate) fn network(&self, id: NetworkId) -> String {
        self.networks.get(&id).unwrap_or(&self.general).clone()
    }

    pub(crate) fn sandboxes(
        &self,
        desired: &Desired,
        ports: &[Stored<Port>],
    ) -> BTreeMap<SandboxId, Result<(), String>> {
        let mut bad: BTreeMap<SandboxId, &String> =
            self.sandboxes.iter().map(|(id, why)| (*id, why)).collect();
        for port in ports {
            if let Some(why) = self.ports.get(&port.spec.id) {
                let PortOwner::Container(owner) = port.spec.owner;
                bad.entry(owner).or_insert(why);
            }
        }
        let plugged: BTreeSet<SandboxId> = desired.ports.values().map(|p| p.sandbox).collect();
        let state = |id: &SandboxId| match bad.get(id) {
            Some(why) => Err((*why).clone()),
            // Rules and listening ports concern those that have an interface.
            None if !self.general.is_empty() && plugged.contains(id) => Err(self.general.clone()),
            None => Ok(()),
        };
        desired.sandboxes.keys().map(|id| (*id, state(id))).collect()
    }
}
