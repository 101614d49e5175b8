//! The thread that writes a replica's file: on every change, at most once in a pause, all that is lacking in one commit.

use std::{path::PathBuf, sync::Arc, thread::JoinHandle, time::Duration};

use parking_lot::{Condvar, Mutex};
use redb::Database;

use super::{Shared, file};
use crate::StoreError;

/// After a failed write.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Orders {
    work: bool,
    stop: bool,
}

/// How the writer is told what to do.
#[derive(Default)]
pub(super) struct Pen {
    orders: Mutex<Orders>,
    bell: Condvar,
    error: Mutex<Option<StoreError>>,
}

impl Pen {
    pub(super) fn ring(&self) {
        self.orders.lock().work = true;
        self.bell.notify_one();
    }

    /// Ends the writer after what is there was written.
    pub(super) fn stop(&self) {
        self.orders.lock().stop = true;
        self.bell.notify_one();
    }

    pub(super) fn error(&self) -> Option<StoreError> {
        self.error.lock().clone()
    }

    /// Waits for work; whether it is the last.
    fn next(&self) -> bool {
        let mut orders = self.orders.lock();
        while !orders.work && !orders.stop {
            self.bell.wait(&mut orders);
        }
        orders.work = false;
        orders.stop
    }

    /// Lets time pass, unless the end is asked for.
    fn rest(&self, time: Duration) {
        let mut orders = self.orders.lock();
        let _ = self.bell.wait_while_for(&mut orders, |o| !o.stop, time);
    }
}

pub(super) fn start(
    shared: &Arc<Shared>,
    db: Database,
    path: PathBuf,
    pause: Duration,
) -> Result<JoinHandle<()>, StoreError> {
    let mine = Arc::clone(shared);
    let run = {
        let path = path.clone();
        move || run(&mine, &db, &path.display().to_string(), pause)
    };
    std::thread::Builder::new().name("weft-replica".into()).spawn(run).map_err(|e| StoreError::Io {
        doing: "start the writer of",
        path,
        source: Arc::new(e),
    })
}

fn run(shared: &Shared, db: &Database, path: &str, pause: Duration) {
    loop {
        let last = shared.pen.next();
        let dirty = shared.state.write().take_dirty();
        let outcome = if dirty.is_empty() { Ok(()) } else { file::write(db, &dirty) };
        let failed = outcome.is_err();
        if let Err(error) = outcome {
            tracing::error!(path, error = weft_base::chain(&error), "the replica's file is behind");
            shared.state.write().keep_dirty(dirty);
            shared.pen.ring();
            *shared.pen.error.lock() = Some(error);
        } else {
            *shared.pen.error.lock() = None;
        }
        if last {
            return;
        }
        shared.pen.rest(if failed { RETRY } else { pause });
    }
}
