//! `up`: the daemon of this host, in the foreground or detached.
//!
//! Detached means: this program again, in a session of its own, with standard error in `RUN/weft.log`. We stay until it
//! says that it is ready (sd_notify(3) on a socket of ours), or ends; then its last words are told.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use weft_daemon::{Config, LogFormat, PublishPolicy, docker_config, features};

use crate::{
    failure::{failed, usage},
    output,
};

#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  weft up                                      in the foreground\n  \
    weft up --detach                             returns when it is ready; log in RUN/weft.log\n  \
    weft up --docker-config /etc/docker/daemon.json\n  \
    weft up --listen docker=unix:///run/weft/docker.sock --listen metrics=tcp://127.0.0.1:9323\n  \
    weft up --root /srv/a --run /run/a --name a  one of several on a machine\n\n\
    Ready means: the line `ready` on standard error and READY=1 to systemd, after every listener accepts.\n\
    Configuration: defaults, then --config, then --docker-config, then the flags.")]
pub struct UpArgs {
    /// Return when it is ready; it goes on in the background
    #[arg(short = 'd', long)]
    detach: bool,
    /// Configuration file (TOML; the names of these flags)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Docker's daemon.json
    #[arg(long, value_name = "FILE")]
    docker_config: Option<PathBuf>,
    /// Where everything that must survive a reboot lies [default: /var/lib/weft]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// This host's name [default: the hostname]
    #[arg(long, value_name = "HOST")]
    name: Option<String>,
    /// embedded, or a cluster of etcd that hosts meet by: etcd://A:2379,B:2379[/prefix][?ca=FILE&user=NAME&password-file=FILE] [default: embedded]
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// The address other hosts reach this one at
    #[arg(long, value_name = "ADDR")]
    underlay: Option<IpAddr>,
    /// A face and where it listens; may be given several times [default: docker=unix://RUN/docker.sock]
    #[arg(long, value_name = "FACE=URI")]
    listen: Vec<String>,
    /// A feature to enable; may be given several times
    #[arg(long, value_name = "NAME")]
    feature: Vec<String>,
    /// Who from other hosts reaches published ports: open, host-firewall or deny [default: open]
    #[arg(long, value_name = "POLICY")]
    publish_policy: Option<PublishPolicy>,
    /// Log more
    #[arg(long)]
    debug: bool,
    /// How the log is written
    #[arg(long, default_value = "text", value_parser = ["text", "json"], value_name = "FORMAT")]
    log_format: String,
    /// This is the detached one
    #[arg(long, hide = true)]
    detached: bool,
}

const FACES: &[&str] = &["docker", "openstack", "registry", "restconf", "native", "metrics", "ui"];

/// Runs the daemon, or starts one.
pub fn up(args: UpArgs, run: Option<PathBuf>) -> anyhow::Result<()> {
    // Here and not in the daemon, so that a wrong setting is wrong usage, seen at once.
    let config = config(&args, run.clone()).map_err(|e| usage(weft_base::chain(e.as_ref())))?;
    if args.detach {
        return detach(&config);
    }
    if args.detached {
        rustix::process::setsid().context("leaving the session")?;
    }
    let format = if args.log_format == "json" { LogFormat::Json } else { LogFormat::Text };
    let reread = move || config_again(&args, run.clone());
    weft_daemon::run(config, format, Box::new(reread))
}

/// On SIGHUP: the same words, the files as they are now.
fn config_again(args: &UpArgs, run: Option<PathBuf>) -> anyhow::Result<Config> {
    config(args, run)
}

fn config(args: &UpArgs, run: Option<PathBuf>) -> anyhow::Result<Config> {
    let mut config = Config::default();
    if let Some(path) = &args.config {
        config.read_toml(path)?;
    }
    if let Some(path) = &args.docker_config {
        docker_config::read(&mut config, path)?;
    }
    config.root = args.root.clone().unwrap_or(config.root);
    config.run = run.unwrap_or(config.run);
    config.name = args.name.clone().unwrap_or(config.name);
    config.store = args.store.clone().unwrap_or(config.store);
    config.underlay = args.underlay.or(config.underlay);
    config.debug |= args.debug;
    config.network.publish_policy = args.publish_policy.unwrap_or(config.network.publish_policy);
    if !args.listen.is_empty() {
        // What is typed replaces what files say: adding to it would open what nobody asked for here.
        config.listen.clear();
        args.listen.iter().try_for_each(|listen| config.add_listener(listen))?;
    }
    for (face, _) in &config.listen {
        if !FACES.contains(&face.as_str()) {
            anyhow::bail!("--listen: no such face: {face}; there are {}", FACES.join(", "));
        }
    }
    config.features.extend(args.feature.iter().cloned());
    for name in &config.features {
        features::find(name)?;
    }
    // The daemon's working directory is not ours once it is detached.
    config.root = std::path::absolute(&config.root)?;
    config.run = std::path::absolute(&config.run)?;
    Ok(config)
}

