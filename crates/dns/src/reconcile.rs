//! Keeps names and sockets as the store says: names are made anew at every change, sockets opened for the
//! containers that come and closed for those that go. The same path serves the first start, when all
//! containers are there already: the kernel freed a killed daemon's sockets.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::task::JoinSet;
use weft_base::{Backoff, Tasks};
use weft_model::{Container, ContainerId, Network, Port, PortId, PortOwner};
use weft_store::{
    StoreError, Stores, Table,
    reconcile::{Loop, Wake},
};

use crate::{
    DnsError, DnsStats, Names, RESOLVER, SandboxSockets, Sockets, UpstreamConfig,
    serve::{Core, serve_udp},
    tcp::serve_tcp,
    upstream::Upstream,
};

/// A handle to the running resolver. Cheap to clone.
#[derive(Clone)]
pub struct Dns(Arc<Inner>);

struct Inner {
    core: Arc<Core>,
    sockets: Arc<dyn SandboxSockets>,
    networks: Table<Network>,
    ports: Table<Port>,
    containers: Table<Container>,
    open: tokio::sync::Mutex<HashMap<ContainerId, Open>>,
    retry: Mutex<Backoff>,
    wake: Wake,
    tasks: Tasks,
}

/// The resolver in one container.
struct Open {
    /// The ports it was opened beside: when none of them is left, the namespace is another one.
    ports: Vec<PortId>,
    /// The namespace it is in. One that was restarted keeps its ports and has another.
    namespace: u64,
    serving: JoinSet<()>,
}

impl Dns {
    /// Starts the resolver. One for each store and machine.
    #[must_use]
    pub fn start(
        stores: &Stores,
        sockets: Arc<dyn SandboxSockets>,
        config: UpstreamConfig,
        tasks: &Tasks,
    ) -> Self {
        let concurrency = config.concurrency;
        let dns = Self(Arc::new(Inner {
            core: Arc::new(Core::new(Upstream::new(config), Arc::clone(&sockets), concurrency)),
            sockets,
            networks: Table::new(stores),
            ports: Table::new(stores),
            containers: Table::new(stores),
            open: tokio::sync::Mutex::default(),
            retry: Mutex::new(Backoff::new(Duration::from_millis(50), Duration::from_secs(5))),
            wake: Wake::default(),
            tasks: tasks.clone(),
        }));
        let me = dns.clone();
        tasks.supervise("dns", move || {
            let me = me.clone();
            let looping = Loop::new("dns")
                .waking(me.0.wake.clone())
                .watching(&me.0.networks)
                .watching(&me.0.ports)
                .watching(&me.0.containers);
            looping.run(move || {
                let me = me.clone();
                async move { me.run().await }
            })
        });
        dns
    }

    /// Makes the container's resolver ready before its process starts, in the namespace that it has now, which must be there.
    /// Does nothing for a container that needs none.
    ///
    /// # Errors
    /// The sockets cannot be had, or the store failed.
    pub async fn attach(&self, container: ContainerId) -> Result<(), DnsError> {
        let failed = self.refresh(Some(container)).await?;
        match failed.into_iter().find(|(id, _)| *id == container) {
            Some((_, source)) => Err(DnsError::Listen { container, source }),
            None => Ok(()),
        }
    }

    /// What happened since the start.
    pub async fn stats(&self) -> DnsStats {
        let core = &self.0.core;
        let figures = &core.upstream.figures;
        DnsStats {
            containers: count(self.0.open.lock().await.len()),
            cached: figures.cached.load(Relaxed),
            silent: figures.silent.load(Relaxed),
            upstream: figures.latency.read(),
            kept: count(core.upstream.cache.len()),
            ..core.counters.read()
        }
    }

    async fn run(&self) -> Result<(), StoreError> {
        let failed = self.refresh(None).await?;
        if failed.is_empty() {
            self.0.retry.lock().reset();
            return Ok(());
        }
        for (container, error) in failed {
            // Ordinary while a container starts: its namespace comes a little later.
            tracing::debug!(container = %container.short(), %error, "the resolver cannot listen yet");
        }
        let (pause, wake) = (self.0.retry.lock().next_delay(), self.0.wake.clone());
        self.0.tasks.spawn(async move {
            tokio::time::sleep(pause).await;
            wake.wake();
        });
        Ok(())
    }

    /// Brings names and sockets up to date, those of `starting` whatever was open before; answers the containers whose sockets
    /// could not be opened.
    async fn refresh(
        &self,
        starting: Option<ContainerId>,
    ) -> Result<Vec<(ContainerId, io::Error)>, StoreError> {
        let inner = &self.0;
        let mut open = inner.open.lock().await;
        let networks = inner.networks.list_shared().await?;
        let ports = inner.ports.list_shared().await?;
        let containers = inner.containers.list_shared().await?;
        let names = Arc::new(Names::build(
            networks.iter().map(|n| &n.value),
            ports.iter().map(|p| &p.value),
            containers.iter().map(|c| &c.value),
        ));
        *inner.core.names.write() = Arc::clone(&names);
        let mut wanted: HashMap<ContainerId, Vec<PortId>> =
            names.containers().map(|id| (id, Vec::new())).collect();
        for port in ports.iter() {
            let PortOwner::Container(owner) = port.spec.owner;
            if let Some(ids) = wanted.get_mut(&owner) {
                ids.push(port.spec.id);
            }
        }
        open.retain(|id, o| wanted.get(id).is_some_and(|ids| o.ports.iter().any(|p| ids.contains(p))));
        if let Some(id) = starting {
            let now = inner.sockets.namespace(id).ok();
            open.retain(|other, o| *other != id || Some(o.namespace) == now);
        }
        let mut failed = Vec::new();
        for (id, ports) in wanted {
            if let Some(present) = open.get_mut(&id)
                && present.serving.try_join_next().is_none()
            {
                present.ports = ports;
                continue;
            }
            // New, or one of its tasks has ended: all of it is made anew.
            open.remove(&id);
            match self.listen(id, !names.serves_dns(id)).await {
                Ok((namespace, serving)) => drop(open.insert(id, Open { ports, namespace, serving })),
                Err(error) => failed.push((id, error)),
            }
        }
        Ok(failed)
    }

    async fn listen(&self, container: ContainerId, tcp: bool) -> io::Result<(u64, JoinSet<()>)> {
        let sockets = Arc::clone(&self.0.sockets);
        let work = tokio::task::spawn_blocking(move || sockets.open(container, RESOLVER, tcp));
        let Sockets { udp, tcp, namespace } = work.await.map_err(io::Error::other)??;
        udp.set_nonblocking(true)?;
        let udp = tokio::net::UdpSocket::from_std(udp)?;
        let tcp = match tcp {
            Some(listener) => {
                listener.set_nonblocking(true)?;
                Some(tokio::net::TcpListener::from_std(listener)?)
            }
            None => None,
        };
        let mut serving = JoinSet::new();
        let core = Arc::clone(&self.0.core);
        let served = core.serve(container);
        serving.spawn(logged(container, serve_udp(Arc::clone(&core), udp, Arc::clone(&served))));
        if let Some(listener) = tcp {
            serving.spawn(logged(container, serve_tcp(core, listener, served)));
        }
        Ok((namespace, serving))
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

async fn logged(container: ContainerId, serving: impl Future<Output = io::Result<()>>) {
    if let Err(error) = serving.await {
        tracing::warn!(container = %container.short(), %error, "the resolver's socket failed");
    }
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
