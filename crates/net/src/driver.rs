//! A driver behind a pointer is a driver: lets the one concrete choice be made in `daemon`.

use std::{path::PathBuf, sync::Arc};

use weft_dataplane::{Desired, Driver, DriverError, Observed, Publish, SandboxId, Step, Unsupported};

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
    fn watch(&self, changed: Box<dyn Fn() + Send>) -> Result<(), DriverError> {
        self.0.watch(changed)
    }
    fn rules_digest(&self, desired: &Desired) -> String {
        self.0.rules_digest(desired)
    }
    fn observe(&self) -> Result<Observed, DriverError> {
        self.0.observe()
    }
    fn apply(&self, step: &Step) -> Result<(), DriverError> {
        self.0.apply(step)
    }
    fn plan(&self, desired: &Desired, observed: &Observed) -> Vec<Step> {
        self.0.plan(desired, observed)
    }
}
