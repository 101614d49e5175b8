//! Addresses from the LAN's DHCP servers, for ports that want one: obtained, kept in the port's status, renewed while the
//! port is there, given back when it goes.
//!
//! ```text
//!  port without lease ─▶ task: DISCOVER … ACK ─▶ status.lease ─▶ (watch) ─▶ compile: address, route ─▶ driver
//!                          │ no answer: the port's fault, told to who waits; tried again      │
//!                          ▼                                                                  ▼
//!                       sleep to T1, renew, rebind; lease ends: status.lease goes      port goes: RELEASE
//! ```
//!
//! The lease is in the store, so that a new daemon goes on with it. A socket is open only during a conversation: an interface
//! under load costs nothing in between. Not here: IPv6, and a lease whose port went while no daemon ran (it ends by itself).

mod datagram;
mod machine;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};
use weft_base::{Clock, SystemClock, Tasks, Timestamp};
use weft_model::{ContainerId, Lease, MacAddr, Port, PortId, PortOwner};
use weft_store::{Stored, Table, reconcile::Wake};

use machine::{Client, Heard, Machine, Outgoing, Phase};

/// Waits for an answer, one after the other, before an attempt is given up: 15 s in all.
const WAITS: [u64; 4] = [1, 2, 4, 8];
/// Between attempts that found no server.
const PAUSE: Duration = Duration::from_secs(10);
/// Shortest time between two attempts to renew.
const LEAST: u64 = 1;
/// Giving leases back delays nobody longer than this.
const FAREWELL: Duration = Duration::from_millis(200);

/// A socket on an interface of a container, for datagrams from DHCP servers.
#[async_trait]
pub trait LeaseSocket: Send + Sync {
    /// Sends an IPv4 packet to an Ethernet address.
    async fn send(&self, packet: &[u8], to: [u8; 6]) -> io::Result<()>;
    /// The next IPv4 packet, and the Ethernet address it came from.
    async fn receive(&self) -> io::Result<(Vec<u8>, [u8; 6])>;
}

/// Opens such sockets.
#[async_trait]
pub trait LeaseSockets: Send + Sync {
    /// One on interface `ifname` of `container`, for what comes to port 68.
    async fn open(&self, container: ContainerId, ifname: &str) -> io::Result<Box<dyn LeaseSocket>>;
}

/// The clients of all ports. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Leases(Arc<Inner>);

struct Inner {
    ports: Table<Port>,
    sockets: Arc<dyn LeaseSockets>,
    tasks: Tasks,
    wake: Wake,
    active: Mutex<HashMap<PortId, Active>>,
    /// Ports whose last attempt failed, and why.
    failures: Mutex<BTreeMap<PortId, String>>,
}

/// One port's client.
#[derive(Clone)]
struct Active {
    seat: Seat,
    lease: Arc<Mutex<Option<Lease>>>,
    stop: watch::Sender<bool>,
}

/// Where a client sits, and who it says it is.
#[derive(Clone, Debug)]
struct Seat {
    port: PortId,
    container: ContainerId,
    ifname: String,
    client: Client,
}

impl Leases {
    pub(crate) fn new(ports: Table<Port>, sockets: Arc<dyn LeaseSockets>, tasks: &Tasks, wake: Wake) -> Self {
        Self(Arc::new(Inner {
            ports,
            sockets,
            tasks: tasks.clone(),
            wake,
            active: Mutex::default(),
            failures: Mutex::default(),
        }))
    }

    /// Ends the clients of ports that are gone, and gives their leases back. To be called while the interfaces are still there.
    pub(crate) async fn retain(&self, ports: &[Stored<Port>]) {
        let gone: Vec<Active> = {
            let mut active = self.0.active.lock();
            let stays = |id: &PortId| ports.iter().any(|p| p.spec.id == *id && p.meta.deleting.is_none());
            let ids: Vec<PortId> = active.keys().filter(|id| !stays(id)).copied().collect();
            ids.iter().filter_map(|id| active.remove(id)).collect()
        };
        let farewells = gone.iter().map(|one| async move {
            one.stop.send_replace(true);
            self.0.failures.lock().remove(&one.seat.port);
            let lease = one.lease.lock().take();
            if let Some(lease) = lease
                && let Err(error) = self.release(&one.seat, &lease).await
            {
                tracing::warn!(%error, address = %lease.address, "a lease could not be given back; it ends by itself");
            }
        });
        let all = futures_util::future::join_all(farewells);
        if timeout(FAREWELL, all).await.is_err() {
            tracing::warn!("some leases were not given back in time; they end by themselves");
        }
    }

    async fn release(&self, seat: &Seat, lease: &Lease) -> io::Result<()> {
        let socket = self.0.sockets.open(seat.container, &seat.ifname).await?;
        match Machine::release(&seat.client, lease, number()) {
            Some((packet, to)) => socket.send(&packet, to).await,
            None => Ok(()),
        }
    }