fn detach(config: &Config) -> anyhow::Result<()> {
    let run = &config.run;
    fs::create_dir_all(run).with_context(|| format!("making {}", run.display()))?;
    let log_path = run.join("weft.log");
    let mut log = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        .open(&log_path)
        .with_context(|| format!("opening {}", log_path.display()))?;
    let start = log.seek(SeekFrom::End(0))?;
    let notify_path = run.join(format!("up-{}.sock", std::process::id()));
    let socket =
        UnixDatagram::bind(&notify_path).with_context(|| format!("binding {}", notify_path.display()))?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let child = spawn(&log, &notify_path);
    let outcome = child.and_then(|child| watch(child, &socket));
    // The daemon has nobody to tell any more: it does not mind.
    let _ = fs::remove_file(&notify_path);
    match outcome? {
        Some(pid) => {
            output::note(format!("ready, pid {pid}, log {}", log_path.display()));
            Ok(())
        }
        None => Err(failed(1, format!("the daemon did not start:\n{}", last_words(&mut log, start)))),
    }
}

fn spawn(log: &File, notify: &Path) -> anyhow::Result<Child> {
    let args = std::env::args_os().skip(1).filter(|a| a != "--detach" && a != "-d");
    // What our caller left open (a lock, a pipe that somebody reads to its end) must not live as long as the daemon. Before
    // Linux 5.11 it does.
    let _ = weft_sys::process::cloexec_from(3);
    // `up` is where the flag was: everything else is handed on as it is.
    Command::new("/proc/self/exe")
        .args(args)
        .arg("--detached")
        .env("NOTIFY_SOCKET", notify)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.try_clone()?)
        .spawn()
        .context("starting the daemon")
}

/// Waits for `READY=1` or the end; the process id when it is ready.
fn watch(mut child: Child, socket: &UnixDatagram) -> anyhow::Result<Option<u32>> {
    let mut buffer = [0; 4096];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) if buffer[..length].split(|b| *b == b'\n').any(|l| l == b"READY=1") => {
                return Ok(Some(child.id()));
            }
            Ok(_) => {}
            Err(e) if [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut].contains(&e.kind()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e).context("waiting for the daemon"),
        }
        if child.try_wait().context("waiting for the daemon")?.is_some() {
            return Ok(None);
        }
    }
}

/// What the daemon has written since `start`, at most its last twenty lines.
fn last_words(log: &mut File, start: u64) -> String {
    let mut text = Vec::new();
    let read = log.seek(SeekFrom::Start(start)).and_then(|_| log.read_to_end(&mut text));
    if let Err(error) = read {
        return format!("(its log cannot be read: {error})");
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: UpArgs,
    }

    fn read(line: &str) -> anyhow::Result<Config> {
        let line = Line::try_parse_from(std::iter::once("up").chain(line.split_whitespace()))?;
        config(&line.args, Some("/tmp/run".into()))
    }

    #[test]
    fn flags_become_configuration() {
        let config =
            read("--root /r --name h --underlay 10.0.0.1 --feature dns --listen docker=unix:///s --debug")
                .unwrap();
        assert_eq!((config.root, config.run), (PathBuf::from("/r"), PathBuf::from("/tmp/run")));
        assert_eq!((config.name.as_str(), config.debug), ("h", true));
        assert_eq!(config.listen, [("docker".to_owned(), "unix:///s".to_owned())]);
        assert_eq!(config.features, ["dns"]);
        for bad in [
            "--listen docker",
            "--listen ftp=unix:///x",
            "--feature magic",
            "--underlay here",
            "--config /no/such",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_come_after_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        fs::write(&path, r#"{"data-root": "/d", "hosts": ["unix:///d.sock"], "mtu": 1400}"#).unwrap();
        let from_file = read(&format!("--docker-config {}", path.display())).unwrap();
        assert_eq!((from_file.root, from_file.network.mtu), (PathBuf::from("/d"), Some(1400)));
        let both =
            read(&format!("--docker-config {} --root /r --listen docker=unix:///s", path.display())).unwrap();
        assert_eq!(both.root, PathBuf::from("/r"));
        assert_eq!(both.listen, [("docker".to_owned(), "unix:///s".to_owned())]);
    }
}
