//! `cargo xtask net`: a laboratory of pretended hosts, for trying what needs several.
//!
//! `up` makes the hosts and holds them: they, their daemons and their containers end with it, however it ends. What the other
//! commands need to know is in a file, so that they can be given from any terminal. The hosts are `weft_testkit::Lab`, the
//! same that tests use.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use weft_testkit::{DaemonOptions, Lab, lab::set_link, sandbox::enter};

/// Longest wait for a lab to come up or to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// `cargo xtask net`.
#[derive(clap::Args)]
#[command(after_help = "\
An hour in the lab:
    cargo xtask net up --hosts 3 --detach
    cargo xtask net run h1 docker run -d --name web busybox httpd -f
    cargo xtask net run all weft status
    cargo xtask net run h2                        a shell on h2
    cargo xtask net link h2 down                  h2's cable is pulled
    cargo xtask net run h1 busybox ping 10.64.0.2
    cargo xtask net down

Hosts are called h1, h2, … and have the addresses 10.64.0.1, 10.64.0.2, … on `lan0`. Each has its own network, processes
and mounts, and a daemon of its own; DOCKER_HOST and WEFT_HOST are set to it. Needs root and a built weft.")]
pub struct Args {
    /// Which lab: several can stand beside one another.
    #[arg(long, default_value = "lab", global = true)]
    name: String,
    #[command(subcommand)]
    task: Task,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Make the hosts, and hold them until told to stop.
    Up(Up),
    /// Run a command on a host, or on `all` one after another; a shell when none is given.
    Run {
        /// h1, h2, … or all.
        host: String,
        /// The command with its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Set a host's link to the others down or up.
    Link {
        /// h1, h2, …
        host: String,
        /// Which.
        state: LinkState,
    },
    /// Say what stands.
    Status,
    /// End it all.
    Down,
}

#[derive(clap::Args)]
struct Up {
    /// How many hosts.
    #[arg(long, default_value_t = 2)]
    hosts: usize,
    /// Come back once they stand; `down` ends them.
    #[arg(long)]
    detach: bool,
    /// A daemon.json for all of them.
    #[arg(long)]
    docker_config: Option<PathBuf>,
    /// Given to each `weft up` as it is.
    #[arg(last = true)]
    rest: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum, PartialEq, Eq)]
enum LinkState {
    Up,
    Down,
}

/// What the other commands must know of a lab.
#[derive(Serialize, Deserialize)]
struct State {
    pid: i32,
    switch: i32,
    hosts: Vec<HostState>,
}

#[derive(Serialize, Deserialize)]
struct HostState {
    name: String,
    address: String,
    init: i32,
    docker: String,
}

/// Does what was asked.
pub fn run(args: &Args) -> Result<()> {
    ensure!(
        args.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'),
        "a lab's name has letters and digits"
    );
    let file = std::env::temp_dir().join(format!("weft-net-{}.json", args.name));
    match &args.task {
        Task::Up(up) if up.detach => detach(&args.name, &file, up),
        Task::Up(up) => hold(&file, up),
        Task::Run { host, command } => enter_hosts(&stands(&file)?, host, command),
        Task::Link { host, state } => {
            let lab = stands(&file)?;
            set_link(lab.switch, &lab.host(host)?.name, *state == LinkState::Up)
        }
        Task::Status => {
            for host in stands(&file)?.hosts {
                println!("{:6} {:12} {}", host.name, host.address, host.docker);
            }
            Ok(())
        }
        Task::Down => down(&file),
    }
}

impl State {
    fn host(&self, name: &str) -> Result<&HostState> {
        let names = || self.hosts.iter().map(|h| h.name.as_str()).collect::<Vec<_>>().join(" ");
        self.hosts.iter().find(|h| h.name == name).with_context(|| format!("no host {name}: {}", names()))
    }
}

/// The lab that stands.
fn stands(file: &Path) -> Result<State> {
    let text = std::fs::read(file).context("no lab stands; make one: cargo xtask net up")?;
    let state: State = serde_json::from_slice(&text).with_context(|| file.display().to_string())?;
    ensure!(
        lives(state.pid),
        "the lab died with its process {}; cargo xtask net up makes another",
        state.pid
    );
    Ok(state)
}

fn lives(pid: i32) -> bool {
    // A number may be another process's by now.
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| String::from_utf8_lossy(&line).contains("xtask"))
}