    /// Starts clients for ports whose interfaces are there.
    pub(crate) fn tend(&self, ports: &[Stored<Port>], made: impl Fn(PortId) -> bool) {
        let wanting = ports.iter().filter(|p| p.meta.deleting.is_none() && made(p.spec.id));
        for (port, wish) in wanting.filter_map(|p| Some((p, p.spec.dhcp.as_ref()?))) {
            let mut active = self.0.active.lock();
            if active.contains_key(&port.spec.id) {
                continue;
            }
            let PortOwner::Container(container) = port.spec.owner;
            let client = Client { mac: port.spec.mac, hostname: wish.hostname.clone() };
            let seat = Seat { port: port.spec.id, container, ifname: port.spec.ifname.clone(), client };
            let (stop, stopped) = watch::channel(false);
            let lease = Arc::new(Mutex::new(port.status.lease.clone()));
            let one = Active { seat, lease, stop };
            active.insert(port.spec.id, one.clone());
            let me = self.clone();
            self.0.tasks.spawn(async move { me.live(&one, stopped).await });
        }
    }

    /// Ports that have neither a lease nor a reason why not.
    pub(crate) fn is_pending(&self, port: &Port) -> bool {
        port.spec.dhcp.is_some()
            && port.status.lease.is_none()
            && !self.0.failures.lock().contains_key(&port.spec.id)
    }

    /// Why ports have no lease.
    pub(crate) fn failures(&self) -> BTreeMap<PortId, String> {
        self.0.failures.lock().clone()
    }

    async fn live(&self, one: &Active, mut stopped: watch::Receiver<bool>) {
        let working = async {
            loop {
                let lease = one.lease.lock().clone();
                match lease {
                    Some(lease) => self.keep(one, lease).await,
                    None => self.acquire(one).await,
                }
            }
        };
        tokio::select! { _ = stopped.wait_for(|stop| *stop) => {}, () = working => {} }
    }

    async fn acquire(&self, one: &Active) {
        let seat = &one.seat;
        match self.converse(seat, Phase::Discover, &WAITS).await {
            Ok(Some(lease)) => {
                self.0.failures.lock().remove(&seat.port);
                self.record(one, Some(lease)).await;
            }
            other => {
                let why = match other {
                    Err(error) => error.to_string(),
                    _ => "no DHCP server answered".to_owned(),
                };
                let text =
                    format!("failed to obtain an IP address for interface {} by DHCP: {why}", seat.ifname);
                tracing::warn!(container = %seat.container, "{text}");
                self.0.failures.lock().insert(seat.port, text);
                self.0.wake.wake();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Sleeps until the lease is half over, then asks for more; returns when there is another, or none.
    async fn keep(&self, one: &Active, lease: Lease) {
        let at = |seconds: u32| lease.obtained.plus(Duration::from_secs(seconds.into()));
        sleep_until(at(lease.renew)).await;
        loop {
            let now = SystemClock.now();
            let (phase, until) = if now < at(lease.rebind) {
                (Phase::Renew(lease.clone()), at(lease.rebind))
            } else if now < at(lease.seconds) {
                (Phase::Rebind(lease.clone()), at(lease.seconds))
            } else {
                tracing::warn!(address = %lease.address, "the lease of an address has ended");
                return self.record(one, None).await;
            };
            match self.converse(&one.seat, phase, &WAITS[..2]).await {
                Ok(Some(new)) => return self.record(one, Some(new)).await,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    return self.record(one, None).await;
                }
                // RFC 2131, 4.4.5: half of what is left, again and again.
                _ => {
                    tokio::time::sleep(Duration::from_secs(
                        (until.since(SystemClock.now()).as_secs() / 2).max(LEAST),
                    ))
                    .await
                }
            }
        }
    }

    /// `None`: nobody answered. A refusal is `ConnectionRefused`.
    async fn converse(&self, seat: &Seat, phase: Phase, waits: &[u64]) -> io::Result<Option<Lease>> {
        let socket = self.0.sockets.open(seat.container, &seat.ifname).await?;
        let mut machine = Machine::new(seat.client.clone(), phase, number());
        for seconds in waits {
            let mut due: Option<Outgoing> = machine.message();
            let listen = async {
                loop {
                    if let Some((packet, to)) = due.take() {
                        socket.send(&packet, to).await?;
                    }
                    let (packet, from) = socket.receive().await?;
                    match machine.hear(&packet, MacAddr(from), SystemClock.now()) {
                        Heard::Nothing => {}
                        Heard::Next => due = machine.message(),
                        Heard::Bound(lease) => return Ok(lease),
                        Heard::Refused => return Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
                    }
                }
            };
            match timeout(Duration::from_secs(*seconds), listen).await {
                Ok(Ok(lease)) => return Ok(Some(lease)),
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Writes the lease where everybody finds it.
    async fn record(&self, one: &Active, lease: Option<Lease>) {
        one.lease.lock().clone_from(&lease);
        let write = self.0.ports.update(&one.seat.port, |port| {
            let changed = port.status.lease != lease;
            port.status.lease.clone_from(&lease);
            changed
        });
        // A port that is gone needs none; the store's own failures come back with the next renewal.
        if let Err(error) = write.await
            && error.conflict().is_none()
        {
            tracing::warn!(%error, "a lease could not be recorded");
        }
    }
}

/// Follows the wall clock, which leases are counted by: it may jump, and the machine may sleep.
async fn sleep_until(when: Timestamp) {
    loop {
        let left = when.since(SystemClock.now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(Duration::from_secs(60))).await;
    }
}

/// Of a conversation: unlikely to be another's on this LAN.
fn number() -> u32 {
    let id = PortId::new();
    let b = id.as_bytes();
    u32::from_be_bytes([b[0], b[1], b[2], b[3]])
}
