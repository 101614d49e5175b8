//! The few words tests are written in.
//!
//! `t.docker(["run", "--rm", IMG, "echo", "hi"]).ok().stdout_is("hi")`. Names come from `t.ctr("a")`, `t.net(…)`,
//! `t.vol(…)`, `t.img(…)`: unique to the test, and removed after it whatever happened.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use weft_testkit::{Daemon, DaemonOptions, ImageSpec, Registry, Sandbox, Subject, busybox_archive};

/// The image that tests run: busybox with a shell.
pub const IMG: &str = "busybox";
/// Seconds that one client command may take.
const LIMIT: &str = "60";
/// `weft:secret`, as a bcrypt line of htpasswd.
const HTPASSWD: &str = "weft:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a";

/// One test of the suite.
pub struct Case {
    pub name: &'static str,
    pub marks: &'static [(&'static str, &'static str)],
    pub run: fn(&T),
}

impl Case {
    /// The reason given with a mark, if the test has it.
    pub fn mark(&self, name: &str) -> Option<&'static str> {
        self.marks.iter().find(|(mark, _)| *mark == name).map(|(_, why)| *why)
    }
}

/// `cases! { fn name(t) [mark = "why"] { … } }` makes the functions and the list `CASES`.
macro_rules! cases {
    ($(fn $name:ident($t:ident) $([$($mark:ident = $why:literal),*])? $body:block)*) => {
        $(fn $name($t: &crate::dsl::T) $body)*
        pub const CASES: &[crate::dsl::Case] = &[$(crate::dsl::Case {
            name: stringify!($name),
            marks: &[$($((stringify!($mark), $why)),*)?],
            run: $name,
        }),*];
    };
}
pub(crate) use cases;

/// `dockerd`, `weft`, or `outside` when `DOCKER_HOST` is given.
pub fn subject_name() -> String {
    if std::env::var_os("DOCKER_HOST").is_some() {
        return std::env::var("WEFT_CONFORMANCE_SUBJECT").unwrap_or_else(|_| "outside".to_owned());
    }
    std::env::var("WEFT_CONFORMANCE_SUBJECT").unwrap_or_else(|_| "weft".to_owned())
}

/// What all tests share: the daemon, two registries (one asks for a login), a directory.
pub struct World {
    host: String,
    dir: tempfile::TempDir,
    // Dropped in this order: what runs in the sandbox before the sandbox.
    daemon: Option<Daemon>,
    _registries: Vec<Registry>,
    sandbox: Option<Sandbox>,
}

impl World {
    pub fn new() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("weft-conformance-").tempdir()?;
        let mut world = match std::env::var("DOCKER_HOST") {
            Ok(host) => Self { host, dir, daemon: None, _registries: Vec::new(), sandbox: None },
            Err(_) => {
                let sandbox = Sandbox::new()?;
                let registries = vec![
                    Registry::start(&sandbox, 5000, None)?,
                    Registry::start(&sandbox, 5001, Some(HTPASSWD))?,
                ];
                let subject = Subject::parse(&subject_name())?;
                let daemon = Daemon::start(&sandbox, subject, "subject", DaemonOptions::default())?;
                let host = daemon.docker_host();
                Self { host, dir, daemon: Some(daemon), _registries: registries, sandbox: Some(sandbox) }
            }
        };
        world.load()?;
        Ok(world)
    }

    fn load(&mut self) -> anyhow::Result<()> {
        let archive = self.dir.path().join("busybox.tar");
        busybox_archive(&ImageSpec::tagged("busybox:latest"), &archive)?;
        let output = self.client().args(["load", "-q", "-i"]).arg(&archive).output()?;
        let log = self.daemon.as_ref().map(Daemon::log_tail).unwrap_or_default();
        anyhow::ensure!(
            output.status.success(),
            "docker load: {}{log}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn client(&self) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", LIMIT, "docker"]);
        command.env("DOCKER_HOST", &self.host).env("DOCKER_CONFIG", self.dir.path().join("client"));
        command.env("DOCKER_CLI_HINTS", "false").stdin(Stdio::null());
        command
    }
}

