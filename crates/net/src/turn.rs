//! Taking turns at choosing addresses and host ports, so that two requests at one time never choose the same.
//!
//! ```text
//!  let turn = hints.turn().await;          one at a time; notes what others have chosen and not yet written
//!  let existing = ports.list().await;      AFTER the turn began
//!  let chosen = build_ports(.. existing + turn.pending() ..);
//!  let hold = turn.hold(&chosen);          the next one's turn; what was chosen stays taken
//!  txn.commit().await;                     many commits at a time
//!  drop(hold);                             now the store says it
//! ```
//!
//! The order closes the gap: what is not in the list yet was still held when the turn began. Nothing of this
//! survives the process, and nothing need: an unwritten choice never was.

use std::sync::{Arc, atomic::AtomicU32};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedMutexGuard};
use weft_model::{NetworkId, PortId, PortRange, PortSpec};

use crate::Cursors;

/// Search hints and unwritten choices, one for each process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Hints(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    /// Where searches for addresses ended.
    pub(crate) addresses: Cursors,
    /// Where the search for random host ports ended.
    pub(crate) host_port: AtomicU32,
    /// Where random host ports come from.
    pub(crate) dynamic: PortRange,
    pending: Mutex<Vec<PortSpec>>,
    /// Told when some of them are not pending any more.
    written: Notify,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self::with(PortRange { start: 32_768, end: 60_999 })
    }
}

impl Shared {
    fn with(dynamic: PortRange) -> Self {
        let turn = Arc::default();
        Self {
            addresses: Cursors::default(),
            host_port: AtomicU32::new(0),
            dynamic,
            pending: Mutex::default(),
            written: Notify::new(),
            turn,
        }
    }
}

impl Hints {
    /// Random host ports come from `dynamic`.
    #[must_use]
    pub fn new(dynamic: PortRange) -> Self {
        Self(Arc::new(Shared::with(dynamic)))
    }

    /// With the kernel's range of ephemeral ports (`/proc/sys/net/ipv4/ip_local_port_range`), as Docker.
    #[must_use]
    pub fn from_kernel() -> Self {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let mut numbers = text.split_whitespace().filter_map(|n| n.parse::<u16>().ok());
        match (numbers.next(), numbers.next()) {
            (Some(start), Some(end)) if start > 0 && start <= end => Self::new(PortRange { start, end }),
            _ => Self::default(),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }

    /// Waits for the caller's turn.
    pub async fn turn(&self) -> Turn {
        let guard = Arc::clone(&self.0.turn).lock_owned().await;
        let pending = self.0.pending.lock().clone();
        Turn { shared: Arc::clone(&self.0), pending, _guard: guard }
    }

    /// The same, and until nothing that was chosen on a network is unwritten: who changes the network then has all its
    /// ports before him. Nobody chooses meanwhile, so the wait is as long as the commits under way.
    pub async fn quiet_turn(&self, network: NetworkId) -> Turn {
        let mut turn = self.turn().await;
        loop {
            // Before the look, so that no end is missed after it.
            let written = self.0.written.notified();
            turn.pending = self.0.pending.lock().clone();
            if turn.pending.iter().all(|port| port.network != network) {
                return turn;
            }
            written.await;
        }
    }

    /// Forgets a network that is gone.
    pub fn forget(&self, network: NetworkId) {
        self.0.addresses.forget(network);
    }
}

/// The exclusive right to choose. Dropping it lets the next one choose.
#[derive(Debug)]
pub struct Turn {
    shared: Arc<Shared>,
    pending: Vec<PortSpec>,
    _guard: OwnedMutexGuard<()>,
}

impl Turn {
    /// What others have chosen and perhaps not written yet.
    #[must_use]
    pub fn pending(&self) -> &[PortSpec] {
        &self.pending
    }

    /// Notes anew what others have chosen and perhaps not written yet: some of it is written by now, or was given up.
    pub fn look_again(&mut self) {
        self.pending = self.shared.pending.lock().clone();
    }

    /// Ends the turn; `chosen` stays taken until the hold is dropped.
    #[must_use = "dropping the hold before the commit lets others choose the same"]
    pub fn hold(self, chosen: &[PortSpec]) -> Hold {
        self.shared.pending.lock().extend_from_slice(chosen);
        Hold { ids: chosen.iter().map(|p| p.id).collect(), shared: Arc::clone(&self.shared) }
    }
}

/// Keeps choices taken until they are written.
#[derive(Debug)]
pub struct Hold {
    shared: Arc<Shared>,
    ids: Vec<PortId>,
}

impl Hold {
    /// The choice was not written: the addresses that it took are the next to be given.
    pub fn give_back(self) {
        let pending = self.shared.pending.lock();
        for port in pending.iter().filter(|port| self.ids.contains(&port.id)) {
            for address in &port.addresses {
                self.shared.addresses.unnote(port.network, address.ip);
            }
        }
        drop(pending);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.pending.lock().retain(|p| !self.ids.contains(&p.id));
        self.shared.written.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fixtures::{network, port, subnet};

    #[tokio::test]
    async fn a_quiet_turn_waits_for_what_was_chosen_on_its_network() {
        let (web, other) = (network("web", vec![subnet("10.1.0.0/24")]), network("other", vec![]));
        let hints = Hints::default();
        let hold = hints.turn().await.hold(&[port(&web, &["10.1.0.2"])]);
        let elsewhere = hints.turn().await.hold(&[port(&other, &[])]);
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, hints.quiet_turn(web.id)).await.is_err(), "unwritten");
        let me = hints.clone();
        let waiting = tokio::spawn(async move { me.quiet_turn(web.id).await.pending().len() });
        tokio::time::sleep(soon).await;
        assert!(!waiting.is_finished());
        drop(hold);
        let pending = tokio::time::timeout(Duration::from_secs(5), waiting).await;
        assert_eq!(pending.unwrap().unwrap(), 1, "another network's is no hindrance");
        drop(elsewhere);
    }

    #[tokio::test]
    async fn what_was_not_written_is_given_next() {
        let web = network("web", vec![subnet("10.1.0.0/24")]);
        let hints = Hints::default();
        let choose = || {
            let cursors = &hints.shared().addresses;
            let given =
                crate::Ipam::new(&web, []).next(crate::Family::V4, cursors.last(web.id, crate::Family::V4));
            let ip = given.unwrap().ip;
            cursors.note(web.id, ip);
            ip
        };
        let first = choose();
        let hold = hints.turn().await.hold(&[port(&web, &[&first.to_string()])]);
        hold.give_back();
        assert_eq!(choose(), first);
        drop(hints.turn().await.hold(&[port(&web, &[&first.to_string()])]));
        assert_ne!(choose(), first, "what was written is not given again at once");
    }
}
