//! A registry (Debian's `docker-registry`) in the sandbox, empty, in memory-cheap settings: open, behind passwords or
//! behind a token server, with or without TLS.
//!
//! Loopback is what every Docker treats as an insecure registry without being told; another address of the sandbox is
//! needed where TLS shall mean something.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::sandbox::{Sandbox, die_with_parent};

/// How the registry is met.
#[derive(Clone, Debug)]
pub struct RegistrySetup {
    /// Address it listens at.
    pub address: String,
    /// Port.
    pub port: u16,
    /// Asks for HTTP Basic authentication: the bcrypt line of an htpasswd file (`user:$2y$…`), since the registry reads
    /// no other hash.
    pub htpasswd: Option<String>,
    /// Asks for tokens.
    pub token: Option<TokenAuth>,
    /// Speaks TLS.
    pub tls: Option<ServerTls>,
}

/// Whose tokens the registry believes.
#[derive(Clone, Debug)]
pub struct TokenAuth {
    /// URL of the token server.
    pub realm: String,
    /// Audience of the tokens.
    pub service: String,
    /// Issuer of the tokens.
    pub issuer: String,
    /// Certificate (PEM) of the key that signs them.
    pub bundle: PathBuf,
}

/// Files (PEM) of a TLS server.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// Its certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Asks for certificates of clients, signed by this authority.
    pub clients: Option<PathBuf>,
}

impl RegistrySetup {
    /// Open, plain HTTP, on loopback.
    pub fn open(port: u16) -> Self {
        Self { address: "127.0.0.1".into(), port, htpasswd: None, token: None, tls: None }
    }
}

/// A running registry; ends on drop (or with its sandbox).
#[derive(Debug)]
pub struct Registry {
    child: Child,
    setup: RegistrySetup,
    home: PathBuf,
}

impl Registry {
    /// Starts a registry on `127.0.0.1:port` of the sandbox; see [`RegistrySetup`] for `htpasswd`.
    pub fn start(sandbox: &Sandbox, port: u16, htpasswd: Option<&str>) -> Result<Self> {
        let htpasswd = htpasswd.map(str::to_owned);
        Self::start_with(sandbox, RegistrySetup { htpasswd, ..RegistrySetup::open(port) })
    }

    /// Starts a registry of any kind.
    pub fn start_with(sandbox: &Sandbox, setup: RegistrySetup) -> Result<Self> {
        let home = sandbox.dir().join(format!("registry-{}", setup.port));
        std::fs::create_dir_all(&home)?;
        std::fs::write(home.join("config.yml"), config(&home, &setup)?)?;
        let log = std::fs::File::create(home.join("log"))?;
        let mut command = sandbox.command("docker-registry");
        command.arg("serve").arg(home.join("config.yml"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        die_with_parent(&mut command);
        let child = command.spawn().context("start docker-registry")?;
        let registry = Self { child, setup, home };
        registry.wait(sandbox)?;
        Ok(registry)
    }

    fn wait(&self, sandbox: &Sandbox) -> Result<()> {
        let begun = Instant::now();
        let host = self.host();
        while begun.elapsed() < Duration::from_secs(15) {
            if sandbox.inside(|| TcpStream::connect(&host).is_ok())? {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = std::fs::read_to_string(self.home.join("log")).unwrap_or_default();
        bail!("docker-registry not up: {log}")
    }

    /// `address:port`, as it stands in image references.
    pub fn host(&self) -> String {
        format!("{}:{}", self.setup.address, self.setup.port)
    }

    /// The directory that holds all it stores.
    pub fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// The file that holds a blob, by the hexadecimal part of its digest.
    pub fn blob(&self, hex: &str) -> PathBuf {
        let blobs = self.data().join("docker/registry/v2/blobs/sha256");
        blobs.join(hex.get(..2).unwrap_or_default()).join(hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // nsenter's child is killed with it by its own parent-death signal only if set; the sandbox ends it anyway.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(home: &Path, setup: &RegistrySetup) -> Result<String> {
    let mut text = format!(
        "version: 0.1\nlog: {{ level: info }}\nstorage:\n  filesystem: {{ rootdirectory: {} }}\n  \
         delete: {{ enabled: true }}\nhttp:\n  addr: {}:{}\n",
        home.join("data").display(),
        setup.address,
        setup.port,
    );
    if let Some(tls) = &setup.tls {
        let (certificate, key) = (tls.certificate.display(), tls.key.display());
        text.push_str(&format!("  tls:\n    certificate: {certificate}\n    key: {key}\n"));
        if let Some(clients) = &tls.clients {
            text.push_str(&format!("    clientcas: [ {} ]\n", clients.display()));
        }
    }
    if let Some(line) = &setup.htpasswd {
        let file = home.join("htpasswd");
        std::fs::write(&file, format!("{line}\n"))?;
        text.push_str(&format!("auth:\n  htpasswd: {{ realm: weft-test, path: {} }}\n", file.display()));
    }
    if let Some(token) = &setup.token {
        text.push_str(&format!(
            "auth:\n  token:\n    realm: {}\n    service: {}\n    issuer: {}\n    rootcertbundle: {}\n",
            token.realm,
            token.service,
            token.issuer,
            token.bundle.display()
        ));
    }
    Ok(text)
}
