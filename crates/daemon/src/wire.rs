//! The one place that names concrete backends and drivers, and puts everything together.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context, bail};
use weft_api_kit::{ListenUri, Listener, ServeOptions, serve};
use weft_base::{Clock, SystemClock, Tasks};
use weft_cloud::{Cloud, Defaults, Parts};
use weft_dns::{Dns, SandboxSockets, Sockets, UpstreamConfig};
use weft_driver_linux::LinuxDriver;
use weft_engine::{
    Engine, EngineConfig, oci,
    shim::{Launcher, Runtime},
};
use weft_image::{
    ImageStore, Options as ImageOptions,
    registry::{RegistryClient, RegistryOptions},
};
use weft_model::{
    ContainerId, DnsConfig, Host, HostId, HostSpec, Labels, LogConfig, Ulimit, default_project,
};
use weft_net::{Net, NetConfig, Pools, PredefinedConfig};
use weft_store::{Embedded, Kv, Options, Table};

use crate::{Config, facts, gate::Gate, userns};

/// A daemon at work.
pub(crate) struct Running {
    tasks: Tasks,
    sockets: Vec<PathBuf>,
}

impl Running {
    /// Ends everything but the containers.
    pub(crate) async fn stop(self) {
        self.tasks.stop().await;
        for socket in &self.sockets {
            if let Err(error) = std::fs::remove_file(socket) {
                tracing::debug!(%error, "a socket was gone already");
            }
        }
    }
}

/// The resolver's sockets, made by the data plane's worker.
struct InSandbox(Arc<LinuxDriver>);

impl SandboxSockets for InSandbox {
    fn open(&self, container: ContainerId, at: SocketAddr, tcp: bool) -> io::Result<Sockets> {
        use weft_dataplane::Driver;
        let path = self.0.sandbox_path(container);
        self.0.netns().run(&path, move || weft_dns::open_here(at, tcp)).map_err(io::Error::other)?
    }
}

async fn store(config: &Config) -> anyhow::Result<Arc<dyn Kv>> {
    if config.store != "embedded" {
        bail!("--store {}: this build has the embedded store only", config.store);
    }
    std::fs::create_dir_all(&config.root).with_context(|| format!("making {}", config.root.display()))?;
    let path = config.root.join("store.redb");
    let opened = tokio::task::spawn_blocking(move || Embedded::open(path, Options::default())).await?;
    Ok(Arc::new(opened?))
}

