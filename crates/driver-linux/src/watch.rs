//! Hears of what others do to our tables, our bridges and ports, so that it is mended in milliseconds and not by the timer; and
//! of any change of the host's rules, after which what they let in before is asked anew (the policy `host-firewall`).
//!
//! Calls are kept apart by a pause, and all news that came meanwhile are one call: a program that fights for a table, or one
//! that loads ten thousand rules, cannot keep us busy. Who goes on fighting is answered once a second.

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    thread,
    time::{Duration, Instant},
};

use weft_sys::{
    netlink::{
        Channel, Family, NetlinkError, Socket,
        watch::{Event, Marks, Watch},
    },
    nft::Batch,
};

use crate::{LinuxError, TABLE, below::Below, consent, left::Left, policy};

/// Between two calls.
const PAUSE: Duration = Duration::from_millis(50);
/// From the end of a pause to the second look after a call.
const SECOND_LOOK: Duration = Duration::from_millis(100);
/// Between two calls once [`CALLS`] are used up; one more is allowed each time so much has passed.
const LONG_PAUSE: Duration = Duration::from_secs(1);
/// Calls in quick succession.
const CALLS: u32 = 20;
/// All links that we make are known by one of these; so are some of no interest.
const MARKS: Marks = Marks { name: *b"wf", alias: *b"weft" };

/// The listening thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    _hold: UnixStream,
}

impl Watcher {
    /// Starts it in the network namespace of the thread that calls. `own`: the port of the socket that makes our changes of
    /// tables; `left`: our links, as we left them; `below`: what those hang on that have no bridge.
    pub(crate) fn start(
        own: u32,
        left: Left,
        below: Below,
        changed: Box<dyn Fn() + Send>,
    ) -> Result<Self, LinuxError> {
        let mut socket = Socket::open(Family::Netfilter)?;
        let mut route = Socket::open(Family::Route)?;
        let watch = Watch::new(vec![own, socket.port()?], MARKS)?;
        below.by(watch.names()?);
        let mut pace = Pace::new(Instant::now());
        let (hold, end) = UnixStream::pair().map_err(LinuxError::Watcher)?;
        let end = OwnedFd::from(end);
        let body = move || {
            loop {
                match watch.next(&end) {
                    Ok(Some(mut events)) => {
                        events.dedup();
                        if events.contains(&Event::Transaction) {
                            ask_again(&mut socket);
                        }
                        if events.iter().any(|event| concerns_us(event, &left, &below, &mut route)) {
                            changed();
                            thread::sleep(pace.pause(Instant::now()));
                            // What comes while a link is being mended is not heard (`left`): a second look finds it.
                            thread::sleep(SECOND_LOOK);
                            changed();
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

/// How many calls are left, and since when that is so.
struct Pace {
    calls: u32,
    since: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { calls: CALLS, since: now }
    }

    /// How long to wait after a call.
    fn pause(&mut self, now: Instant) -> Duration {
        let earned = now.duration_since(self.since).as_secs() / LONG_PAUSE.as_secs();
        if earned > 0 {
            self.since = now;
        }
        self.calls = self.calls.saturating_add(u32::try_from(earned).unwrap_or(CALLS)).min(CALLS);
        if self.calls == 0 {
            // This pause earns nothing.
            self.since = now + LONG_PAUSE;
            return LONG_PAUSE;
        }
        self.calls -= 1;
        PAUSE
    }
}

fn concerns_us(event: &Event, left: &Left, below: &Below, route: &mut Socket) -> bool {
    match event {
        Event::Table(table) => table == TABLE || table == policy::TABLE,
        Event::Link { name, .. } => left.differs(route, event) || below.differs(route, name),
        Event::Address(..) | Event::Route(..) => left.differs(route, event),
        Event::Overrun => true,
        Event::Transaction => false,
    }
}

/// Forgets whom the host's rules have let in: they may not let them in any more. What was let in and is just being asked again
/// goes on, as connections do ([`consent`]).
fn ask_again(socket: &mut Socket) {
    let mut batch = Batch::new(TABLE);
    consent::CONSENTED.iter().for_each(|set| batch.flush_set(set));
    let flushed: Result<(), NetlinkError> = socket.transact(&batch.finish());
    if let Err(error) = flushed
        && error.errno() != Some(libc::ENOENT)
    {
        tracing::debug!(%error, "clients that were let in are believed until their time is over");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fights_is_answered_once_a_second() {
        let start = Instant::now();
        let (mut pace, mut now, mut calls) = (Pace::new(start), start, 0);
        while now < start + Duration::from_secs(60) {
            now += pace.pause(now);
            calls += 1;
        }
        assert!((60..=90).contains(&calls), "{calls}");
        // After some rest it is as at first.
        now += Duration::from_secs(60);
        assert_eq!(pace.pause(now), PAUSE);
    }
}
