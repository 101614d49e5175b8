//! One pretended host: network, mount and process-id namespaces held by one small init process.
//!
//! ```text
//! test ──> unshare ──> tini (pid 1 of the sandbox; reaps) ──> sleep
//!  │                    ▲ killed by the kernel when unshare dies, and unshare dies with the test
//!  └─ nsenter ──────────┘ every command of the sandbox joins the three namespaces
//! ```
//!
//! The network namespace has `lo` and one veth (`eth0`) with an address from 198.18.0.0/15 (RFC 2544),
//! whose other end (`wt<pid>`) stays in the test's own namespace, so that published ports can be reached.
//! Mount propagation inside is shared among the sandbox's own mounts and cut from the outside.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Version-1 and version-2 cgroup hierarchies live in directories below this one.
const CGROUPS: &str = "/sys/fs/cgroup";

/// A pretended host. Everything in it ends when it is dropped.
#[derive(Debug)]
pub struct Sandbox {
    holder: Child,
    init: i32,
    dir: tempfile::TempDir,
    inside: Ipv4Addr,
    outside: Ipv4Addr,
    link: String,
    cgroup: String,
}

impl Sandbox {
    /// Makes the namespaces, the veth pair and a private directory under the system's temporary one.
    ///
    /// Must be called on a thread that lives as long as the sandbox: the kernel sends the parent-death
    /// signal when the *thread* that forked ends (prctl(2)), so the main thread or the test's own thread.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("weft-sandbox-").tempdir().context("sandbox directory")?;
        let mut command = Command::new("unshare");
        command
            .args(["--net", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc"])
            .args(["--propagation", "private", "--", "tini", "-s", "--", "sh", "-c"])
            .arg("mount --make-rshared / && ip link set lo up && echo up && exec sleep infinity")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        die_with_parent(&mut command);
        let mut holder = command.spawn().context("start unshare (util-linux) for the sandbox")?;
        let mut line = String::new();
        let stdout = holder.stdout.take().context("sandbox's output")?;
        BufReader::new(stdout).read_line(&mut line).context("wait for the sandbox")?;
        if line.trim() != "up" {
            let _ = holder.kill();
            bail!("the sandbox did not come up (needs root, unshare, tini, ip): {:?}", holder.wait());
        }
        let init = only_child(holder.id()).context("find the sandbox's first process")?;
        let slot = u32::from_be_bytes([0, 198, 18, 0]) << 8;
        let base = slot + (holder.id() % 32_768) * 4;
        let sandbox = Self {
            init,
            dir,
            outside: Ipv4Addr::from(base + 1),
            inside: Ipv4Addr::from(base + 2),
            link: format!("wt{}", holder.id()),
            cgroup: format!("weft-test-{}", holder.id()),
            holder,
        };
        sandbox.plug()?;
        Ok(sandbox)
    }

    fn plug(&self) -> Result<()> {
        let (link, init) = (self.link.as_str(), self.init.to_string());
        run(Command::new("ip")
            .args(["link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", &init]))?;
        run(Command::new("ip").args(["addr", "add", &format!("{}/30", self.outside), "dev", link]))?;
        run(Command::new("ip").args(["link", "set", link, "up"]))?;
        run(self.command("ip").args(["addr", "add", &format!("{}/30", self.inside), "dev", "eth0"]))?;
        run(self.command("ip").args(["link", "set", "eth0", "up"]))
    }

    /// A directory of this sandbox alone, seen at the same path inside and outside.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The address of the sandbox's `eth0`, reachable from the test's own namespace.
    pub fn address(&self) -> Ipv4Addr {
        self.inside
    }

    /// The outside end's address, on the same /30.
    pub fn outside_address(&self) -> Ipv4Addr {
        self.outside
    }

    /// Process id (in the caller's namespace) of the sandbox's first process.
    pub fn init_pid(&self) -> i32 {
        self.init
    }

    /// Name of the cgroup, below every controller, that daemons here put containers under.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// A command that runs inside, by `nsenter`; its working directory is the caller's.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        enter(self.init, program)
    }

    /// An `/etc` of the sandbox's own where `dockremap`, the user of `userns-remap: default`, has 65,536 ids from `first`.
    pub fn give_ids(&self, first: u32) -> Result<()> {
        let script = format!(
            "cp -a /etc {etc} && printf 'other:1:1\\ndockremap:{first}:65536\\n' > {etc}/subuid \
             && cp {etc}/subuid {etc}/subgid && mount --bind {etc} /etc",
            etc = self.dir().join("etc").display()
        );
        run(self.command("sh").args(["-c", &script]))
    }

