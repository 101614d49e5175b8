//! Hears of what others do to our tables and our bridges, so that it is mended in milliseconds and not by the timer; and of
//! any change of the host's rules, after which what they let in before is asked anew (the policy `host-firewall`).
//!
//! Calls are kept apart by a pause, and all news that came meanwhile are one call: a program that fights for a table, or one
//! that loads ten thousand rules, cannot keep us busy.

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    thread,
    time::Duration,
};

use weft_sys::{
    netlink::{
        Channel, Family, NetlinkError, Socket,
        watch::{Event, Own, Watch},
    },
    nft::Batch,
};

use crate::{LinuxError, TABLE, policy, publish};

/// Between two calls.
const PAUSE: Duration = Duration::from_millis(50);

/// The listening thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    _hold: UnixStream,
}

impl Watcher {
    /// Starts it in the network namespace of the thread that calls. `own`: the sockets that make our changes.
    pub(crate) fn start(mut own: Own, changed: Box<dyn Fn() + Send>) -> Result<Self, LinuxError> {
        let mut socket = Socket::open(Family::Netfilter)?;
        own.netfilter.push(socket.port()?);
        let watch = Watch::new(own)?;
        let (hold, end) = UnixStream::pair().map_err(LinuxError::Watcher)?;
        let end = OwnedFd::from(end);
        let body = move || {
            loop {
                match watch.next(&end) {
                    Ok(Some(events)) => {
                        if events.contains(&Event::Transaction) {
                            ask_again(&mut socket);
                        }
                        if events.iter().any(concerns_us) {
                            changed();
                            thread::sleep(PAUSE);
                        }
                    }
                    Ok(None) => return,
                    Err(error) => {
                        tracing::warn!(%error, "changes by others are only found by the timer");
                        return;
                    }
                }
            }
        };
        thread::Builder::new().name("weft-watch".to_owned()).spawn(body).map_err(LinuxError::Watcher)?;
        Ok(Self { _hold: hold })
    }
}

/// Bridges come and go rarely; ports do so all the time by our own doing, and are the timer's.
fn concerns_us(event: &Event) -> bool {
    match event {
        Event::Table(table) => table == TABLE || table == policy::TABLE,
        Event::LinkDown(name) => name.starts_with("wfb"),
        Event::Overrun => true,
        Event::Transaction => false,
    }
}

/// Forgets whom the host's rules have let in: they may not let them in any more.
fn ask_again(socket: &mut Socket) {
    let mut batch = Batch::new(TABLE);
    publish::CONSENTED.iter().for_each(|set| batch.flush_set(set));
    let flushed: Result<(), NetlinkError> = socket.transact(&batch.finish());
    if let Err(error) = flushed
        && error.errno() != Some(libc::ENOENT)
    {
        tracing::debug!(%error, "clients that were let in are believed until their time is over");
    }
}
