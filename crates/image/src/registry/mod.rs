//! The registry client: images from and to registries that speak the distribution API (v2).
//!
//! ```text
//!  reference ──sites──> Session (ping, challenge, tokens, retries) ──> pull: manifest ─ layers side by side ─ record
//!  (mirrors, https,                                                └─> push: blobs (exists, mount, upload) ─ manifest
//!   insecure: http)                                                └─> login, distribution, search
//! ```
//! A broken transfer goes on where it stopped, also after a restart; every byte is checked against its digest while
//! it is written. Nothing is kept while idle but tokens that are still good.
//!
//! Refused: schema 1 images, foreign layers, showing credentials to mirrors.
//!
//! Sources: OCI distribution specification; distribution `docs/spec`; texts and order of progress: moby `distribution/`.

mod auth;
mod challenge;
mod download;
mod endpoint;
mod error;
mod fetch;
#[cfg(test)]
mod fuzz_tests;
mod inquire;
mod manifest;
pub(crate) mod pack;
mod platform;
mod pull;
mod push;
mod session;
mod transport;
mod types;
mod upload;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Weak},
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use weft_model::{Digest, Image};

pub use error::{Code, ErrorKind, RegistryError, Result};
pub use fetch::Fetch;
pub use platform::{Platform, PlatformError};
pub use types::{
    Credentials, Distribution, Found, Progress, ProgressFn, PullRequest, PushRequest, Pushed, RegistryOptions,
};

use self::{
    auth::Tokens,
    endpoint::{HUB, Insecure, Site, host_of, sites},
    pull::Pull,
    session::{Session, Shared},
    transport::Clients,
};
use crate::ImageStore;

/// Pulls and pushes images of one store; cheap to clone.
#[derive(Clone)]
pub struct RegistryClient(Arc<Inner>);

struct Inner {
    store: ImageStore,
    settings: RwLock<Arc<Settings>>,
    tokens: Arc<Tokens>,
    downloads: Semaphore,
    uploads: Semaphore,
    blobs: Mutex<HashMap<Digest, Weak<AsyncMutex<()>>>>,
}

/// What may change while the client is at work; each operation keeps what it began with.
struct Settings {
    options: Arc<RegistryOptions>,
    insecure: Insecure,
}

impl Settings {
    fn new(options: RegistryOptions) -> Result<Arc<Self>> {
        let insecure = Insecure::parse(&options.insecure)?;
        Ok(Arc::new(Self { options: Arc::new(options), insecure }))
    }
}

impl RegistryClient {
    /// A client of `store`.
    ///
    /// # Errors
    /// `Invalid` for an insecure registry that is neither a host nor a network.
    pub fn new(store: ImageStore, options: RegistryOptions) -> Result<Self> {
        Ok(Self(Arc::new(Inner {
            store,
            tokens: Arc::default(),
            downloads: Semaphore::new(options.downloads.max(1)),
            uploads: Semaphore::new(options.uploads.max(1)),
            blobs: Mutex::default(),
            settings: RwLock::new(Settings::new(options)?),
        })))
    }

    /// Uses other options from the next operation on. How many transfers run side by side stays as it was.
    ///
    /// # Errors
    /// As [`RegistryClient::new`]; nothing is changed then.
    pub fn reconfigure(&self, options: RegistryOptions) -> Result<()> {
        let settings = Settings::new(options)?;
        *self.0.settings.write() = settings;
        Ok(())
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.0.settings.read())
    }

    pub(self) fn store(&self) -> &ImageStore {
        &self.0.store
    }

    fn downloads(&self) -> &Semaphore {
        &self.0.downloads
    }

    fn uploads(&self) -> &Semaphore {
        &self.0.uploads
    }

    /// Held by who fetches the blob.
    fn blob_lock(&self, digest: Digest) -> Arc<AsyncMutex<()>> {
        let mut blobs = self.0.blobs.lock();
        if let Some(lock) = blobs.get(&digest).and_then(Weak::upgrade) {
            return lock;
        }
        blobs.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(AsyncMutex::new(()));
        blobs.insert(digest, Arc::downgrade(&lock));
        lock
    }

    fn shared(&self) -> Arc<Shared> {
        let (options, tokens) = (Arc::clone(&self.settings().options), Arc::clone(&self.0.tokens));
        Arc::new(Shared {
            clients: Clients::new(options.certs.clone(), options.proxies.clone()),
            tokens,
            options,
        })
    }

    /// The ways to the registry `domain`, mirrors only `for_pull`.
    async fn sites(&self, domain: &str, for_pull: bool) -> Vec<Site> {
        let settings = self.settings();
        let mut addresses: Vec<IpAddr> = Vec::new();
        // Networks in the list mean registries by address: a name is looked up.
        if domain != HUB && settings.insecure.wants_addresses() {
            let found = tokio::net::lookup_host((host_of(domain), 0)).await;
            addresses.extend(found.into_iter().flatten().map(|a| a.ip()));
        }
        let mirrors = if for_pull { &settings.options.mirrors[..] } else { &[] };
        sites(domain, mirrors, &settings.insecure, &addresses)
    }

    /// Pulls an image, or all tags of a repository. The images' records are written when this returns; a pull that
    /// fails, or whose future is dropped, leaves no record and no snapshot.
    pub async fn pull(&self, request: PullRequest, progress: ProgressFn) -> Result<Vec<Image>> {
        let shared = self.shared();
        let sites = self.sites(&request.reference.domain, true).await;
        let mut last = RegistryError::Unexpected("no endpoint".into());
        for site in &sites {
            match self.pull_at(site, &shared, &request, &progress).await {
                Ok(images) => return Ok(images),
                Err(error) if site.mirror => {
                    let base = site.endpoints.first().map_or("", |e| e.base.as_str());
                    tracing::warn!(
                        mirror = base,
                        error = weft_base::chain(&error),
                        "mirror did not serve a pull"
                    );
                    last = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    async fn pull_at(
        &self,
        site: &Site,
        shared: &Arc<Shared>,
        request: &PullRequest,
        progress: &ProgressFn,
    ) -> Result<Vec<Image>> {
        let session = Arc::new(Session::open(shared, site, request.credentials.as_ref()).await?);
        let scopes = vec![format!("repository:{}:pull", request.reference.path)];
        let (client, request, progress) = (self.clone(), request.clone(), Arc::clone(progress));
        Pull { client, session, request, progress, scopes }.run().await
    }
}
