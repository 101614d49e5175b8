//! The thin loop around [`decide`]: packets in, packets out, for the sockets of one container.
//!
//! Nothing is kept for a container but its two sockets and their tasks: buffers are the threads'. A query that must be
//! forwarded goes on in a task of its own, of which there are only so many.

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
};

use hickory_proto::op::ResponseCode;
use parking_lot::RwLock;
use tokio::net::UdpSocket;
use weft_model::ContainerId;

use crate::{
    Asker, Decision, Names, SandboxSockets, Transport,
    batch::Batch,
    counters::Counters,
    decide, edns,
    exchange::From,
    quick,
    quota::{Quota, Share},
    reply::failure,
    upstream::{Upstream, Whom},
};

/// What all sockets share.
pub(crate) struct Core {
    pub(crate) names: RwLock<Arc<Names>>,
    pub(crate) upstream: Arc<Upstream>,
    sockets: Arc<dyn SandboxSockets>,
    quota: Quota,
    turn: AtomicU32,
    pub(crate) counters: Counters,
}

/// One container that is served.
pub(crate) struct Served {
    pub(crate) container: ContainerId,
    /// Its queries that others must answer.
    pub(crate) forwards: Share,
    /// Whether its kernel takes several answers as one (see [`Batch::give`]).
    pub(crate) together: AtomicBool,
}

/// Turns in no order, each remainder as often as the others: clients ask in pairs (A, AAAA), and of every second turn in a row
/// both addresses of two would never come first.
fn scattered(turn: u32) -> u32 {
    // The finalizer of MurmurHash3.
    let turn = (turn ^ (turn >> 16)).wrapping_mul(0x85eb_ca6b);
    let turn = (turn ^ (turn >> 13)).wrapping_mul(0xc2b2_ae35);
    turn ^ (turn >> 16)
}

impl Core {
    pub(crate) fn new(upstream: Upstream, sockets: Arc<dyn SandboxSockets>, concurrency: usize) -> Self {
        Self {
            names: RwLock::default(),
            upstream: Arc::new(upstream),
            sockets,
            quota: Quota::new(concurrency),
            turn: AtomicU32::new(0),
            counters: Counters::default(),
        }
    }

    pub(crate) fn serve(&self, container: ContainerId) -> Arc<Served> {
        Arc::new(Served { container, forwards: self.quota.share(), together: AtomicBool::new(true) })
    }

    /// The plain queries, which nearly all are; `false` for the others.
    fn quick(&self, packet: &[u8], names: &Names, container: ContainerId, out: &mut Vec<u8>) -> bool {
        let turn = scattered(self.turn.fetch_add(1, Relaxed));
        let said = quick::answer(packet, &Asker { names, container, dots: false, turn }, out);
        if said {
            self.counters.answered.fetch_add(1, Relaxed);
            self.counters.question(packet);
            self.counters.success();
        }
        said
    }

    pub(crate) fn decide(
        &self,
        packet: &[u8],
        transport: Transport,
        names: &Names,
        container: ContainerId,
    ) -> Decision {
        let turn = scattered(self.turn.fetch_add(1, Relaxed));
        let dots = self.upstream.host().options.dots.unwrap_or_default();
        let asker = Asker { names, container, dots, turn };
        let decision = decide(packet, transport, &asker);
        let counter = match &decision {
            Decision::Drop => &self.counters.dropped,
            Decision::Reply(_) => &self.counters.answered,
            Decision::Forward { .. } => &self.counters.forwarded,
        };
        counter.fetch_add(1, Relaxed);
        match &decision {
            Decision::Drop => return decision,
            Decision::Reply(answer) => self.counters.answer(answer),
            Decision::Forward { .. } => {}
        }
        self.counters.question(packet);
        decision
    }

    /// The answer of an upstream server, as the asker can take it, or SERVFAIL.
    pub(crate) async fn forward(
        &self,
        packet: &[u8],
        transport: Transport,
        container: ContainerId,
        limit: u16,
    ) -> Option<Vec<u8>> {
        let names = Arc::clone(&self.names.read());
        let options = names.options(container);
        let whom = match names.upstream(container) {
            Some(Some(own)) => Whom {
                servers: own.to_vec(),
                from: From::Container(Arc::clone(&self.sockets), container),
                options,
            },
            Some(None) => {
                let host = self.upstream.host();
                Whom { servers: host.servers, from: From::Host, options: options.or(host.options) }
            }
            None => Whom { servers: Vec::new(), from: From::Host, options },
        };
        let Some(answer) = self.upstream.ask(packet, transport, &whom, limit).await else {
            return self.fail(packet);
        };
        self.counters.answer(&answer);
        Some(if transport == Transport::Udp { edns::fit(answer, limit) } else { answer })
    }

