//! Looking into the data plane, off the async threads: what becomes of a packet, live traces, counters.

use std::{sync::Arc, thread};

use tokio::sync::{mpsc, oneshot};
use weft_base::chain;
use weft_dataplane::{
    Driver, DriverError,
    insight::{Explanation, Figures, Insight, Question, TraceEvent},
    link_name,
};
use weft_model::PortId;

use crate::{Net, NetError};

/// Events of a trace that wait to be fetched; those that come while as many wait are left out.
const WAITING: usize = 4096;

/// The kernel's name of a port's end on the host.
#[must_use]
pub fn port_link(port: PortId) -> String {
    link_name('p', &port)
}

/// A running trace; dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    events: mpsc::Receiver<TraceEvent>,
}

impl Watch {
    /// The next event; `None` when the trace has ended.
    pub async fn next(&mut self) -> Option<TraceEvent> {
        self.events.recv().await
    }
}

fn with<T>(
    driver: &dyn Driver,
    look: impl FnOnce(&dyn Insight) -> Result<T, DriverError>,
) -> Result<T, NetError> {
    let insight = driver.insight();
    let insight =
        insight.ok_or_else(|| NetError::DataPlane(format!("{} cannot be looked into", driver.name())))?;
    look(insight).map_err(|error| NetError::DataPlane(chain(&error)))
}

impl Net {
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn Insight) -> Result<T, DriverError> + Send + 'static,
    ) -> Result<T, NetError> {
        let driver = Arc::clone(self.driver());
        let done = tokio::task::spawn_blocking(move || with(driver.as_ref(), look)).await;
        done.map_err(|error| NetError::DataPlane(error.to_string()))?
    }

    /// The question, with which policy decides what by now.
    #[must_use]
    pub fn with_deciding(&self, mut question: Question) -> Question {
        question.known.decides = self.deciding();
        question
    }

    /// What becomes of a packet. Which policy decides what is said here.
    ///
    /// # Errors
    /// [`NetError::DataPlane`] when the machine cannot be read.
    pub async fn explain(&self, question: Question) -> Result<Explanation, NetError> {
        let question = self.with_deciding(question);
        self.look(move |insight| insight.explain(&question)).await
    }

    /// Counters; what policy has dropped among them.
    ///
    /// # Errors
    /// [`NetError::DataPlane`] when the machine cannot be read.
    pub async fn figures(&self) -> Result<Figures, NetError> {
        let mut figures = self.look(|insight| insight.figures()).await?;
        figures.drops.extend(self.policy_drops().await?);
        Ok(figures)
    }

    /// What is decided about matching packets from now on; comes back when the trace runs. Policies are told as the question
    /// has them ([`Net::with_deciding`]).
    ///
    /// # Errors
    /// [`NetError::DataPlane`] when the machine cannot trace.
    pub async fn watch(&self, question: Question) -> Result<Watch, NetError> {
        let driver = Arc::clone(self.driver());
        let (send, events) = mpsc::channel(WAITING);
        let (started, start) = oneshot::channel();
        let follow = move || {
            let mut started = Some(started);
            let mut tell = |event: Option<TraceEvent>| {
                // The first call says that it runs.
                if let Some(started) = started.take() {
                    let _ = started.send(Ok(()));
                }
                match event {
                    Some(event) => !matches!(send.try_send(event), Err(mpsc::error::TrySendError::Closed(_))),
                    None => !send.is_closed(),
                }
            };
            let done = with(driver.as_ref(), |insight| insight.watch(&question, &mut tell));
            match (done, started) {
                (Err(error), Some(started)) => drop(started.send(Err(error))),
                (Err(error), None) => tracing::warn!(error = %chain(&error), "a trace has ended"),
                (Ok(()), _) => {}
            }
        };
        // It lasts as long as somebody looks: not for the pool of short calls.
        thread::Builder::new()
            .name("weft-trace".to_owned())
            .spawn(follow)
            .map_err(|error| NetError::DataPlane(format!("starting a thread: {error}")))?;
        start.await.map_err(|_| NetError::DataPlane("the trace has ended at once".into()))??;
        Ok(Watch { events })
    }
}
