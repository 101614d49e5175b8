//! A registry (Debian's `docker-registry`) on the sandbox's loopback, empty, in memory-cheap settings.
//!
//! Loopback is what every Docker treats as an insecure registry without being told, so no TLS is needed.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::sandbox::{Sandbox, die_with_parent};

/// A running registry; ends on drop (or with its sandbox).
#[derive(Debug)]
pub struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    /// Starts a registry on `127.0.0.1:port` of the sandbox.
    ///
    /// `htpasswd` asks for HTTP Basic authentication: the bcrypt line of an htpasswd file
    /// (`user:$2y$…`), since the registry reads no other hash.
    pub fn start(sandbox: &Sandbox, port: u16, htpasswd: Option<&str>) -> Result<Self> {
        let home = sandbox.dir().join(format!("registry-{port}"));
        std::fs::create_dir_all(&home)?;
        std::fs::write(home.join("config.yml"), config(&home, port, htpasswd)?)?;
        let log = std::fs::File::create(home.join("log"))?;
        let mut command = sandbox.command("docker-registry");
        command.arg("serve").arg(home.join("config.yml"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        die_with_parent(&mut command);
        let child = command.spawn().context("start docker-registry")?;
        let registry = Self { child, port };
        registry.wait(sandbox, &home)?;
        Ok(registry)
    }

    fn wait(&self, sandbox: &Sandbox, home: &Path) -> Result<()> {
        let begun = Instant::now();
        // The root path answers without a login.
        let url = format!("http://{}/", self.host());
        while begun.elapsed() < Duration::from_secs(15) {
            let probe = sandbox.command("busybox").args(["wget", "-q", "-O", "/dev/null", &url]).output()?;
            if probe.status.success() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("docker-registry not up: {}", std::fs::read_to_string(home.join("log")).unwrap_or_default())
    }

    /// `127.0.0.1:port`, as it stands in image references.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // nsenter's child is killed with it by its own parent-death signal only if set; the sandbox ends it anyway.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(home: &Path, port: u16, htpasswd: Option<&str>) -> Result<String> {
    let mut text = format!(
        "version: 0.1\nlog: {{ level: info }}\nstorage:\n  filesystem: {{ rootdirectory: {} }}\n  \
         delete: {{ enabled: true }}\nhttp:\n  addr: 127.0.0.1:{port}\n",
        home.join("data").display()
    );
    if let Some(line) = htpasswd {
        let file = home.join("htpasswd");
        std::fs::write(&file, format!("{line}\n"))?;
        text.push_str(&format!("auth:\n  htpasswd: {{ realm: weft-test, path: {} }}\n", file.display()));
    }
    Ok(text)
}
