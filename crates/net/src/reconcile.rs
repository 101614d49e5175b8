//! The network reconciler: compiles the model whenever it changes, hands the value to the driver, writes what
//! came of it into the ports' and networks' status, and tells in process which sandboxes are ready.
//!
//! ```text
//!  store change / timer / sandbox_ready ─▶ compile ─▶ same as last time? ─no─▶ converge (blocking thread)
//!                                                           │yes                    │ failed: look anew, once more
//!                                                           ▼                       ▼
//!                                               statuses that differ ◀── what failed, by port and sandbox
//!                                                           ▼
//!                                               Ready{mark, sandboxes}     to those who wait
//! ```
//!
//! A failure is written to where it belongs and tried again with backoff; it never delays a healthy
//! container's start. The kernel is looked at anew on the timer, so that what others removed comes back.

mod policy;
mod ready;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::sync::watch;
use weft_base::{Backoff, Tasks, chain};
use weft_dataplane::{Converger, Desired, Driver, DriverError, Outcome, SandboxId};
use weft_model::{Container, ContainerId, Network, NetworkId, NetworkSpec, Policy, Port, PortId, PortOwner};
use weft_store::{
    Mark, StoreError, Stored, Stores, Table,
    reconcile::{Loop, Wake},
};

use crate::{
    Compiled, LeaseSockets, NetError, compile, dhcp::Leases, driver::Shared, in_use, ledger::Ledger,
    plan::HostDefaults, policy::with_policy, report::Report,
};

/// How the reconciler runs.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// What records leave open.
    pub host: HostDefaults,
    /// How often the kernel is looked at anew.
    pub every: Duration,
    /// Longest wait for a sandbox.
    pub patience: Duration,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            host: HostDefaults::default(),
            every: Duration::from_secs(30),
            patience: Duration::from_secs(30),
        }
    }
}

/// Which sandboxes are as the stores had them at `mark`.
#[derive(Clone, Debug, Default)]
struct Ready {
    mark: Mark,
    sandboxes: BTreeMap<SandboxId, Result<(), String>>,
    /// Ports and networks that cannot be, and why.
    ports: BTreeMap<PortId, String>,
    networks: BTreeMap<NetworkId, String>,
    /// Ports that wait for their address.
    pending: BTreeMap<PortId, ContainerId>,
    /// Concerns everything.
    general: String,
    /// What of the policy could not be made to hold.
    policy: String,
}

/// A handle to the running reconciler. Cheap to clone.
#[derive(Clone)]
pub struct Net(Arc<Inner>);

struct Inner {
    stores: Stores,
    networks: Table<Network>,
    ports: Table<Port>,
    containers: Table<Container>,
    policies: Table<Policy>,
    /// What each policy has counted.
    ledger: Mutex<Ledger>,
    driver: Arc<dyn Driver>,
    state: Mutex<State>,
    /// The machine is to be looked at anew.
    suspect: AtomicBool,
    ready: watch::Sender<Arc<Ready>>,
    wake: Wake,
    tasks: Tasks,
    config: NetConfig,
    leases: Option<Leases>,
}

/// What one run leaves to the next.
struct State {
    converger: Converger<Shared>,
    /// The value that the machine is known to be like.
    done: Option<Desired>,
    generation: u64,
    looked: Instant,
    backoff: Backoff,
}

impl Net {
    /// Starts reconciling. One for each store and machine. No port gets an address by DHCP.
    #[must_use]
    pub fn start(stores: &Stores, driver: Arc<dyn Driver>, tasks: &Tasks, config: NetConfig) -> Self {
        Self::start_with(stores, driver, tasks, config, None)
    }

