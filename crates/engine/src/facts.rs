//! Facts of one start that come from records and directories: where mounts come from, what the name files say.

use std::{
    net::IpAddr,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use weft_image::LayerRef;
use weft_model::{
    Container, ContainerSpec, MountKind, MountSpec, Network, NetworkMode, Port, PortOwner, ReadOnlyDepth,
};

use crate::{
    EngineError, Result,
    engine::{Inner, make_dir},
    error::blocking,
    netfiles::{self, Resolver},
    oci::{BundleFacts, MountSource, ResolvedMount},
    provision::{bind_source, clean},
    volumes,
};

/// What the records say of a container's way onto networks.
struct Attached {
    ports: Vec<Arc<Port>>,
    /// One of its networks has names.
    named: bool,
    /// The gateways of the default bridge.
    host_gateway: Vec<IpAddr>,
}

impl Inner {
    /// Layers of each image mount, in the order of mounts.
    pub(crate) async fn image_layers(&self, mounts: &[MountSpec]) -> Result<Vec<Vec<LayerRef>>> {
        let mut all = Vec::new();
        for mount in mounts {
            if let MountKind::Image { reference, id, .. } = &mount.kind {
                let id = id.ok_or_else(|| EngineError::Missing(format!("No such image: {reference}")))?;
                all.push(self.layers(id).await?);
            }
        }
        Ok(all)
    }

    /// Finds what lies behind each mount. Directories inside volumes and images are pinned by a mount of our own, so
    /// that nobody can turn them into a link to elsewhere before the runtime mounts them.
    pub(crate) fn sources(
        &self,
        live: &Path,
        mounts: &[MountSpec],
        held: &[(String, PathBuf)],
        views: Vec<Vec<LayerRef>>,
    ) -> Result<Vec<ResolvedMount>> {
        let mut views = views.into_iter();
        let mut all = Vec::with_capacity(mounts.len());
        for (n, mount) in mounts.iter().enumerate() {
            let (source, read_only) = match &mount.kind {
                MountKind::Tmpfs(options) => {
                    all.push(resolved(mount, MountSource::Tmpfs(options.clone()), mount.read_only));
                    continue;
                }
                MountKind::Bind { source, create, non_recursive, depth } => {
                    bind_source(source, *create)?;
                    let real = std::fs::canonicalize(source)
                        .map_err(EngineError::io(format!("finding {source}")))?;
                    let source = MountSource::Path { path: real, recursive: !non_recursive, depth: *depth };
                    all.push(resolved(mount, source, mount.read_only));
                    continue;
                }
                MountKind::Volume { name, subpath, .. } => {
                    let data = held.iter().find(|(held, _)| held == name).map(|(_, path)| path.clone());
                    let data =
                        data.ok_or_else(|| EngineError::Missing(format!("get {name}: no such volume")))?;
                    let data = if subpath.is_empty() { data } else { pin(live, n, &data, subpath)? };
                    (data, mount.read_only)
                }
                MountKind::Image { subpath, .. } => {
                    let layers = views.next().unwrap_or_default();
                    let view = self.images.snapshots().view(&layers)?;
                    // The view goes when dropped; our mount of it stays until the container's end.
                    let inside = if subpath.is_empty() { "." } else { subpath };
                    (pin(live, n, &view.path(), inside)?, true)
                }
            };
            all.push(resolved(
                mount,
                MountSource::Path { path: source, recursive: true, depth: ReadOnlyDepth::Best },
                read_only,
            ));
        }
        Ok(all)
    }

    /// Writes the name files and says where they are.
    pub(crate) async fn name_files(&self, container: &Arc<Container>, facts: &mut BundleFacts) -> Result<()> {
        self.write_names(container, facts, false).await
    }

    /// Writes them; of a container that `runs`, what its own processes changed in them stays.
    async fn write_names(
        &self,
        container: &Arc<Container>,
        facts: &mut BundleFacts,
        runs: bool,
    ) -> Result<()> {
        let spec = &container.spec;
        if let NetworkMode::Container(other) = spec.network {
            let dir = self.durable(other);
            let file = |name: &str| Some(dir.join(name)).filter(|p| p.exists());
            (facts.hosts, facts.hostname, facts.resolv_conf) =
                (file("hosts"), file("hostname"), file("resolv.conf"));
            return Ok(());
        }
        let attached = self.attached(container).await?;
        let (link_hosts, link_env) = self.links(container, runs).await?;
        facts.link_env = link_env;
        let dir = self.durable(spec.id);
        let hosts = self.hosts_text(container, &attached, link_hosts)?;
        let resolv = self.resolv_text(container, &attached);
        let hostname = format!("{}\n", spec.hostname);
        let target = dir.clone();
        blocking(move || {
            let made = Made { hosts, resolv };
            let (mut hosts, mut resolv) = (Some(made.hosts.clone()), Some(made.resolv.clone()));
            if runs && let Some(before) = Made::read(&target) {
                let current = |name: &str| std::fs::read_to_string(target.join(name)).unwrap_or_default();
                hosts = Some(netfiles::merge_hosts(&current("hosts"), &before.hosts, &made.hosts));
                resolv = resolv.filter(|_| current("resolv.conf") == before.resolv);
            }
            made.write(&target)?;
            for (name, text) in [("hosts", hosts), ("hostname", Some(hostname)), ("resolv.conf", resolv)] {
                if let Some(text) = text {
                    write_through(&target.join(name), &text)?;
                }
            }
            Ok(())
        })
        .await?;
        facts.hosts = Some(dir.join("hosts"));
        facts.hostname = Some(dir.join("hostname"));
        facts.resolv_conf = Some(dir.join("resolv.conf"));
        Ok(())
    }

    /// The name files that there are, and where the container sees them.
    pub(crate) fn own_files(&self, spec: &ContainerSpec) -> impl Iterator<Item = (PathBuf, &'static str)> {
        let owner = if let NetworkMode::Container(other) = spec.network { other } else { spec.id };
        let dir = self.durable(owner);
        let all =
            [("hosts", "/etc/hosts"), ("hostname", "/etc/hostname"), ("resolv.conf", "/etc/resolv.conf")];
        all.into_iter().map(move |(name, target)| (dir.join(name), target)).filter(|(file, _)| file.exists())
    }

    /// Writes the name files anew (a network was connected or disconnected); a running container sees it at once.
    pub(crate) async fn refresh_names(&self, container: &Arc<Container>) -> Result<()> {
        let facts = crate::oci::ResolvedUser::default();
        let mut facts = BundleFacts::new(PathBuf::new(), facts, self.host.clone(), String::new());
        self.write_names(container, &mut facts, true).await
    }

    async fn attached(&self, container: &Container) -> Result<Attached> {
        let networks: Vec<Arc<Network>> =
            self.networks.list_shared().await?.iter().map(|n| Arc::clone(&n.value)).collect();
        let default = networks.iter().find(|n| n.spec.is_default_bridge());
        let host_gateway =
            default.map(|n| n.spec.subnets.iter().filter_map(|s| s.gateway).collect()).unwrap_or_default();
        if spec_has_no_ports(container) {
            return Ok(Attached { ports: Vec::new(), named: false, host_gateway });
        }
        let owner = PortOwner::Container(container.spec.id);
        let ports = self.ports.list_shared().await?;
        let mut ports: Vec<_> =
            ports.iter().filter(|p| p.spec.owner == owner).map(|p| Arc::clone(&p.value)).collect();
        // Interfaces in their order; eth10 after eth9.
        ports.sort_by_key(|p| (p.spec.ifname.len(), p.spec.ifname.clone()));
        let own = |n: &Network| ports.iter().any(|p| p.spec.network == n.spec.id);
        let named = networks.iter().any(|n| own(n) && !n.spec.is_default_bridge());
        Ok(Attached { ports, named, host_gateway })
    }

    fn hosts_text(
        &self,
        container: &Container,
        attached: &Attached,
        link_hosts: Vec<(String, String)>,
    ) -> Result<String> {
        let spec = &container.spec;
        let given = &self.config.host_gateway;
        let gateways = if given.is_empty() { &attached.host_gateway } else { given };
        let mut extra = Vec::new();
        for written in &spec.extra_hosts {
            let Some((name, address)) = netfiles::split_extra(written) else { continue };
            if address != "host-gateway" {
                extra.push((address.to_owned(), name.to_owned()));
                continue;
            }
            if gateways.is_empty() {
                let text = "unable to derive the IP value for host-gateway";
                return Err(EngineError::Internal(text.into()));
            }
            extra.extend(gateways.iter().map(|gateway| (gateway.to_string(), name.to_owned())));
        }
        extra.extend(link_hosts);
        if spec.network == NetworkMode::Host && extra.is_empty() {
            return Ok(std::fs::read_to_string("/etc/hosts").unwrap_or_default());
        }
        let own: Vec<IpAddr> =
            attached.ports.iter().flat_map(|p| p.addresses().into_iter().map(|a| a.ip)).collect();
        Ok(netfiles::hosts(&extra, &own, &spec.hostname, &spec.domainname))
    }

    fn resolv_text(&self, container: &Container, attached: &Attached) -> String {
        let embedded = attached.named && self.gate.names();
        let host_network = container.spec.network == NetworkMode::Host;
        let (own, common) = (&container.spec.dns, &self.config.dns);
        let pick = |own: &'_ [String], common: &'_ [String]| {
            if own.is_empty() { common.to_vec() } else { own.to_vec() }
        };
        let (servers, search) = (pick(&own.servers, &common.servers), pick(&own.search, &common.search));
        let options = pick(&own.options, &common.options);
        netfiles::resolv_conf(&Resolver {
            host: netfiles::host_file(embedded || host_network),
            servers: &servers,
            search: &search,
            options: &options,
            embedded,
            host_network,
            ipv6: attached.ports.iter().any(|p| p.spec.addresses.iter().any(|a| a.ip.is_ipv6())),
        })
    }
}

fn spec_has_no_ports(container: &Container) -> bool {
    container.spec.network != NetworkMode::Attached
}

fn resolved(mount: &MountSpec, source: MountSource, read_only: bool) -> ResolvedMount {
    ResolvedMount { target: clean(&mount.target), source, read_only, propagation: mount.propagation }
}

/// Mounts `inside` of `root` at a place of our own; links on the way stay below `root`.
fn pin(live: &Path, n: usize, root: &Path, inside: &str) -> Result<PathBuf> {
    let doing = || format!("finding {inside} in {}", root.display());
    let found = volumes::open_inside(root, inside).map_err(EngineError::io(doing()))?;
    let real = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    let at = live.join("mounts").join(n.to_string());
    if weft_sys::mount::is_mount_point(&at) {
        return Ok(at);
    }
    if real.is_dir() {
        make_dir(&at)?;
    } else {
        make_dir(&live.join("mounts"))?;
        std::fs::write(&at, "").map_err(EngineError::io(format!("making {}", at.display())))?;
    }
    weft_sys::mount::bind(&real, &at, true).map_err(|e| EngineError::Internal(weft_base::chain(&e)))?;
    Ok(at)
}

/// What was last written of the name files, to tell what the container's own processes changed since.
struct Made {
    hosts: String,
    resolv: String,
}

impl Made {
    const FILE: &'static str = "names.made";

    fn read(dir: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(dir.join(Self::FILE)).ok()?;
        let (hosts, resolv) = text.split_once('\0')?;
        Some(Self { hosts: hosts.to_owned(), resolv: resolv.to_owned() })
    }

    fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(Self::FILE);
        std::fs::write(&path, format!("{}\0{}", self.hosts, self.resolv))
            .map_err(EngineError::io(format!("writing {}", path.display())))
    }
}

/// Writes into the file that is there, because a container may have it mounted.
fn write_through(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(EngineError::io(format!("writing {}", path.display())))?;
    volumes::set_mode(path, 0o644)
}