    /// SERVFAIL to a query that there is no room for.
    pub(crate) fn refuse(&self, packet: &[u8]) -> Option<Vec<u8>> {
        self.counters.refused.fetch_add(1, Relaxed);
        self.fail(packet)
    }

    /// SERVFAIL to a query that nobody answers.
    fn fail(&self, packet: &[u8]) -> Option<Vec<u8>> {
        self.counters.failed.fetch_add(1, Relaxed);
        let answer = failure(packet, ResponseCode::ServFail)?;
        self.counters.answer(&answer);
        Some(answer)
    }
}

thread_local! {
    static BATCH: RefCell<Batch> = RefCell::new(Batch::new());
}

/// Serves datagrams until the socket fails.
pub(crate) async fn serve_udp(core: Arc<Core>, socket: UdpSocket, served: Arc<Served>) -> io::Result<()> {
    let socket = Arc::new(socket);
    loop {
        socket.readable().await?;
        match BATCH.with_borrow_mut(|batch| take_udp(&core, &socket, &served, batch)) {
            // A client that is gone already (its port's ICMP error) is no failure of the socket.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            other => other?,
        }
    }
}

fn take_udp(
    core: &Arc<Core>,
    socket: &Arc<UdpSocket>,
    served: &Arc<Served>,
    batch: &mut Batch,
) -> io::Result<()> {
    let names = Arc::clone(&core.names.read());
    // Some batches, then the others' turn.
    for _ in 0..4 {
        let more = batch.take(socket)?;
        batch.each(|packet, from, answers| {
            if answers.write(|out| core.quick(packet, &names, served.container, out)) {
                return;
            }
            let answer = match core.decide(packet, Transport::Udp, &names, served.container) {
                Decision::Drop => None,
                Decision::Reply(answer) => Some(answer),
                Decision::Forward { limit } => {
                    forward_udp(core, socket, served, packet, SocketAddr::V4(from.into()), limit)
                }
            };
            if let Some(answer) = answer {
                answers.write(|out| {
                    out.extend_from_slice(&answer);
                    true
                });
            }
        });
        batch.give(socket, &served.together);
        if !more {
            break;
        }
    }
    Ok(())
}

/// Lets a task of its own ask the servers; an answer at once where there is no room for one.
fn forward_udp(
    core: &Arc<Core>,
    socket: &Arc<UdpSocket>,
    served: &Arc<Served>,
    packet: &[u8],
    from: SocketAddr,
    limit: u16,
) -> Option<Vec<u8>> {
    let Some(place) = served.forwards.take() else { return core.refuse(packet) };
    let (core, socket, packet) = (Arc::clone(core), Arc::clone(socket), packet.to_vec());
    let container = served.container;
    tokio::spawn(async move {
        if let Some(answer) = core.forward(&packet, Transport::Udp, container, limit).await {
            send(&socket, &answer, from);
        }
        drop(place);
    });
    None
}

/// A full send buffer or a client that is gone loses an answer, as networks do; the client asks again.
fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    if let Err(error) = socket.try_send_to(answer, to) {
        tracing::debug!(%to, %error, "an answer was lost");
    }
}

#[cfg(test)]
mod tests {
    use super::scattered;

    /// Whoever takes every second, third or sixth turn meets all remainders about as often.
    #[test]
    fn turns_are_even_for_whoever_takes_some_of_them() {
        for (step, count) in (1..=6).flat_map(|step| (2..=5).map(move |count| (step, count))) {
            let mut met = vec![0_usize; count];
            for n in 0..1000u32 {
                met[scattered(n * step) as usize % count] += 1;
            }
            let even = 1000 / count;
            assert!(met.iter().all(|n| n.abs_diff(even) < even / 4), "{step} {count}: {met:?}");
        }
    }
}
