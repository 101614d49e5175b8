//! A real etcd cluster on loopback, of one member or several, each with its own directory, and what can happen to it.
//!
//! Members end with the test: the kernel kills them when the thread that started them dies. So start and restart them from
//! the test's own thread, not from one of a pool.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{sys::signal::Signal, unistd::Pid};
use tempfile::TempDir;

use crate::{registry::ServerTls, sandbox::die_with_parent};

/// What kind of cluster.
#[derive(Clone, Debug)]
pub struct EtcdSetup {
    /// How many members.
    pub members: usize,
    /// Further arguments of each.
    pub arguments: Vec<String>,
    /// Addresses besides loopback that clients reach it by, such as [`crate::Sandbox::outside_address`].
    pub also: Vec<Ipv4Addr>,
    /// TLS towards clients; members talk in clear with one another.
    pub tls: Option<ServerTls>,
    /// Arguments of `etcdctl` that it then needs.
    pub ctl: Vec<String>,
}

impl Default for EtcdSetup {
    fn default() -> Self {
        Self { members: 1, arguments: Vec::new(), also: Vec::new(), tls: None, ctl: Vec::new() }
    }
}

/// A cluster at work; it ends on drop, with all it stored.
#[derive(Debug)]
pub struct Etcd {
    setup: EtcdSetup,
    home: TempDir,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    client: u16,
    peer: u16,
    child: Option<Child>,
}

impl Etcd {
    /// One member without anything special.
    pub fn single() -> Result<Self> {
        Self::start(EtcdSetup::default())
    }

