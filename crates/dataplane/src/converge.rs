//! Brings a machine to a desired value and remembers what it saw, so that a small change costs a small step.
//!
//! The memory is dropped whenever a step fails, and by [`Converger::forget`] (a timer, or news from the kernel
//! that somebody else changed something); the next convergence then looks at the machine again. There is one code path
//! for first start, steady state and repair.

use crate::{Desired, Driver, DriverError, Observed, Step};

/// A driver with its memory.
#[derive(Debug)]
pub struct Converger<D> {
    driver: D,
    seen: Option<Observed>,
    generation: u64,
}

/// What a convergence did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Steps that succeeded, in order.
    pub done: Vec<Step>,
    /// Steps that failed, and why. The other steps were tried all the same.
    pub failed: Vec<(Step, DriverError)>,
}

impl Outcome {
    /// Whether the machine is as desired.
    #[must_use]
    pub fn converged(&self) -> bool {
        self.failed.is_empty()
    }
}

impl<D: Driver> Converger<D> {
    /// Nothing seen yet.
    pub fn new(driver: D) -> Self {
        Self { driver, seen: None, generation: 0 }
    }

    /// The driver.
    pub fn driver(&self) -> &D {
        &self.driver
    }

    /// The next convergence looks at the machine anew.
    pub fn forget(&mut self) {
        self.seen = None;
    }

    /// Makes the machine like `desired`. Steps that fail are in the outcome; the rest is done.
    ///
    /// # Errors
    /// A value that is inconsistent, older than the last, or beyond the driver, or a machine that cannot be read:
    /// nothing was changed then.
    pub fn converge(&mut self, desired: &Desired) -> Result<Outcome, DriverError> {
        if desired.generation < self.generation {
            return Err(DriverError::Stale { offered: desired.generation, held: self.generation });
        }
        desired.check()?;
        if let Some(first) = self.driver.unsupported(desired).into_iter().next() {
            return Err(first.into());
        }
        let mut seen = match self.seen.take() {
            Some(seen) => seen,
            None => self.driver.observe()?,
        };
        self.generation = desired.generation;
        let mut outcome = Outcome::default();
        for step in self.driver.plan(desired, &seen) {
            match self.driver.apply(&step) {
                Ok(()) => {
                    seen.note(&step);
                    outcome.done.push(step);
                }
                Err(error) => outcome.failed.push((step, error)),
            }
        }
        if outcome.converged() {
            self.seen = Some(seen);
        }
        Ok(outcome)
    }
}