/// This host's record, made at the first start.
async fn host(kv: &Arc<dyn Kv>, config: &Config) -> anyhow::Result<HostId> {
    let table = Table::<Host>::new(Arc::clone(kv));
    if let Some(known) = table.list().await?.first() {
        return Ok(known.spec.id);
    }
    let id = HostId::new();
    let spec = HostSpec { id, name: config.name.clone() };
    table.create(&Host::new(default_project(), SystemClock.now(), Labels::new(), spec)).await?;
    Ok(id)
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
        host_gateway: config.network.host_gateway.first().copied(),
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

fn predefined(config: &Config) -> PredefinedConfig {
    let n = &config.network;
    PredefinedConfig {
        default_bridge: n.default_bridge,
        bip: n.bip,
        fixed_cidr: n.fixed_cidr,
        ipv6: n.ipv6,
        fixed_cidr_v6: n.fixed_cidr_v6,
        mtu: n.mtu,
        icc: n.icc,
        ip_masq: n.ip_masq,
        publish_ip: n.publish_ip,
        ..PredefinedConfig::default()
    }
}

/// Starts everything; returns once every listener accepts.
pub(crate) async fn start(config: &Config) -> anyhow::Result<Running> {
    for key in &config.ignored {
        tracing::warn!(key, "this key of daemon.json has no meaning here");
    }
    // Sockets are bound first, so that a taken one ends the start before anything is made.
    let listeners = bind(config).await?;
    let tasks = Tasks::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let kv = store(config).await?;
    let id = host(&kv, config).await?;
    let engine_config =
        engine_config(config, Launcher::of_self(&["shim"]).context("protecting the executable")?)?;
    let ids = engine_config.userns_remap.as_ref().and_then(userns::shift);
    let images =
        ImageStore::open(&config.root, Arc::clone(&kv), ImageOptions { ids, ..ImageOptions::default() });
    let images = images.await.context("opening the image store")?;
    let registry = RegistryClient::new(
        images.clone(),
        RegistryOptions {
            mirrors: config.registry.mirrors.clone(),
            insecure: config.registry.insecure.clone(),
            downloads: config.registry.downloads,
            uploads: config.registry.uploads,
            ..RegistryOptions::default()
        },
    );
    let registry = registry.context("configuring registries")?;
    let pools = Pools::configured(&config.network.pools, id.as_bytes());
    weft_cloud::ensure_networks(&kv, &predefined(config), &pools)
        .await
        .context("preparing the default networks")?;
    let driver = Arc::new(LinuxDriver::new(config.run.join("netns")).context("opening the data plane")?);
    let mtu = config.network.mtu.unwrap_or(NetConfig::default().mtu);
    let net = Net::start(&kv, driver.clone(), &tasks, NetConfig { mtu, ..NetConfig::default() });
    let upstream = UpstreamConfig { servers: upstream_servers(config), ..UpstreamConfig::default() };
    let dns = Dns::start(&kv, Arc::new(InSandbox(driver)), upstream, &tasks);
    let gate = Gate { net: net.clone(), dns, containers: Table::new(Arc::clone(&kv)) };
    let remapped = engine_config.userns_remap.is_some();
    let engine = Engine::open(
        engine_config,
        Arc::clone(&kv),
        images.clone(),
        Arc::new(gate),
        tasks.clone(),
        Arc::clone(&clock),
    );
    let engine = engine.await.context("opening the engine")?;
    let host = facts::gather(config, id, engine.host());
    let defaults = Defaults { log: log_config(config), remapped, publish_ip: config.network.publish_ip };
    let cloud =
        Cloud::start(Parts { kv, engine, images, registry, net, pools, host, defaults, clock }, &tasks);
    cloud.recover().await.context("taking back what was half-made")?;
    let mut sockets = Vec::new();
    for (uri, listener) in listeners {
        let tls = match &uri {
            ListenUri::Tcp { tls: Some(files), .. } => Some(files.acceptor()?),
            ListenUri::Tcp { .. } => None,
            ListenUri::Unix(path) => {
                sockets.push(path.clone());
                None
            }
        };
        let built = option_env!("WEFT_BUILT").unwrap_or_default().to_owned();
        let commit = option_env!("WEFT_COMMIT").unwrap_or_default().to_owned();
        let facts = weft_api_docker::Facts { built, commit };
        let face = weft_api_docker::router(cloud.clone(), facts);
        serve(listener, face, ServeOptions { tls, ..ServeOptions::default() }, &tasks);
    }
    Ok(Running { tasks, sockets })
}

fn upstream_servers(config: &Config) -> Vec<SocketAddr> {
    let parse = |text: &String| text.parse().ok().map(|ip| SocketAddr::new(ip, 53));
    config.defaults.dns.iter().filter_map(parse).collect()
}

async fn bind(config: &Config) -> anyhow::Result<Vec<(ListenUri, Listener)>> {
    let mut bound = Vec::new();
    for (face, uri) in config.listeners() {
        match face.as_str() {
            "docker" => {}
            "openstack" | "registry" | "restconf" | "native" | "metrics" | "ui" => {
                bail!("--listen {face}={uri}: this build has no {face} face yet")
            }
            other => bail!("--listen {other}={uri}: unknown face; this build has docker"),
        }
        let uri: ListenUri = uri.parse()?;
        uri.require_tls()?;
        let listener = Listener::bind(&uri).await?;
        bound.push((uri, listener));
    }
    Ok(bound)
}