    /// Runs `work` on a thread that has joined the sandbox's network: sockets made there stay in it wherever they are
    /// used later. Only the network is joined; files are the caller's.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = format!("/proc/{}/ns/net", self.init);
        let net = std::fs::File::open(&path).with_context(|| path.clone())?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || -> Result<T> {
                setns(net, CloneFlags::CLONE_NEWNET).context("join the sandbox's network")?;
                Ok(work())
            });
            thread.join().map_err(|_| anyhow::anyhow!("work in the sandbox's network panicked"))?
        })
    }

    /// Every process of this sandbox, ids as the caller's namespace sees them.
    pub fn processes(&self) -> Vec<i32> {
        let Ok(mine) = std::fs::read_link(format!("/proc/{}/ns/mnt", self.init)) else { return Vec::new() };
        let net = std::fs::read_link(format!("/proc/{}/ns/net", self.init)).unwrap_or_default();
        all_pids()
            .into_iter()
            .filter(|pid| {
                let link = |kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}"));
                link("mnt").is_ok_and(|ns| ns == mine) || link("net").is_ok_and(|ns| ns == net)
            })
            .collect()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Pid 1 of a pid namespace takes everything with it, whatever it forked.
        let _ = kill(Pid::from_raw(self.init), Signal::SIGKILL);
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        wait_gone(self.init);
        let _ = Command::new("ip").args(["link", "del", &self.link]).stderr(Stdio::null()).status();
        remove_cgroups(&self.cgroup);
    }
}

/// A command that runs in the sandbox whose first process is `init`; see [`Sandbox::command`].
pub fn enter(init: i32, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    let at = |kind: &str| format!("/proc/{init}/ns/{kind}");
    command
        .arg(format!("--net={}", at("net")))
        .arg(format!("--mount={}", at("mnt")))
        .arg(format!("--ipc={}", at("ipc")))
        .arg(format!("--pid={}", at("pid_for_children")))
        .arg(format!("--wd={}", std::env::current_dir().unwrap_or_else(|_| "/".into()).display()))
        .arg("--")
        .arg(program);
    command
}

/// Waits a little until a process that was killed is gone, or dead and left to be reaped by another; whether it is.
fn wait_gone(pid: i32) -> bool {
    let lives = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // proc_pid_stat(5): the state comes after the name in parentheses.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    while lives() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    !lives()
}

/// Removes the named cgroup and all below it from every hierarchy; waits a little for the dead to leave.
fn remove_cgroups(name: &str) {
    let Ok(hierarchies) = std::fs::read_dir(CGROUPS) else { return };
    let roots: Vec<PathBuf> = hierarchies.flatten().map(|entry| entry.path().join(name)).collect();
    let deadline = Instant::now() + Duration::from_secs(2);
    while roots.iter().any(|root| root.exists() && !remove_tree(root)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn remove_tree(cgroup: &Path) -> bool {
    let children = std::fs::read_dir(cgroup).into_iter().flatten().flatten();
    for child in children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_tree(&child.path());
    }
    std::fs::remove_dir(cgroup).is_ok()
}

/// Numeric entries of `/proc`.
pub fn all_pids() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn only_child(parent: u32) -> Result<i32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    text.split_whitespace()
        .next()
        .and_then(|pid| pid.parse().ok())
        .with_context(|| format!("{path} is empty"))
}

/// Asks the kernel to kill the child when the thread that started it ends (prctl(2), PR_SET_PDEATHSIG).
pub fn die_with_parent(command: &mut Command) {
    #[expect(unsafe_code, reason = "pre_exec is the only place between fork and exec")]
    // SAFETY: prctl is async-signal-safe and touches nothing of the parent's memory.
    unsafe {
        command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(std::io::Error::from));
    }
}

/// Runs a command to its end; a failure carries its standard error.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_after_a_sandbox() {
        let sandbox = Sandbox::new().unwrap();
        let (init, dir, link) = (sandbox.init_pid(), sandbox.dir().to_owned(), sandbox.link.clone());
        let output = sandbox.command("ip").args(["-br", "addr"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(&sandbox.address().to_string()), "{text}");
        // A process that left its session and parent still ends with the sandbox.
        let inside = format!(
            "setsid sleep 1000 </dev/null >/dev/null 2>&1 & mkdir -p {0}/m && mount -t tmpfs t {0}/m",
            dir.display()
        );
        run(sandbox.command("sh").args(["-c", &inside]).stdout(Stdio::null())).unwrap();
        let inhabitants = sandbox.processes();
        assert!(inhabitants.len() >= 2, "{inhabitants:?}");
        let mounts = || std::fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts().contains(dir.to_str().unwrap()), "mounts stay inside");
        drop(sandbox);
        assert!(!dir.exists());
        assert!(!Path::new(&format!("/sys/class/net/{link}")).exists());
        assert!(wait_gone(init), "its first process still runs");
    }
}