    /// The same; ports on networks that want it get their addresses by DHCP.
    #[must_use]
    pub fn start_with(
        stores: &Stores,
        driver: Arc<dyn Driver>,
        tasks: &Tasks,
        config: NetConfig,
        sockets: Option<Arc<dyn LeaseSockets>>,
    ) -> Self {
        let make = Loop::new("net").every(config.every);
        let state = State {
            converger: Converger::new(Shared(Arc::clone(&driver))),
            done: None,
            generation: 0,
            looked: Instant::now(),
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(30)),
        };
        let leases = sockets.map(|s| Leases::new(Table::new(stores), s, tasks, make.wake()));
        let net = Self(Arc::new(Inner {
            leases,
            stores: stores.clone(),
            networks: Table::new(stores),
            ports: Table::new(stores),
            containers: Table::new(stores),
            policies: Table::new(stores),
            ledger: Mutex::default(),
            driver,
            state: Mutex::new(state),
            suspect: AtomicBool::new(false),
            ready: watch::channel(Arc::default()).0,
            wake: make.wake(),
            tasks: tasks.clone(),
            config,
        }));
        net.listen();
        let (me, wake) = (net.clone(), net.0.wake.clone());
        tasks.supervise("net", move || {
            let me = me.clone();
            let tables = &me.0;
            let looping = Loop::new("net")
                .every(tables.config.every)
                .waking(wake.clone())
                .watching(&tables.networks)
                .watching(&tables.ports)
                .watching(&tables.containers)
                .watching(&tables.policies);
            looping.run(move || {
                let me = me.clone();
                async move { me.run().await }
            })
        });
        net
    }

    /// What makes it real.
    pub(crate) fn driver(&self) -> &Arc<dyn Driver> {
        &self.0.driver
    }

    /// What others do to our part of the kernel is looked at when it happens. Without that, the timer finds it.
    fn listen(&self) {
        let inner = Arc::downgrade(&self.0);
        let changed = move || {
            if let Some(inner) = inner.upgrade() {
                tracing::info!("somebody else changed the network's tables or links: looking");
                Self(inner).recheck();
            }
        };
        if let Err(error) = self.0.driver.watch(Box::new(changed)) {
            tracing::warn!(error = chain(&error), "changes by others are only found by the timer");
        }
    }

    /// Where a container's network namespace is found, whether or not it exists.
    #[must_use]
    pub fn sandbox_path(&self, container: ContainerId) -> PathBuf {
        self.0.driver.sandbox_path(container)
    }

    /// Asks for a run that looks at the kernel anew (somebody else changed something there).
    pub fn recheck(&self) {
        self.0.suspect.store(true, Ordering::Release);
        self.0.wake.wake();
    }

    /// Where the host routes to already, so that addresses there are in use.
    ///
    /// # Errors
    /// [`NetError::DataPlane`] when the driver cannot tell.
    pub async fn host_routes(&self) -> Result<Vec<IpNet>, NetError> {
        self.ask(|driver| driver.routes()).await.map(in_use)
    }

    /// The addresses of a bridge of that name that is somebody else's, if there is one.
    ///
    /// # Errors
    /// [`NetError::DataPlane`] when the driver cannot tell.
    pub async fn foreign_bridge(&self, name: &str) -> Result<Option<Vec<IpNet>>, NetError> {
        let name = name.to_owned();
        self.ask(move |driver| driver.foreign_bridge(&name)).await
    }

    /// A question to the driver, which blocks.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Driver) -> Result<T, DriverError> + Send + 'static,
    ) -> Result<T, NetError> {
        let driver = Arc::clone(&self.0.driver);
        let answer = tokio::task::spawn_blocking(move || question(driver.as_ref())).await;
        let answer = answer.map_err(|error| NetError::DataPlane(error.to_string()))?;
        answer.map_err(|error| NetError::DataPlane(chain(&error)))
    }

    /// Whether a network's ports can hang on its parent, as the host is now; other networks can always be.
    ///
    /// # Errors
    /// Why not, in Docker's words.
    pub async fn uplink_possible(&self, network: &NetworkSpec) -> Result<(), NetError> {
        let Some(parent) = &network.parent else { return Ok(()) };
        let segment = crate::parent::segment(network, parent, &[]);
        let driver = Arc::clone(&self.0.driver);
        let asked = tokio::task::spawn_blocking(move || driver.refuses_uplink(&segment)).await;
        match asked {
            Ok(None) => Ok(()),
            Ok(Some(fault)) => Err(crate::parent::refusal(&fault, parent.link.as_deref())),
            Err(_) => Err(NetError::DataPlane("the driver panicked".into())),
        }
    }

    /// Whether interfaces of containers have a parameter, `IFNAME` standing for the interface.
    #[must_use]
    pub fn has_parameter(&self, name: &str) -> bool {
        self.0.driver.has_parameter(name)
    }

    async fn run(&self) -> Result<(), StoreError> {
        let inner = &self.0;
        let mark = inner.stores.mark().await?;
        let networks = inner.networks.list_shared().await?;
        let ports = inner.ports.list_shared().await?;
        let containers = inner.containers.list_shared().await?;
        let mut compiled = compile(
            networks.iter().map(|n| &*n.value),
            ports.iter().map(|p| &*p.value),
            containers.iter().map(|c| &*c.value),
            &inner.config.host,
        );
        let policies = inner.policies.list_shared().await?;
        let decided = with_policy(
            &mut compiled,
            networks.iter().map(|n| &*n.value),
            containers.iter().map(|c| &*c.value),
            policies.iter().map(|p| &*p.value),
        );
        self.keep_counts(decided, policies.iter().map(|p| p.spec.id).collect()).await;
        leave_out_refused(inner.driver.as_ref(), &mut compiled);
        if let Some(leases) = &inner.leases {
            leases.retain(&ports).await;
        }
        let result = self.converge(compiled.desired.clone()).await;
        let mut report = Report::new(&compiled.desired, compiled.faults, result);
        let pending = self.lease(&compiled.desired, &ports, &mut report);
        if let Some(pause) = self.pace(report.healthy) {
            let wake = inner.wake.clone();
            inner.tasks.spawn(async move {
                tokio::time::sleep(pause).await;
                wake.wake();
            });
        }
        let sandboxes = report.sandboxes(&compiled.desired, &ports);
        inner.ready.send_replace(Arc::new(Ready {
            mark,
            sandboxes,
            ports: report.ports.clone(),
            networks: report.networks.clone(),
            pending,
            general: report.general.clone(),
            policy: report.policy.clone(),
        }));
        self.write_statuses(&networks, &ports, &report).await
    }

    /// Sees to the addresses of ports that were made; answers those that wait for theirs.
    fn lease(
        &self,
        desired: &Desired,
        ports: &[Stored<Port>],
        report: &mut Report,
    ) -> BTreeMap<PortId, ContainerId> {
        let Some(leases) = &self.0.leases else { return BTreeMap::new() };
        let made = |id| desired.ports.contains_key(&id) && report.port(id).is_empty();
        leases.tend(ports, made);
        let waits = |p: &&Stored<Port>| made(p.spec.id) && leases.is_pending(p);
        let owner = |p: &Stored<Port>| {
            let PortOwner::Container(owner) = p.spec.owner;
            (p.spec.id, owner)
        };
        let pending = ports.iter().filter(waits).map(owner).collect();
        for (id, why) in leases.failures() {
            report.ports.entry(id).or_insert(why);
        }
        pending
    }

    /// After a failure: how long until the next attempt.
    fn pace(&self, healthy: bool) -> Option<Duration> {
        let mut state = self.0.state.lock();
        if healthy {
            state.backoff.reset();
            return None;
        }
        state.done = None;
        Some(state.backoff.next_delay())
    }

    /// Brings the machine to `desired` on a blocking thread; nothing is done when it is known to be so.
    async fn converge(&self, desired: Desired) -> Result<Outcome, DriverError> {
        let me = self.clone();
        let work = move || {
            let mut guard = me.0.state.lock();
            let state = &mut *guard;
            let suspect = me.0.suspect.swap(false, Ordering::AcqRel);
            let fresh = !suspect && state.looked.elapsed() < me.0.config.every;
            if fresh && state.done.as_ref() == Some(&desired) {
                return Ok(Outcome::default());
            }
            if !fresh || state.done.is_none() {
                state.converger.forget();
                state.looked = Instant::now();
            }
            state.generation += 1;
            let mut next = Desired { generation: state.generation, ..desired.clone() };
            let mut outcome = state.converger.converge(&next)?;
            if !outcome.converged() {
                // What we remembered of the machine was wrong, or a step is really impossible: look anew.
                state.generation += 1;
                next.generation = state.generation;
                state.converger.forget();
                outcome = state.converger.converge(&next)?;
            }
            state.done = outcome.converged().then_some(desired);
            Ok(outcome)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(DriverError::Observe {
                what: "the network: the driver panicked".into(),
                source: error.into(),
            }),
        }
    }

    async fn write_statuses(
        &self,
        networks: &[Stored<Network>],
        ports: &[Stored<Port>],
        report: &Report,
    ) -> Result<(), StoreError> {
        let ports = ports.iter().filter_map(|port| {
            let error = report.port(port.spec.id);
            let observed = if error.is_empty() { port.meta.generation } else { port.status.observed };
            let same = port.status.observed == observed && port.status.error == error;
            (!same).then(|| self.write_port(port.spec.id, observed, error))
        });
        let networks = networks.iter().filter_map(|network| {
            let error = report.network(network.spec.id);
            let observed = if error.is_empty() { network.meta.generation } else { network.status.observed };
            let same = network.status.observed == observed && network.status.error == error;
            (!same).then(|| self.write_network(network.spec.id, observed, error))
        });
        let (ports, networks) = tokio::join!(join_all(ports), join_all(networks));
        ports.into_iter().chain(networks).find(Result::is_err).unwrap_or(Ok(()))
    }

    async fn write_port(&self, id: PortId, observed: u64, error: String) -> Result<(), StoreError> {
        let write = self.0.ports.update(&id, |port| {
            // A spec that changed meanwhile was not what we made: the next run tells.
            let late = error.is_empty() && port.meta.generation != observed;
            let changed = !late && (port.status.observed != observed || port.status.error != error);
            if changed {
                port.status.observed = observed;
                port.status.error.clone_from(&error);
            }
            changed
        });
        ignore_gone(write.await.map(drop))
    }

    async fn write_network(&self, id: NetworkId, observed: u64, error: String) -> Result<(), StoreError> {
        let write = self.0.networks.update(&id, |network| {
            let late = error.is_empty() && network.meta.generation != observed;
            let changed = !late && (network.status.observed != observed || network.status.error != error);
            if changed {
                network.status.observed = observed;
                network.status.error.clone_from(&error);
            }
            changed
        });
        ignore_gone(write.await.map(drop))
    }
}

/// A publish that the driver cannot do is its port's fault and nobody else's.
fn leave_out_refused(driver: &dyn Driver, compiled: &mut Compiled) {
    let Compiled { desired, faults } = compiled;
    let ports = &desired.ports;
    desired.publishes.retain(|publish| {
        let Some(why) = driver.refuses(publish) else { return true };
        let target =
            |port: &weft_dataplane::Port| port.addresses.iter().any(|a| a.addr() == publish.target_ip);
        faults.extend(ports.iter().filter(|(_, port)| target(port)).map(|(id, _)| (*id, why.to_string())));
        false
    });
}

/// A record that was removed meanwhile needs no status.
fn ignore_gone(result: Result<(), StoreError>) -> Result<(), StoreError> {
    match result {
        Err(error) if error.conflict().is_some() => Ok(()),
        other => other,
    }
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