/// One test's view of the world.
pub struct T<'w> {
    world: &'w World,
    id: &'w str,
    made: Mutex<Vec<(&'static str, String)>>,
}

impl<'w> T<'w> {
    pub fn new(world: &'w World, id: &'w str) -> Self {
        Self { world, id, made: Mutex::new(Vec::new()) }
    }

    fn own(&self, kind: &'static str, name: String) -> String {
        self.made.lock().unwrap().push((kind, name.clone()));
        name
    }

    /// A container name of this test.
    pub fn ctr(&self, name: &str) -> String {
        self.own("container", format!("{}-{name}", self.id))
    }

    /// A network name of this test.
    pub fn net(&self, name: &str) -> String {
        self.own("network", format!("{}-{name}", self.id))
    }

    /// A volume name of this test.
    pub fn vol(&self, name: &str) -> String {
        self.own("volume", format!("{}-{name}", self.id))
    }

    /// An image name of this test, without a tag.
    pub fn img(&self, name: &str) -> String {
        self.own("image", format!("{}-{name}", self.id))
    }

    /// A directory of this test, made if it is not there; the daemon sees it at the same path.
    pub fn dir(&self) -> PathBuf {
        let dir = self.world.dir.path().join(self.id);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// A file in the test's directory.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Runs the client to its end.
    pub fn docker<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Out {
        self.docker_in(args, "")
    }

    /// Runs the client with `input` on its standard input.
    pub fn docker_in<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>, input: &str) -> Out {
        let args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let mut command = self.world.client();
        command.args(&args);
        finish(command, &args, input)
    }

    /// The client with its standard streams on a terminal; `input` is typed after it has started.
    pub fn tty<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>, input: &str) -> Out {
        let args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let words: Vec<String> = args.iter().map(|arg| format!("'{}'", arg.replace('\'', "'\\''"))).collect();
        let mut command = Command::new("timeout");
        command.args([
            "-k",
            "5",
            LIMIT,
            "script",
            "-qe",
            "-c",
            &format!("docker {}", words.join(" ")),
            "/dev/null",
        ]);
        command
            .env("DOCKER_HOST", &self.world.host)
            .env("DOCKER_CONFIG", self.world.dir.path().join("client"));
        command.env("SHELL", "/bin/sh").env("TERM", "xterm");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let typed = input.to_owned();
        let typist = std::thread::spawn(move || {
            for line in typed.split_inclusive('\n') {
                std::thread::sleep(Duration::from_millis(700));
                let _ = stdin.write_all(line.as_bytes());
                let _ = stdin.flush();
            }
            std::thread::sleep(Duration::from_millis(700));
            drop(stdin);
        });
        let output = child.wait_with_output().unwrap();
        typist.join().unwrap();
        Out::new(&args, &output)
    }

    /// A client command left running; its output is read when it is [`Running::end`]ed.
    pub fn start<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Running {
        let args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let mut command = self.world.client();
        command.args(&args).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running { child: command.spawn().unwrap(), args }
    }

    /// The daemon's socket.
    pub fn socket(&self) -> &str {
        self.world.host.strip_prefix("unix://").expect("a Unix socket")
    }

    /// The daemon's process, where this suite started it.
    pub fn daemon_pid(&self) -> Option<i32> {
        self.world.daemon.as_ref().map(Daemon::pid)
    }

    /// Names of links differ between the subjects.
    pub fn subject_is_weft(&self) -> bool {
        subject_name() == "weft"
    }

    /// Runs a host program where the daemon's published ports are.
    pub fn host<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Out {
        let args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let mut command = match &self.world.sandbox {
            Some(sandbox) => sandbox.command(&args[0]),
            None => Command::new(&args[0]),
        };
        command.args(&args[1..]);
        finish(command, &args, "")
    }

    /// `docker run -d --name` of a fresh container that sleeps; returns its name.
    pub fn sleeper<S: AsRef<str>>(&self, name: &str, flags: impl IntoIterator<Item = S>) -> String {
        let name = self.ctr(name);
        let flags: Vec<String> = flags.into_iter().map(|flag| flag.as_ref().to_owned()).collect();
        let mut args = vec!["run", "-d", "--name", &name, "--stop-timeout", "1"];
        args.extend(flags.iter().map(String::as_str));
        args.extend([IMG, "sleep", "1000"]);
        self.docker(args).ok();
        name
    }

    /// `docker inspect -f FORMAT NAME`, which must succeed.
    pub fn inspect(&self, name: &str, format: &str) -> String {
        self.docker(["inspect", "-f", format, name]).ok().text()
    }

    /// Asks again until `done`, for what may take a moment; panics with `what` after 20 s.
    pub fn until(&self, what: &str, done: impl Fn() -> bool) {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The Unix time some seconds from now, for `--until`: a bare duration means the past to Docker.
    pub fn soon(&self, seconds: u64) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        (now.as_secs() + seconds).to_string()
    }

    /// Whether a path is below the test's directory, for clean-up checks.
    pub fn exists(&self, path: &str) -> bool {
        Path::new(path).exists()
    }
}