/// Makes the lab and waits for the signal that ends it.
fn hold(file: &Path, up: &Up) -> Result<()> {
    ensure!(stands(file).is_err(), "this lab stands already; end it with: cargo xtask net down");
    let mut ends = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().for_each(|s| ends.add(s));
    // Blocked from here on: an end that comes too early is orderly, too.
    ends.thread_block()?;
    let config = match &up.docker_config {
        Some(path) => {
            serde_json::from_slice(&std::fs::read(path).with_context(|| path.display().to_string())?)?
        }
        None => serde_json::Map::new(),
    };
    let options = DaemonOptions { config, extra: up.rest.clone(), ..DaemonOptions::default() };
    let lab = Lab::start(up.hosts, &options)?;
    let hosts = lab.hosts.iter().filter_map(|host| {
        let daemon = host.daemon.as_ref()?;
        Some(HostState {
            name: host.name.clone(),
            address: host.address.to_string(),
            init: host.sandbox.init_pid(),
            docker: daemon.docker_host(),
        })
    });
    let pid = i32::try_from(std::process::id())?;
    let state = State { pid, switch: lab.switch_pid(), hosts: hosts.collect() };
    // Whole or not at all: `up --detach` waits for it.
    let part = file.with_extension("part");
    std::fs::write(&part, serde_json::to_vec_pretty(&state)?)?;
    std::fs::rename(&part, file)?;
    println!("{} hosts stand; try: cargo xtask net run h1 docker info", state.hosts.len());
    let signal = ends.wait()?;
    println!("{signal}: ending them");
    std::fs::remove_file(file)?;
    drop(lab);
    Ok(())
}

/// The same in a process of its own.
fn detach(name: &str, file: &Path, up: &Up) -> Result<()> {
    ensure!(stands(file).is_err(), "this lab stands already; end it with: cargo xtask net down");
    let _ = std::fs::remove_file(file);
    let log = file.with_extension("log");
    let out = std::fs::File::create(&log)?;
    let mut command = Command::new("setsid");
    command.arg(std::env::current_exe()?).args([
        "net",
        "--name",
        name,
        "up",
        "--hosts",
        &up.hosts.to_string(),
    ]);
    if let Some(path) = &up.docker_config {
        command.arg("--docker-config").arg(path);
    }
    command.arg("--").args(&up.rest).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    let mut child = command.spawn().context("starting it in the background")?;
    let begun = Instant::now();
    while !file.exists() {
        if let Some(status) = child.try_wait()? {
            bail!("it did not come up ({status}): {}", std::fs::read_to_string(&log).unwrap_or_default());
        }
        ensure!(begun.elapsed() < PATIENCE, "it is not up yet; see {}", log.display());
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("{} hosts stand; `cargo xtask net down` ends them", up.hosts);
    Ok(())
}

fn enter_hosts(lab: &State, host: &str, command: &[String]) -> Result<()> {
    let hosts: Vec<&HostState> =
        if host == "all" { lab.hosts.iter().collect() } else { vec![lab.host(host)?] };
    let mut failed = Vec::new();
    for host in &hosts {
        let shell = ["bash".to_owned()];
        let words = if command.is_empty() { &shell[..] } else { command };
        let [program, arguments @ ..] = words else { continue };
        let path = std::env::var("PATH").unwrap_or_default();
        let built = weft_testkit::daemon::weft_binary()?;
        let dir = built.parent().unwrap_or(Path::new("/")).display();
        if hosts.len() > 1 {
            println!("── {}", host.name);
        }
        let status = enter(host.init, program)
            .args(arguments)
            .env("DOCKER_HOST", &host.docker)
            .env("WEFT_HOST", &host.docker)
            .env("PATH", format!("{dir}:{path}"))
            .env("PS1", format!("{}# ", host.name))
            .status()?;
        if !status.success() {
            failed.push(format!("{}: {status}", host.name));
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(())
}

/// Tells the holder to end, and waits for it.
fn down(file: &Path) -> Result<()> {
    let lab = match stands(file) {
        Ok(lab) => lab,
        Err(error) => {
            // Of a lab that was killed only the file is left.
            std::fs::remove_file(file).map_err(|_| error)?;
            return Ok(());
        }
    };
    kill(Pid::from_raw(lab.pid), Signal::SIGTERM)?;
    let begun = Instant::now();
    while lives(lab.pid) {
        ensure!(begun.elapsed() < PATIENCE, "process {} does not end", lab.pid);
        std::thread::sleep(Duration::from_millis(20));
    }
    // What a detached one said; there is none of one in the foreground.
    let _ = std::fs::remove_file(file.with_extension("log"));
    Ok(())
}
