//! A driver behind a pointer is a driver: lets the one concrete choice be made in `daemon`.

use std::{path::PathBuf, sync::Arc};

use ipnet::IpNet;
use weft_dataplane::{
    Desired, Driver, DriverError, Observed, ParentFault, PolicyCounters, Publish, SandboxId, Segment, Step,
    Unsupported,
};

pub(crate) struct Shared(pub(crate) Arc<dyn Driver>);

impl Driver for Shared {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn sandbox_path(&self, id: SandboxId) -> PathBuf {
        self.0.sandbox_path(id)
    }
    fn unsupported(&self, desired: &Desired) -> Vec<Unsupported> {
        self.0.unsupported(desired)
    }
    fn refuses(&self, publish: &Publish) -> Option<Unsupported> {
        self.0.refuses(publish)
    }
    fn insight(&self) -> Option<&dyn weft_dataplane::insight::Insight> {
        self.0.insight()
    }
    fn has_parameter(&self, name: &str) -> bool {
        self.0.has_parameter(name)
    }
    fn refuses_uplink(&self, segment: &Segment) -> Option<ParentFault> {
        self.0.refuses_uplink(segment)
    }
    fn watch(&self, changed: Box<dyn Fn() + Send>) -> Result<(), DriverError> {
        self.0.watch(changed)
    }
    fn rules_digest(&self, desired: &Desired) -> String {
        self.0.rules_digest(desired)
    }
    fn foreign_bridge(&self, name: &str) -> Result<Option<Vec<IpNet>>, DriverError> {
        self.0.foreign_bridge(name)
    }
    fn routes(&self) -> Result<Vec<IpNet>, DriverError> {
        self.0.routes()
    }
    fn observe(&self) -> Result<Observed, DriverError> {
        self.0.observe()
    }
    fn policy_counters(&self) -> Result<PolicyCounters, DriverError> {
        self.0.policy_counters()
    }
    fn refuses_policy(&self) -> Option<Unsupported> {
        self.0.refuses_policy()
    }
    fn apply(&self, step: &Step) -> Result<(), DriverError> {
        self.0.apply(step)
    }
    fn plan(&self, desired: &Desired, observed: &Observed) -> Vec<Step> {
        self.0.plan(desired, observed)
    }
}
