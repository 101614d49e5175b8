//! Deleting links in the background. The kernel waits for all its readers (RCU) several times before a link is gone, which
//! nobody who stops a container should have to wait for. What is queued here is already out of service (its bridge
//! port is blocked) and is left out of observations. Who needs its name again waits for its turn, not for its end: the
//! kernel gives the name up before it begins to wait. So links are known by their numbers here, and a new one may bear the
//! name of one that is still going.
//!
//! If the daemon dies meanwhile, the next one sees marked links that are not desired, and deletes them.

use std::{
    collections::HashSet,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use weft_sys::netlink::{Channel, Family, Socket, link};

use crate::LinuxError;

/// Between two looks whether a name is free.
const LOOK: Duration = Duration::from_micros(200);

#[derive(Debug, Default)]
struct Pending {
    links: Mutex<HashSet<u32>>,
    changed: Condvar,
}

/// The thread, and what it has not done yet.
#[derive(Debug)]
pub(crate) struct Reaper {
    pending: Arc<Pending>,
    queue: mpsc::Sender<u32>,
}

impl Reaper {
    /// Starts the thread, for the namespace of the thread that calls.
    pub(crate) fn start() -> Result<Self, LinuxError> {
        let mut socket = Socket::open(Family::Route)?;
        let (queue, jobs) = mpsc::channel::<u32>();
        let pending = Arc::new(Pending::default());
        let shared = Arc::clone(&pending);
        let body = move || {
            while let Ok(index) = jobs.recv() {
                let delete = link::delete_index(index).tolerating(&[libc::ENODEV]);
                if let Err(error) = socket.transact(&[delete]) {
                    tracing::warn!(link = index, %error, "a link could not be deleted; the next look will find it");
                }
                shared.links.lock().remove(&index);
                shared.changed.notify_all();
            }
        };
        thread::Builder::new().name("weft-reaper".to_owned()).spawn(body).map_err(LinuxError::Reaper)?;
        Ok(Self { pending, queue })
    }

    /// Deletes a link some time soon.
    pub(crate) fn bury(&self, index: u32) {
        if !self.pending.links.lock().insert(index) {
            return;
        }
        if self.queue.send(index).is_err() {
            self.pending.links.lock().remove(&index);
        }
    }

    /// The links that are on their way out.
    pub(crate) fn links(&self) -> HashSet<u32> {
        self.pending.links.lock().clone()
    }

    /// Returns when no link on its way out has that name any more.
    pub(crate) fn wait_for(&self, route: &Mutex<Socket>, name: &str) -> Result<(), LinuxError> {
        loop {
            let going = self.links();
            if going.is_empty() {
                return Ok(());
            }
            let found = link::get(&mut *route.lock(), name)?;
            if found.is_none_or(|link| !going.contains(&link.index)) {
                return Ok(());
            }
            let mut links = self.pending.links.lock();
            if !links.is_empty() {
                self.pending.changed.wait_for(&mut links, LOOK);
            }
        }
    }

    /// Returns when nothing is left to do.
    pub(crate) fn settle(&self) {
        let mut links = self.pending.links.lock();
        while !links.is_empty() {
            self.pending.changed.wait(&mut links);
        }
    }
}
