//! Progress of long work, for whoever watches it.

use tokio::sync::mpsc;

/// One step of long work.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// Something is in a state.
    Status {
        /// What; empty for the whole.
        id: String,
        /// The state, in words.
        text: String,
    },
    /// Bytes moved.
    Bytes {
        /// What.
        id: String,
        /// The action, in words: `Downloading`.
        action: String,
        /// Bytes so far.
        current: u64,
        /// Bytes in all, when known.
        total: Option<u64>,
    },
    /// Text for people, as it is.
    Output(String),
    /// A result for programs.
    Aux(serde_json::Value),
}

/// Where work tells its progress. Telling never fails: without a listener it is dropped.
#[derive(Clone, Debug)]
pub struct ProgressSink(mpsc::Sender<Progress>);

impl ProgressSink {
    /// A sink and the end to listen at.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Progress>) {
        let (send, receive) = mpsc::channel(64);
        (Self(send), receive)
    }

    /// Tells a step, waiting while the listener is behind.
    pub async fn tell(&self, step: Progress) {
        // No listener is no error.
        drop(self.0.send(step).await);
    }

    /// Tells a step if there is room now; for byte counts, of which the next one says the same.
    pub fn hint(&self, step: Progress) {
        drop(self.0.try_send(step));
    }

    /// Tells a state of the whole.
    pub async fn status(&self, text: impl Into<String>) {
        self.tell(Progress::Status { id: String::new(), text: text.into() }).await;
    }

    /// Tells text for people.
    pub async fn output(&self, text: impl Into<String>) {
        self.tell(Progress::Output(text.into())).await;
    }
}
