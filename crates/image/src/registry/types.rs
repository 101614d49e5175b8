//! What callers hand to the registry client and what they hear from it.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use serde::Serialize;
use weft_model::{Digest, Reference};

use super::platform::Platform;

/// Who is asking, as the client's `X-Registry-Auth` says.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// User and password.
    Basic {
        /// Name.
        username: String,
        /// Secret.
        password: String,
    },
    /// A refresh token that a login gave (`identitytoken`).
    IdentityToken(String),
    /// A ready bearer token (`registrytoken`).
    RegistryToken(String),
}

/// Never shows a secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username, .. } => write!(f, "Basic({username})"),
            Self::IdentityToken(_) => f.write_str("IdentityToken"),
            Self::RegistryToken(_) => f.write_str("RegistryToken"),
        }
    }
}

/// One step of a pull or push, in Docker's words and order.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// A line of text; `id` is a tag, a layer's short digest, or empty.
    Status {
        /// Which line of the display.
        id: String,
        /// What it says.
        text: String,
    },
    /// Bytes done of a layer.
    Bytes {
        /// The layer's short digest.
        id: String,
        /// `Downloading`, `Extracting`, `Pushing`.
        action: &'static str,
        /// Bytes so far.
        current: u64,
        /// Of how many.
        total: u64,
    },
    /// For programs: `{"Tag", "Digest", "Size"}` after a push.
    Aux(serde_json::Value),
}

/// Hears the progress; called from several tasks, must not block.
pub type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// How registries are reached.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Mirrors of Docker Hub as URLs, tried in order.
    pub mirrors: Vec<String>,
    /// Registries without TLS or with unknown certificates: `host[:port]` or a CIDR. Loopback always is.
    pub insecure: Vec<String>,
    /// Layers downloaded at a time, by all pulls together.
    pub downloads: usize,
    /// Layers uploaded at a time, by all pushes together.
    pub uploads: usize,
    /// Tries of one transfer without any progress before it is given up.
    pub attempts: u32,
    /// Pause before the second try; it doubles up to `retry_ceiling`.
    pub retry_floor: Duration,
    /// The longest pause between tries.
    pub retry_ceiling: Duration,
    /// A transfer that brings nothing for so long is broken.
    pub stall: Duration,
    /// Where CA and client certificates of registries are: `<certs>/<host[:port]>/*.{crt,cert,key}`.
    pub certs: PathBuf,
    /// Proxies for `http`, for `https`, and what needs none (separated by commas); where all are empty, the environment
    /// decides.
    pub proxies: [String; 3],
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            mirrors: Vec::new(),
            insecure: Vec::new(),
            downloads: 3,
            uploads: 5,
            attempts: 5,
            retry_floor: Duration::from_secs(1),
            retry_ceiling: Duration::from_secs(20),
            stall: Duration::from_secs(60),
            certs: PathBuf::from("/etc/docker/certs.d"),
            proxies: Default::default(),
        }
    }
}

/// What to pull.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// The image; without tag and digest `latest`, unless `all_tags`.
    pub reference: Reference,
    /// Every tag of the repository.
    pub all_tags: bool,
    /// Which image of a list; this machine's when not given.
    pub platform: Option<Platform>,
    /// Who asks.
    pub credentials: Option<Credentials>,
}

/// What to push.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// The name; without tag `latest`, unless `all_tags`.
    pub reference: Reference,
    /// Every local tag of the repository.
    pub all_tags: bool,
    /// What the images must be made for.
    pub platform: Option<Platform>,
    /// Who asks.
    pub credentials: Option<Credentials>,
}

/// A tag that was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The tag.
    pub tag: String,
    /// Digest of the manifest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// Answer of `GET /distribution/{name}/json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Distribution {
    /// Media type of the manifest or index.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// For which platforms it has images.
    pub platforms: Vec<Platform>,
}

/// One result of a search.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Found {
    /// Repository.
    pub name: String,
    /// What its owner says of it.
    pub description: String,
    /// Stars.
    pub star_count: i64,
    /// Curated by Docker.
    pub is_official: bool,
    /// Built by Docker Hub (long gone, but a field of the API).
    pub is_automated: bool,
}

/// Tells a status line.
pub(super) fn say(progress: &ProgressFn, id: impl Into<String>, text: impl Into<String>) {
    progress(Progress::Status { id: id.into(), text: text.into() });
}

/// Tells bytes, at most ten times a second for one layer, and always the last.
pub(super) struct Meter {
    progress: ProgressFn,
    id: String,
    action: &'static str,
    total: u64,
    told: Option<std::time::Instant>,
}

impl Meter {
    pub fn new(progress: &ProgressFn, id: &str, action: &'static str, total: u64) -> Self {
        Self { progress: Arc::clone(progress), id: id.to_owned(), action, total, told: None }
    }

    pub fn at(&mut self, current: u64) {
        let due = self.told.is_none_or(|t| t.elapsed() >= Duration::from_millis(100));
        if due || current == self.total {
            self.told = Some(std::time::Instant::now());
            let (id, action, total) = (self.id.clone(), self.action, self.total);
            (self.progress)(Progress::Bytes { id, action, current, total });
        }
    }
}
