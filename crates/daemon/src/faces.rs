//! Which faces listen where, and opening and closing them while the daemon runs.

use std::{collections::HashMap, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use anyhow::{Context, bail};
use axum::Router;
use parking_lot::Mutex;
use weft_api_kit::{ListenUri, Listener, Meter, Renewal, ServeOptions, Tls, TlsError, serve};
use weft_base::Tasks;

use crate::{Config, activation::Adopted};

/// Faces of this build.
pub(crate) const FACES: [&str; 3] = ["docker", "native", "metrics"];

/// A face that is bound and not served yet.
pub(crate) struct Bound {
    listener: Listener,
    uri: Option<ListenUri>,
}

/// A face at work.
struct Open {
    tasks: Tasks,
    /// Socket files of ours; a service manager's are its own.
    files: Vec<PathBuf>,
    at: Vec<String>,
    /// Those with certificates.
    secured: Vec<Arc<Tls>>,
}

/// All faces of this daemon.
pub(crate) struct Faces {
    places: Vec<(&'static str, ListenUri)>,
    adopted: Vec<Adopted>,
    group: Option<u32>,
    pub(crate) meter: Arc<Meter>,
    open: Mutex<HashMap<&'static str, Open>>,
}

impl Faces {
    /// Where faces listen, by configuration and by what the service manager opened.
    pub(crate) fn new(config: &Config, adopted: Vec<Adopted>) -> anyhow::Result<Self> {
        if config.wants_passed && adopted.is_empty() {
            bail!(
                "no sockets found via socket activation: make sure the service was started by systemd (hosts: fd://)"
            );
        }
        let paths: Vec<PathBuf> = adopted.iter().filter_map(|a| a.listener().ok()?.path()).collect();
        let docker_passed = adopted.iter().any(|a| a.face == "docker");
        let mut places = Vec::new();
        for (face, text) in config.listeners() {
            let (face, uri) = place(&face, &text)?;
            // A passed socket takes the place of the default, and of the listener at its own path.
            let same = matches!(&uri, ListenUri::Unix(path) if paths.contains(path));
            if same || (face == "docker" && docker_passed && config.docker_is_default()) {
                continue;
            }
            places.push((face, uri));
        }
        for (face, file) in [("metrics", "metrics.sock"), ("native", "native.sock")] {
            places.push((face, ListenUri::Unix(config.run.join(file))));
        }
        let group = config.group.as_deref().map(group_id).transpose()?;
        Ok(Self { places, adopted, group, meter: Arc::default(), open: Mutex::default() })
    }

    /// Binds a face's sockets, all or none.
    pub(crate) async fn bind(&self, face: &str) -> anyhow::Result<Vec<Bound>> {
        let mut bound = Vec::new();
        for adopted in self.adopted.iter().filter(|a| a.face == face) {
            bound.push(Bound { listener: adopted.listener()?, uri: None });
        }
        for (_, uri) in self.places.iter().filter(|(f, _)| *f == face) {
            match self.bind_one(face, uri).await {
                Ok(listener) => bound.push(Bound { listener, uri: Some(uri.clone()) }),
                Err(error) => {
                    remove(&files(&bound));
                    return Err(error);
                }
            }
        }
        Ok(bound)
    }

    async fn bind_one(&self, face: &str, uri: &ListenUri) -> anyhow::Result<Listener> {
        let listener = Listener::bind(uri).await?;
        if let ListenUri::Unix(path) = uri {
            match self.group.filter(|_| face == "docker") {
                Some(gid) => std::os::unix::fs::chown(path, None, Some(gid))
                    .with_context(|| format!("giving {} to group {gid}", path.display()))?,
                None if face == "docker" => {}
                None => private(path)?,
            }
        }
        Ok(listener)
    }

    /// Serves what was bound.
    pub(crate) fn serve(&self, face: &'static str, bound: Vec<Bound>, router: &Router) -> anyhow::Result<()> {
        let tasks = Tasks::new();
        let (files, mut at, mut secured) = (files(&bound), Vec::new(), Vec::new());
        for Bound { listener, uri } in bound {
            let tls = match &uri {
                Some(ListenUri::Tcp { tls: Some(files), .. }) => Some(Arc::new(Tls::new(files)?)),
                _ => None,
            };
            secured.extend(tls.clone());
            let scheme = if tls.is_some() { "tls" } else { "tcp" };
            at.extend(listener.path().map(|p| format!("unix://{}", p.display())));
            at.extend(listener.local_address().map(|a| format!("{scheme}://{a}")));
            let options =
                ServeOptions { tls, face, meter: Arc::clone(&self.meter), ..ServeOptions::default() };
            serve(listener, router.clone(), options, &tasks);
        }
        self.open.lock().insert(face, Open { tasks, files, at, secured });
        Ok(())
    }

    /// Reads the certificates of all open listeners again: all of them, or none when one is wrong. Connections stay.
    pub(crate) fn renew_certificates(&self) -> Result<usize, TlsError> {
        let open = self.open.lock();
        let all = open.values().flat_map(|o| &o.secured).map(Tls::renew).collect::<Result<Vec<_>, _>>()?;
        let count = all.len();
        all.into_iter().for_each(Renewal::apply);
        Ok(count)
    }

    /// Ends a face: its connections too. Nothing when it is not open.
    pub(crate) async fn close(&self, face: &str) {
        let Some(open) = self.open.lock().remove(face) else { return };
        // First the file: nobody new finds the way while the others end.
        remove(&open.files);
        open.tasks.stop().await;
    }

    /// Ends all of them.
    pub(crate) async fn close_all(&self) {
        let names: Vec<&str> = self.open.lock().keys().copied().collect();
        for face in names {
            self.close(face).await;
        }
    }

    /// Where faces listen: name and address.
    pub(crate) fn addresses(&self) -> Vec<(&'static str, String)> {
        let open = self.open.lock();
        let mut all: Vec<_> = open.iter().flat_map(|(f, o)| o.at.iter().map(|a| (*f, a.clone()))).collect();
        all.sort();
        all
    }
}

fn place(face: &str, text: &str) -> anyhow::Result<(&'static str, ListenUri)> {
    let known = FACES.into_iter().find(|f| *f == face);
    let Some(known) = known else { bail!("--listen {face}={text}: this build has no {face} face yet") };
    let uri: ListenUri = text.parse()?;
    if known != "metrics" {
        uri.require_tls()?;
    }
    Ok((known, uri))
}

/// Only for who owns it.
pub(crate) fn private(path: &std::path::Path) -> anyhow::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("setting the mode of {}", path.display()))
}

fn files(bound: &[Bound]) -> Vec<PathBuf> {
    let path = |b: &Bound| match &b.uri {
        Some(ListenUri::Unix(path)) => Some(path.clone()),
        _ => None,
    };
    bound.iter().filter_map(path).collect()
}

fn remove(files: &[PathBuf]) {
    for file in files {
        if let Err(error) = std::fs::remove_file(file) {
            tracing::debug!(%error, file = %file.display(), "a socket was gone already");
        }
    }
}

/// A group's number, by name or as it is.
fn group_id(name: &str) -> anyhow::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let found = nix::unistd::Group::from_name(name).with_context(|| format!("looking up group {name}"))?;
    Ok(found.with_context(|| format!("group {name} not found"))?.gid.as_raw())
}
