//! The one place that names concrete backends and drivers, and puts everything together.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use weft_base::{Clock, SystemClock, Tasks};
use weft_cloud::{Caller, Cloud, Defaults, Parts};
use weft_dataplane::Driver;
use weft_dns::{Server, UpstreamConfig};
use weft_driver_linux::{LinuxDriver, bridge_addresses};
use weft_engine::{
    Engine, EngineConfig, oci,
    shim::{Launcher, Runtime},
};
use weft_image::{
    ImageStore, Options as ImageOptions,
    registry::{RegistryClient, RegistryOptions},
};
use weft_model::{DnsConfig, HostId, LogConfig, SeccompChoice, Ulimit};
use weft_net::{HostDefaults, Net, NetConfig, Pools, PredefinedConfig};
use weft_store::{Stores, Table};

use crate::{
    Config,
    activation::Adopted,
    control,
    faces::{FACES, Faces},
    facts,
    features::Features,
    gate::Gate,
    lease::InSandbox,
    metrics::{self, Sources},
    resolver::Resolver,
    switch::Switch,
    userns,
};

/// Longest wait for the networks before the daemon serves.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// A daemon at work.
pub(crate) struct Running {
    tasks: Tasks,
    faces: Arc<Faces>,
    resolver: Arc<Resolver>,
    control: PathBuf,
    pub(crate) reload: Reloadable,
}

/// What a new configuration can change.
pub(crate) struct Reloadable {
    pub(crate) cloud: Cloud,
    pub(crate) registry: RegistryClient,
    pub(crate) faces: Arc<Faces>,
}

impl Running {
    /// Stops the containers.
    pub(crate) async fn close_containers(&self, seconds: i64) {
        let caller = Caller::local_administrator("shutdown");
        match self.reload.cloud.containers_close(&caller, seconds).await {
            Ok(0) => {}
            Ok(left) => tracing::warn!(left, "not all containers stopped in time; these go on"),
            Err(error) => {
                tracing::error!(error = weft_base::chain(&error), "containers are left as they are")
            }
        }
    }

    /// Ends everything but the containers.
    pub(crate) async fn stop(self) {
        self.faces.close_all().await;
        self.resolver.stop().await;
        self.tasks.stop().await;
        if let Err(error) = std::fs::remove_file(&self.control) {
            tracing::debug!(%error, "the control socket was gone already");
        }
    }
}

fn engine_config(config: &Config, launcher: Launcher) -> anyhow::Result<EngineConfig> {
    let d = &config.defaults;
    let mut runtimes = std::collections::BTreeMap::from([("weft".to_owned(), Runtime::Builtin)]);
    for name in ["runc", "crun"] {
        if let Some(path) = facts::on_path(name) {
            runtimes.insert(name.into(), Runtime::External { path, args: Vec::new() });
        }
    }
    for (name, path) in &d.runtimes {
        runtimes.insert(name.clone(), Runtime::External { path: path.clone(), args: Vec::new() });
    }
    let ulimit =
        |u: &crate::config::DefaultUlimit| Ulimit { name: u.name.clone(), soft: u.soft, hard: u.hard };
    Ok(EngineConfig {
        root: config.root.clone(),
        run: config.run.clone(),
        cgroup_parent: if d.cgroup_parent.is_empty() { "/weft".into() } else { d.cgroup_parent.clone() },
        name: config.name.clone(),
        log: log_config(config),
        runtimes,
        default_runtime: d.runtime.clone().filter(|r| r != "weft").unwrap_or_default(),
        default_ulimits: d.ulimits.iter().map(ulimit).collect(),
        userns_remap: d.userns_remap.as_deref().map(userns::resolve).transpose()?,
        init_path: Some(oci::init::install(&config.run).context("writing the small init")?),
        init_by_default: d.init,
        no_new_privileges: d.no_new_privileges,
        shm_size: d.shm_size,
        host_gateway: config.network.host_gateway.clone(),
        dns: DnsConfig {
            servers: d.dns.clone(),
            search: d.dns_search.clone(),
            options: d.dns_options.clone(),
        },
        launcher,
    })
}

