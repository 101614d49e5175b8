//! The resolver of containers, on or off.

use std::{io, net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use parking_lot::RwLock;
use weft_base::Tasks;
use weft_dns::{Dns, DnsError, DnsStats, SandboxSockets, Sockets, UpstreamConfig};
use weft_driver_linux::LinuxDriver;
use weft_model::ContainerId;
use weft_store::Stores;

/// The resolver's sockets, made by the data plane's worker.
struct InSandbox(Arc<LinuxDriver>);

impl SandboxSockets for InSandbox {
    fn open(&self, container: ContainerId, at: SocketAddr, tcp: bool) -> io::Result<Sockets> {
        use weft_dataplane::Driver;
        let path = self.0.sandbox_path(container);
        self.0.netns().run(&path, move || weft_dns::open_here(at, tcp)).map_err(io::Error::other)?
    }

    fn namespace(&self, container: ContainerId) -> io::Result<u64> {
        use weft_dataplane::Driver;
        weft_dns::namespace_at(&self.0.sandbox_path(container))
    }

    fn outward(&self, container: ContainerId, v6: bool, tcp: bool) -> io::Result<OwnedFd> {
        use weft_dataplane::Driver;
        let path = self.0.sandbox_path(container);
        self.0.netns().run(&path, move || weft_dns::outward_here(v6, tcp)).map_err(io::Error::other)?
    }
}

/// What it is made of, and the one that runs.
pub(crate) struct Resolver {
    stores: Stores,
    driver: Arc<LinuxDriver>,
    upstream: UpstreamConfig,
    running: RwLock<Option<(Dns, Tasks)>>,
}

impl Resolver {
    pub(crate) fn new(stores: &Stores, driver: Arc<LinuxDriver>, upstream: UpstreamConfig) -> Self {
        Self { stores: stores.clone(), driver, upstream, running: RwLock::default() }
    }

    /// Starts it; containers that run get it at once.
    pub(crate) fn start(&self) {
        let mut running = self.running.write();
        if running.is_none() {
            let (tasks, sockets) = (Tasks::new(), Arc::new(InSandbox(Arc::clone(&self.driver))));
            *running = Some((Dns::start(&self.stores, sockets, self.upstream.clone(), &tasks), tasks));
        }
    }

    /// Ends it. The sockets in the containers close with it.
    pub(crate) async fn stop(&self) {
        let running = self.running.write().take();
        if let Some((dns, tasks)) = running {
            tasks.stop().await;
            drop(dns);
        }
    }

    fn dns(&self) -> Option<Dns> {
        self.running.read().as_ref().map(|(dns, _)| dns.clone())
    }

    /// Whether names are answered.
    pub(crate) fn is_on(&self) -> bool {
        self.running.read().is_some()
    }

    /// Makes the container's resolver ready, where there is one.
    pub(crate) async fn attach(&self, container: ContainerId) -> Result<(), DnsError> {
        match self.dns() {
            Some(dns) => dns.attach(container).await,
            None => Ok(()),
        }
    }

    /// What it did since it was started.
    pub(crate) async fn stats(&self) -> Option<DnsStats> {
        Some(self.dns()?.stats().await)
    }
}
