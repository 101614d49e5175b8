//! Deleting links in the background. The kernel waits for all its readers (RCU) several times before a link is gone, which
//! nobody who stops a container should have to wait for. What is queued here is already out of service (its bridge
//! port is blocked), is left out of observations, and is waited for only by who needs its name again.
//!
//! If the daemon dies meanwhile, the next one sees marked links that are not desired, and deletes them.

use std::{
    collections::HashSet,
    sync::{Arc, mpsc},
    thread,
};

use parking_lot::{Condvar, Mutex};
use weft_sys::netlink::{Channel, Family, Socket, link};

use crate::LinuxError;

#[derive(Debug, Default)]
struct Pending {
    names: Mutex<HashSet<String>>,
    changed: Condvar,
}

/// The thread, and what it has not done yet.
#[derive(Debug)]
pub(crate) struct Reaper {
    pending: Arc<Pending>,
    queue: mpsc::Sender<String>,
}

impl Reaper {
    /// Starts the thread, for the namespace of the thread that calls.
    pub(crate) fn start() -> Result<Self, LinuxError> {
        let mut socket = Socket::open(Family::Route)?;
        let (queue, jobs) = mpsc::channel::<String>();
        let pending = Arc::new(Pending::default());
        let shared = Arc::clone(&pending);
        let body = move || {
            while let Ok(name) = jobs.recv() {
                let delete = link::delete(&name).tolerating(&[libc::ENODEV]);
                if let Err(error) = socket.transact(&[delete]) {
                    tracing::warn!(link = name, %error, "a link could not be deleted; the next look will find it");
                }
                shared.names.lock().remove(&name);
                shared.changed.notify_all();
            }
        };
        thread::Builder::new().name("weft-reaper".to_owned()).spawn(body).map_err(LinuxError::Reaper)?;
        Ok(Self { pending, queue })
    }

    /// Deletes a link some time soon. Once is enough: a second job would meet whoever has the name by then.
    pub(crate) fn bury(&self, name: &str) {
        if !self.pending.names.lock().insert(name.to_owned()) {
            return;
        }
        if self.queue.send(name.to_owned()).is_err() {
            self.pending.names.lock().remove(name);
        }
    }

    /// Whether a link is on its way out.
    pub(crate) fn names(&self) -> HashSet<String> {
        self.pending.names.lock().clone()
    }

    /// Returns when a name is free.
    pub(crate) fn wait_for(&self, name: &str) {
        let mut names = self.pending.names.lock();
        while names.contains(name) {
            self.pending.changed.wait(&mut names);
        }
    }

    /// Returns when nothing is left to do.
    pub(crate) fn settle(&self) {
        let mut names = self.pending.names.lock();
        while !names.is_empty() {
            self.pending.changed.wait(&mut names);
        }
    }
}