fn log_config(config: &Config) -> LogConfig {
    let d = &config.defaults;
    LogConfig {
        driver: d.log_driver.clone().unwrap_or_else(|| "json-file".into()),
        options: d.log_opts.clone(),
    }
}

fn predefined(config: &Config) -> anyhow::Result<PredefinedConfig> {
    let n = &config.network;
    let borrow = |name: &String| {
        let addresses = bridge_addresses(name)?;
        // dockerd's words.
        let addresses = addresses.with_context(|| {
            format!("bridge device with non default name {name} must be created manually")
        })?;
        anyhow::Ok((name.clone(), addresses))
    };
    Ok(PredefinedConfig {
        bridge: n.bridge.as_ref().map(borrow).transpose()?,
        default_gateways: n.gateway.into_iter().chain(n.gateway_v6).collect(),
        bip6: n.bip6,
        default_bridge: n.default_bridge,
        bip: n.bip,
        fixed_cidr: n.fixed_cidr,
        ipv6: n.ipv6,
        fixed_cidr_v6: n.fixed_cidr_v6,
        mtu: n.mtu,
        icc: n.icc,
        ip_masq: n.ip_masq,
        publish_ip: n.publish_ip,
    })
}

/// How registries are reached.
pub(crate) fn registry_options(config: &Config) -> RegistryOptions {
    let (r, p) = (&config.registry, &config.registry.proxies);
    RegistryOptions {
        mirrors: r.mirrors.clone(),
        insecure: r.insecure.clone(),
        downloads: r.downloads,
        uploads: r.uploads,
        attempts: r.attempts,
        proxies: [&p.http, &p.https, &p.none].map(Clone::clone),
        ..RegistryOptions::default()
    }
}

fn defaults(config: &Config, remapped: bool) -> anyhow::Result<Defaults> {
    let seccomp = match config.defaults.seccomp.as_deref() {
        None => SeccompChoice::Default,
        Some("unconfined") => SeccompChoice::Unconfined,
        Some(path) => SeccompChoice::Profile(
            std::fs::read_to_string(path)
                .with_context(|| format!("opening seccomp profile ({path}) failed"))?,
        ),
    };
    Ok(Defaults {
        log: log_config(config),
        remapped,
        publish_ip: config.network.publish_ip,
        cgroup: config.defaults.cgroup,
        ipc: config.defaults.ipc,
        seccomp,
    })
}

/// Features as they were left, with those that the command line wants; these are not kept.
fn features(config: &Config) -> anyhow::Result<Features> {
    let mut features = Features::load(&config.root)?;
    for name in &config.features {
        features.enable(name)?;
    }
    Ok(features)
}

/// Starts everything; returns once every listener accepts.
pub(crate) async fn start(config: &Config, adopted: Vec<Adopted>) -> anyhow::Result<Running> {
    for (key, why) in &config.ignored {
        tracing::warn!(key, why, "this key of daemon.json is not acted upon");
    }
    oci::require_cgroups()?;
    let features = features(config)?;
    let faces = Arc::new(Faces::new(config, adopted)?);
    // Sockets are bound first, so that a taken one ends the start before anything is made.
    let mut bound = Vec::new();
    for face in FACES.into_iter().filter(|f| features.is_on(f)) {
        bound.push((face, faces.bind(face).await?));
    }
    let tasks = Tasks::new();
    let stores = crate::stores::open(config).await?;
    crate::lost::check_running(config, &stores).await?;
    let id = crate::identity::of_host(&stores, &config.name).await?;
    crate::alive::start(&stores, id, &tasks);
    let (cloud, registry, resolver) = domains(config, &stores, id, features.is_on("dns"), &tasks).await?;
    let facts = weft_api_docker::Facts {
        built: crate::BUILT.into(),
        commit: crate::COMMIT.into(),
        network_options: config.network.options.clone(),
    };
    let sources = Sources {
        cloud: cloud.clone(),
        stores,
        resolver: Arc::clone(&resolver),
        meter: Arc::clone(&faces.meter),
    };
    let switch = Arc::new(Switch {
        root: config.root.clone(),
        features: tokio::sync::Mutex::new(features),
        faces: Arc::clone(&faces),
        resolver: Arc::clone(&resolver),
        routers: vec![
            ("docker", weft_api_docker::router(cloud.clone(), facts)),
            ("native", weft_api_native::router(cloud.clone())),
            ("metrics", metrics::router(sources)),
        ],
    });
    let control = control::start(config, Arc::clone(&switch), &tasks).await?;
    for (face, bound) in bound {
        if let Some(router) = switch.router(face) {
            faces.serve(face, bound, router)?;
        }
    }
    let reload = Reloadable { cloud, registry, faces: Arc::clone(&faces) };
    Ok(Running { tasks, faces, resolver, control, reload })
}