    /// A cluster, once it answers.
    pub fn start(setup: EtcdSetup) -> Result<Self> {
        // Ports are free when they are chosen; somebody may be faster.
        let mut last = None;
        for _ in 0..3 {
            match Self::try_start(setup.clone()) {
                Ok(cluster) => return Ok(cluster),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no attempt")?)
    }

    fn try_start(setup: EtcdSetup) -> Result<Self> {
        // All held at once, so that none is given twice.
        let held = (0..setup.members * 2)
            .map(|_| TcpListener::bind("127.0.0.1:0"))
            .collect::<Result<Vec<_>, _>>()?;
        let ports = held.iter().map(|l| Ok(l.local_addr()?.port())).collect::<Result<Vec<u16>>>()?;
        drop(held);
        let members =
            ports.chunks(2).map(|p| Member { client: p[0], peer: p[1], child: None }).collect::<Vec<_>>();
        let mut cluster = Self { setup, home: tempfile::tempdir()?, members };
        for n in 0..cluster.members.len() {
            cluster.spawn(n)?;
        }
        cluster.wait()?;
        Ok(cluster)
    }

    fn spawn(&mut self, n: usize) -> Result<()> {
        let scheme = self.scheme();
        let all: Vec<_> = self
            .members
            .iter()
            .enumerate()
            .map(|(n, m)| format!("m{n}=http://127.0.0.1:{}", m.peer))
            .collect();
        let member = &self.members[n];
        let (client, peer) =
            (format!("{scheme}://127.0.0.1:{}", member.client), format!("http://127.0.0.1:{}", member.peer));
        let log = std::fs::File::options().create(true).append(true).open(self.log(n))?;
        let mut command = Command::new("etcd");
        command.args(["--name", &format!("m{n}"), "--log-outputs", "stderr", "--logger", "zap"]);
        command.arg("--data-dir").arg(self.data(n));
        let also = self.setup.also.iter().map(|ip| format!("{scheme}://{ip}:{}", member.client));
        let listen: Vec<_> = std::iter::once(client.clone()).chain(also).collect();
        command.args(["--listen-client-urls", &listen.join(","), "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &all.join(",")]);
        if let Some(tls) = &self.setup.tls {
            command.arg("--cert-file").arg(&tls.certificate).arg("--key-file").arg(&tls.key);
            if let Some(clients) = &tls.clients {
                command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(clients);
            }
        }
        command.args(&self.setup.arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        die_with_parent(&mut command);
        self.members[n].child = Some(command.spawn().context("start etcd (package etcd-server)")?);
        Ok(())
    }

    /// Waits until every member that runs answers.
    pub fn wait(&mut self) -> Result<()> {
        let begun = Instant::now();
        for n in 0..self.members.len() {
            while let Some(child) = &mut self.members[n].child {
                if let Some(status) = child.try_wait()? {
                    bail!("etcd m{n} ended ({status}): {}", tail(&self.log(n)));
                }
                if self.ctl_at(n, &["endpoint", "status"]).is_ok_and(|status| !status.contains("no leader")) {
                    break;
                }
                ensure!(
                    begun.elapsed() < Duration::from_secs(30),
                    "etcd m{n} is not up: {}",
                    tail(&self.log(n))
                );
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    fn scheme(&self) -> &'static str {
        if self.setup.tls.is_some() { "https" } else { "http" }
    }

    fn data(&self, n: usize) -> PathBuf {
        self.home.path().join(format!("m{n}"))
    }

    fn log(&self, n: usize) -> PathBuf {
        self.home.path().join(format!("m{n}.log"))
    }

    /// `host:port` of one member.
    pub fn endpoint(&self, n: usize) -> String {
        format!("127.0.0.1:{}", self.members[n].client)
    }

    /// `host:port` of all members at one of [`EtcdSetup::also`], with commas.
    pub fn endpoints_at(&self, ip: Ipv4Addr) -> String {
        self.members.iter().map(|m| format!("{ip}:{}", m.client)).collect::<Vec<_>>().join(",")
    }

    /// `host:port` of all members, with commas.
    pub fn endpoints(&self) -> String {
        (0..self.members.len()).map(|n| self.endpoint(n)).collect::<Vec<_>>().join(",")
    }

    /// Kills a member as `kill -9` does.
    pub fn kill(&mut self, n: usize) -> Result<()> {
        let mut child = self.members[n].child.take().context("the member does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Starts a killed member on what it had stored; does not wait for it.
    pub fn restart(&mut self, n: usize) -> Result<()> {
        ensure!(self.members[n].child.is_none(), "the member runs");
        self.spawn(n)
    }

    /// Takes away all that a killed member had stored.
    pub fn wipe(&self, n: usize) -> Result<()> {
        ensure!(self.members[n].child.is_none(), "the member runs");
        std::fs::remove_dir_all(self.data(n)).context("wipe a member")
    }

    /// Writes the present state into a file, as an operator's backup does.
    pub fn save(&self, file: &Path) -> Result<()> {
        let file = file.to_str().context("the file's path is no text")?;
        self.ctl_at(0, &["snapshot", "save", file]).map(|_| ())
    }

    /// Puts the only member, which was killed, back to what `file` holds.
    pub fn put_back(&self, file: &Path) -> Result<()> {
        ensure!(self.members.len() == 1, "a cluster of one only");
        self.wipe(0)?;
        let peer = format!("http://127.0.0.1:{}", self.members[0].peer);
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["snapshot", "restore"])
            .arg(file)
            .args(["--name", "m0", "--initial-cluster", &format!("m0={peer}")])
            .args(["--initial-advertise-peer-urls", &peer])
            .arg("--data-dir")
            .arg(self.data(0))
            .output()
            .context("run etcdctl (package etcd-client)")?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "etcdctl snapshot restore: {told}");
        Ok(())
    }

    /// Stops a member without ending it: it holds its connections and says nothing.
    pub fn pause(&self, n: usize) -> Result<()> {
        self.signal(n, Signal::SIGSTOP)
    }

    /// Lets a stopped member go on.
    pub fn resume(&self, n: usize) -> Result<()> {
        self.signal(n, Signal::SIGCONT)
    }

    fn signal(&self, n: usize, signal: Signal) -> Result<()> {
        let child = self.members[n].child.as_ref().context("the member does not run")?;
        nix::sys::signal::kill(Pid::from_raw(child.id().try_into()?), signal).context("signal a member")
    }

    /// Runs `etcdctl` against all members; answers what it printed.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        self.run(&self.endpoints(), arguments)
    }

    /// The same against one member.
    pub fn ctl_at(&self, n: usize, arguments: &[&str]) -> Result<String> {
        self.run(&self.endpoint(n), arguments)
    }

    fn run(&self, endpoints: &str, arguments: &[&str]) -> Result<String> {
        let urls: Vec<_> = endpoints.split(',').map(|e| format!("{}://{e}", self.scheme())).collect();
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &urls.join(","), "--dial-timeout=1s", "--command-timeout=5s"])
            .args(&self.setup.ctl)
            .args(arguments)
            .output()
            .context("run etcdctl (package etcd-client)")?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "etcdctl {}: {told}", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Which member leads, of those that run.
    pub fn leader(&self) -> Result<usize> {
        for n in (0..self.members.len()).filter(|n| self.members[*n].child.is_some()) {
            let Ok(text) = self.ctl_at(n, &["endpoint", "status", "-w", "json"]) else { continue };
            let status: serde_json::Value = serde_json::from_str(&text)?;
            let status = &status[0]["Status"];
            if status["leader"].is_u64() && status["leader"] == status["header"]["member_id"] {
                return Ok(n);
            }
        }
        bail!("no member leads")
    }

    /// The store's directory, for what else a test wants to lay there.
    pub fn home(&self) -> &Path {
        self.home.path()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for child in self.members.iter_mut().filter_map(|m| m.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
