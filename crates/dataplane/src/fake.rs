//! A machine in memory: for the tests of planners and reconcilers, with faults on demand.

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{Desired, Driver, DriverError, Observed, SandboxId, Step, Unsupported, observed::digest};

/// Records what it is told and can be made to fail.
#[derive(Debug, Default)]
pub struct FakeDriver {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    machine: Observed,
    steps: Vec<Step>,
    fail_at: Option<usize>,
    observations: usize,
    policy_lacks: Option<String>,
}

impl FakeDriver {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A machine that already has something.
    #[must_use]
    pub fn with(machine: Observed) -> Self {
        let fake = Self::default();
        fake.state().machine = machine;
        fake
    }

    /// The `nth` step from now fails, once (0: the next one).
    pub fn fail_at(&self, nth: usize) {
        self.state().fail_at = Some(nth);
    }

    /// Steps that succeeded since the last call.
    pub fn take_steps(&self) -> Vec<Step> {
        std::mem::take(&mut self.state().steps)
    }

    /// How often the machine was looked at.
    pub fn observations(&self) -> usize {
        self.state().observations
    }

    /// A machine that cannot hold policy, and why.
    pub fn lacks_policy(&self, why: &str) {
        self.state().policy_lacks = Some(why.to_owned());
    }

    /// Somebody else changes the machine.
    pub fn meddle(&self, change: impl FnOnce(&mut Observed)) {
        change(&mut self.state().machine);
    }
}

impl Driver for FakeDriver {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn sandbox_path(&self, id: SandboxId) -> PathBuf {
        PathBuf::from("/run/fake/netns").join(id.to_string())
    }

    fn unsupported(&self, _desired: &Desired) -> Vec<Unsupported> {
        Vec::new()
    }

    fn rules_digest(&self, desired: &Desired) -> String {
        let mut segments = desired.segments.clone();
        segments.values_mut().for_each(|segment| segment.open.clear());
        digest(&format!("{segments:?} {:?}", desired.publish_policy))
    }

    fn observe(&self) -> Result<Observed, DriverError> {
        let mut state = self.state();
        state.observations += 1;
        Ok(state.machine.clone())
    }

    fn refuses_policy(&self) -> Option<Unsupported> {
        let why = self.state().policy_lacks.clone()?;
        Some(Unsupported { feature: "policy between containers".to_owned(), why })
    }

    fn apply(&self, step: &Step) -> Result<(), DriverError> {
        let mut state = self.state();
        match state.fail_at {
            Some(0) => {
                state.fail_at = None;
                return Err(DriverError::step(step, "made to fail"));
            }
            Some(n) => state.fail_at = Some(n - 1),
            None => {}
        }
        state.machine.note(step);
        state.steps.push(step.clone());
        Ok(())
    }
}