/// Images, networks, names, containers, and the use cases on them.
async fn domains(
    config: &Config,
    stores: &Stores,
    id: HostId,
    names: bool,
    tasks: &Tasks,
) -> anyhow::Result<(Cloud, RegistryClient, Arc<Resolver>)> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let engine_config =
        engine_config(config, Launcher::of_self(&["shim"]).context("protecting the executable")?)?;
    let ids = engine_config.userns_remap.as_ref().and_then(userns::shift);
    let images = ImageStore::open(&config.root, stores, ImageOptions { ids, ..ImageOptions::default() });
    let images = images.await.context("opening the image store")?;
    let registry = RegistryClient::new(images.clone(), registry_options(config));
    let registry = registry.context("configuring registries")?;
    let pools = Pools::configured(&config.network.pools, id.as_bytes());
    let driver = Arc::new(
        LinuxDriver::new(config.run.join("netns"), config.network.ip_forward)
            .context("opening the data plane")?,
    );
    crate::sandboxes::name_again(&Table::new(stores), &driver)
        .await
        .context("looking for running containers")?;
    // A sandbox lives as long as its container, with or without a daemon, and not over a restart of the host.
    let runs = |container| driver.sandbox_path(container).exists();
    weft_cloud::ensure_networks(stores, &predefined(config)?, &pools, driver.routes()?, &runs)
        .await
        .context("preparing the default networks")?;
    let net_config = NetConfig {
        host: HostDefaults {
            users: engine_config.userns_remap.as_ref().map(userns::id_maps),
            publish_policy: config.network.publish_policy,
        },
        ..NetConfig::default()
    };
    let leases = Arc::new(InSandbox(Arc::clone(&driver)));
    let net = Net::start_with(stores, driver.clone(), tasks, net_config, Some(leases));
    let upstream = UpstreamConfig {
        servers: upstream_servers(config),
        options: config.defaults.dns_options.clone(),
        ..UpstreamConfig::default()
    };
    let resolver = Arc::new(Resolver::new(stores, driver, upstream));
    if names {
        resolver.start();
    }
    let containers = Table::new(stores);
    let gate = Gate { net: net.clone(), resolver: Arc::clone(&resolver), containers };
    let remapped = engine_config.userns_remap.is_some();
    let engine = Engine::open(
        engine_config,
        stores.clone(),
        images.clone(),
        Arc::new(gate),
        tasks.clone(),
        Arc::clone(&clock),
    );
    let engine = engine.await.context("opening the engine")?;
    // So that who hears `ready` finds the host as its networks need it. One that takes long goes on meanwhile.
    if tokio::time::timeout(FIRST_LOOK, net.looked()).await.is_err() {
        tracing::warn!("networks are still being prepared");
    }
    let parts = Parts {
        stores: stores.clone(),
        host: facts::gather(config, id, engine.host()),
        defaults: defaults(config, remapped)?,
        engine,
        images,
        registry: registry.clone(),
        net,
        pools,
        clock,
    };
    let cloud = Cloud::start(parts, tasks);
    cloud.recover().await.context("taking back what was half-made")?;
    cloud.start_by_policy(tasks).await.context("starting what restart policies want")?;
    Ok((cloud, registry, resolver))
}

fn upstream_servers(config: &Config) -> Vec<Server> {
    config.defaults.dns.iter().filter_map(|text| Server::parse(text)).collect()
}