impl Drop for T<'_> {
    fn drop(&mut self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(|poison| poison.into_inner()));
        let removers: [(&str, &[&str]); 4] = [
            ("container", &["rm", "-f", "-v"]),
            ("network", &["network", "rm"]),
            ("volume", &["volume", "rm", "-f"]),
            ("image", &["rmi", "-f"]),
        ];
        for (kind, remove) in removers {
            let names: Vec<&str> =
                made.iter().filter(|(of, _)| *of == kind).map(|(_, name)| name.as_str()).collect();
            if !names.is_empty() {
                let _ = self.world.client().args(remove).args(names).output();
            }
        }
    }
}

fn finish(mut command: Command, args: &[String], input: &str) -> Out {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().unwrap();
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input.as_bytes());
    }
    Out::new(args, &child.wait_with_output().unwrap())
}

/// A client command that has not ended.
pub struct Running {
    child: std::process::Child,
    args: Vec<String>,
}

impl Running {
    /// Waits for its own end.
    pub fn end(self) -> Out {
        Out::new(&self.args, &self.child.wait_with_output().unwrap())
    }
}

/// What a command answered. Every check panics with the whole answer.
pub struct Out {
    what: String,
    code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Out {
    fn new(args: &[String], output: &std::process::Output) -> Self {
        Self {
            what: args.join(" "),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    fn check(self, good: bool, wanted: &str) -> Self {
        assert!(
            good,
            "`{}`: wanted {wanted}\nexit code: {}\nstdout: {}\nstderr: {}",
            self.what, self.code, self.stdout, self.stderr
        );
        self
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        let good = self.code == code;
        self.check(good, &format!("exit code {code}"))
    }

    #[track_caller]
    pub fn fails(self) -> Self {
        let good = self.code != 0;
        self.check(good, "a failure")
    }

    #[track_caller]
    pub fn is(self, text: &str) -> Self {
        let good = self.stdout.trim() == text;
        self.check(good, &format!("stdout {text:?}"))
    }

    #[track_caller]
    pub fn has(self, text: &str) -> Self {
        let good = self.stdout.contains(text);
        self.check(good, &format!("{text:?} in stdout"))
    }

    #[track_caller]
    pub fn lacks(self, text: &str) -> Self {
        let good = !self.stdout.contains(text);
        self.check(good, &format!("no {text:?} in stdout"))
    }

    /// The error text, compared without regard to case (Docker changed the first letter between versions).
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        let good = self.stderr.to_lowercase().contains(&text.to_lowercase());
        self.check(good, &format!("{text:?} in stderr"))
    }

    #[track_caller]
    pub fn lines(self, count: usize) -> Self {
        let good = self.stdout.lines().count() == count;
        self.check(good, &format!("{count} lines"))
    }

    /// Standard output without the white space around it.
    pub fn text(&self) -> String {
        self.stdout.trim().to_owned()
    }

    /// Standard output and error together, trimmed.
    pub fn both(&self) -> String {
        format!("{}{}", self.stdout, self.stderr).trim().to_owned()
    }
}
