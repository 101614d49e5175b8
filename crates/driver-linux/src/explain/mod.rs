//! What becomes of a packet, and why: the real tables are read, and a pure walker goes through them.
//!
//! ```text
//!  question ─▶ walk(question, facts) ─▶ explanation
//!                 │ Ask: a namespace, a decision of the routes
//!                 ▼
//!               read ─▶ facts, and again from the start
//! ```
//!
//! It knows nothing of what Weft wants the tables to be: whoever drops the packet is found in the same way. What it does not
//! understand is said to be so, with the rule's text.

mod bridge;
mod chains;
mod eval;
mod facts;
mod figures;
mod hooks;
mod journal;
mod legacy;
mod obstacles;
mod packet;
mod policies;
mod published;
mod read;
mod routing;
mod sets;
mod start;
mod text;
mod trace;
mod walk;
mod why;

#[cfg(test)]
mod tests;

use weft_dataplane::{
    DriverError,
    insight::{Explanation, Figures, Insight, Question, TraceEvent, Verdict},
};

use crate::{LinuxError, driver::LinuxDriver};
use facts::{Ask, Facts};

/// Questions to the kernel for one explanation: more would be a mistake of ours.
const MOST: usize = 200;

pub(crate) fn explain(driver: &LinuxDriver, question: &Question) -> Result<Explanation, LinuxError> {
    let mut facts = Facts::default();
    for _ in 0..MOST {
        match walk::walk(question, &facts) {
            Ok(explanation) => return Ok(explanation),
            Err(Ask::Space(place)) => {
                facts.spaces.insert(place, read::space(driver, place)?);
            }
            Err(Ask::Way(place, lookup)) => {
                facts.ways.insert((place, lookup), read::way(driver, place, lookup)?);
            }
            Err(Ask::Routing(place, v6)) => {
                facts.routings.insert((place, v6), read::routing(driver, place, v6)?);
            }
            Err(Ask::Connections(place, service)) => {
                facts.connections.insert((place, service), read::connections(driver, place, service)?);
            }
        }
    }
    let (packet, hops) = (start::shown(question), Vec::new());
    let reason = "the way is too long to be followed".to_owned();
    let (ends, remedy) = (String::new(), String::new());
    Ok(Explanation { verdict: Verdict::Unclear, packet, ends, reason, remedy, hops })
}

impl Insight for LinuxDriver {
    fn explain(&self, question: &Question) -> Result<Explanation, DriverError> {
        explain(self, question).map_err(|error| DriverError::observe("the way of a packet", error))
    }

    fn watch(
        &self,
        question: &Question,
        tell: &mut dyn FnMut(Option<TraceEvent>) -> bool,
    ) -> Result<(), DriverError> {
        trace::watch(self, question, tell).map_err(|error| DriverError::observe("packets", error))
    }

    fn figures(&self) -> Result<Figures, DriverError> {
        figures::figures(self).map_err(|error| DriverError::observe("counters", error))
    }
}
