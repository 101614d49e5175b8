//! The seam between what a host must have and what makes it so.

use std::path::PathBuf;

use ipnet::IpNet;

use crate::{
    Desired, DriverError, Observed, ParentFault, PolicyCounters, Publish, SandboxId, Segment, Step,
    Unsupported, insight::Insight, plan,
};

/// Makes one machine look like a [`Desired`]. Calls block (some hundred microseconds to some milliseconds): async
/// callers use a blocking thread. One caller at a time changes the machine ([`crate::Converger`] sees to it).
pub trait Driver: Send + Sync {
    /// Short name for people: `linux`.
    fn name(&self) -> &'static str;

    /// Where a sandbox's namespace is found, whether or not it exists.
    fn sandbox_path(&self, id: SandboxId) -> PathBuf;

    /// What of `desired` this driver cannot do. Nothing is changed.
    fn unsupported(&self, desired: &Desired) -> Vec<Unsupported>;

    /// Why this driver cannot publish just so, if it cannot: planners ask for each publish by itself, so that
    /// one container's wish does not hold up a host. [`Driver::unsupported`] says it, too.
    fn refuses(&self, _publish: &Publish) -> Option<Unsupported> {
        None
    }

    /// For looking into it, where it can be.
    fn insight(&self) -> Option<&dyn Insight> {
        None
    }

    /// Whether interfaces here have this parameter, in the notation of [`Port::sysctls`]: asked before a port is written.
    fn has_parameter(&self, _name: &str) -> bool {
        true
    }

    /// Why ports cannot hang on this segment's uplink, if they cannot: asked before a network is written.
    fn refuses_uplink(&self, _segment: &Segment) -> Option<ParentFault> {
        None
    }

    /// Has `changed` called, from whatever thread, when somebody else has changed what was made here, for as long as the
    /// driver lives. Our own changes are not told. A driver that hears nothing of its machine never calls.
    ///
    /// # Errors
    /// [`DriverError::Observe`].
    fn watch(&self, _changed: Box<dyn Fn() + Send>) -> Result<(), DriverError> {
        Ok(())
    }

    /// Digest of the rules that `desired` needs, as [`Observed::rules`] would give it.
    fn rules_digest(&self, desired: &Desired) -> String;

    /// The addresses of a bridge that is not ours; `None` where nothing of that name is, or what is there is ours.
    ///
    /// # Errors
    /// [`DriverError::NoBridge`]; [`DriverError::Observe`].
    fn foreign_bridge(&self, _name: &str) -> Result<Option<Vec<IpNet>>, DriverError> {
        Ok(None)
    }

    /// Where the machine routes by links that are not ours, its own addresses among it.
    ///
    /// # Errors
    /// [`DriverError::Observe`].
    fn routes(&self) -> Result<Vec<IpNet>, DriverError> {
        Ok(Vec::new())
    }

    /// All marked things there are.
    ///
    /// # Errors
    /// [`DriverError::Observe`].
    fn observe(&self) -> Result<Observed, DriverError>;

    /// What policy has decided.
    ///
    /// # Errors
    /// [`DriverError::Observe`].
    fn policy_counters(&self) -> Result<PolicyCounters, DriverError> {
        Ok(PolicyCounters::default())
    }

    /// Why policy between endpoints cannot be made to hold on this machine; `None` where it can.
    fn refuses_policy(&self) -> Option<Unsupported> {
        None
    }

    /// One change. Idempotent.
    ///
    /// # Errors
    /// [`DriverError::Step`] or [`DriverError::Foreign`]; running it again is always right.
    fn apply(&self, step: &Step) -> Result<(), DriverError>;

    /// The steps from `observed` to `desired`.
    fn plan(&self, desired: &Desired, observed: &Observed) -> Vec<Step> {
        plan(desired, observed, &self.rules_digest(desired))
    }
}
