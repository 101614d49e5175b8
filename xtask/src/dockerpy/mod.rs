//! docker-py's own integration tests, as a judge that knows nothing of us.
//!
//! The tests come from the source package of docker 6.1.3 on the package index and are unpacked under
//! `target/dockerpy`; none of their code is ours or committed. What the suite expects of its world is
//! made here: three different images, a registry on loopback that is the subject's mirror of Docker Hub,
//! a network namespace with one address and a mount namespace with shared propagation.
//!
//! The run is cut into shards, each with a subject of its own, because most of a test's time is waiting.
//! Results are one JSON list (`target/dockerpy/SUBJECT.json`). On Weft they are compared with
//! `crates/conformance/dockerpy/dockerd-passes.txt`.

mod shard;
mod verdict;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use weft_testkit::{ImageSpec, Subject, busybox_archive};

const VERSION: &str = "6.1.3";
/// Versions the suite was written for; newer `requests` breaks docker-py's unix-socket adapter.
const PACKAGES: &[&str] = &[
    "docker==6.1.3",
    "paramiko",
    "pytest==7.1.2",
    "pytest-timeout==2.1.0",
    "requests==2.31.0",
    "urllib3<2",
    "setuptools==65.5.1",
];
const IMAGES: &[&str] = &["alpine:3.10", "alpine:latest", "busybox:latest", "hello-world:latest"];

/// `cargo xtask dockerpy`.
#[derive(clap::Args)]
pub struct Args {
    /// dockerd or weft.
    #[arg(long, default_value = "weft")]
    subject: String,
    /// How many subjects run side by side.
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// Also run the families that are out of scope.
    #[arg(long)]
    all: bool,
    /// Write dockerd-passes.txt from this run (only with `--subject dockerd`).
    #[arg(long)]
    bless: bool,
    /// Given to pytest: `-k NAME`, a node id, …; then nothing is compared.
    #[arg(last = true)]
    rest: Vec<String>,
}

/// One finished test.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Outcome {
    id: String,
    outcome: String,
    seconds: f64,
    why: String,
}

/// Where everything of this runner lives.
struct Place {
    root: PathBuf,
    data: PathBuf,
}

impl Place {
    fn new() -> Result<Self> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("workspace")?.to_owned();
        let place = Self {
            root: workspace.join("target/dockerpy"),
            data: workspace.join("crates/conformance/dockerpy"),
        };
        std::fs::create_dir_all(&place.root)?;
        Ok(place)
    }

    fn python(&self) -> PathBuf {
        self.root.join("venv/bin/python")
    }

    fn suite(&self) -> PathBuf {
        self.root.join(format!("docker-{VERSION}"))
    }

    fn image(&self, tag: &str) -> PathBuf {
        self.root.join(format!("{}.tar", tag.replace(':', "-")))
    }
}

/// Runs the suite and judges it.
pub fn run(args: &Args) -> Result<()> {
    let subject = Subject::parse(&args.subject)?;
    let place = Place::new()?;
    prepare(&place)?;
    let begun = Instant::now();
    let ids = collect(&place, args)?;
    let known = durations(&place);
    let shards = shard::split(&ids, &known, args.jobs);
    println!("{} tests in {} shards on {}", ids.len(), shards.len(), subject.name());
    let mut outcomes = shard::run_all(&place, subject, &shards)?;
    outcomes.sort_by(|a, b| a.id.cmp(&b.id));
    std::fs::write(place.root.join("last.json"), serde_json::to_vec_pretty(&outcomes)?)?;
    if args.rest.is_empty() {
        let file = place.root.join(format!("{}.json", subject.name()));
        std::fs::write(file, serde_json::to_vec_pretty(&outcomes)?)?;
    }
    let missing = ids.len().saturating_sub(outcomes.len());
    let count = |what: &str| outcomes.iter().filter(|outcome| outcome.outcome == what).count();
    println!(
        "{} pass, {} do not, {} skip, {missing} not reported, in {:.0} s",
        count("passed"),
        count("failed"),
        count("skipped"),
        begun.elapsed().as_secs_f64()
    );
    if args.bless {
        ensure!(subject == Subject::Dockerd, "only dockerd's results are the measure");
        return verdict::bless(&place, &outcomes);
    }
    if subject == Subject::Weft && args.rest.is_empty() {
        return verdict::compare(&place, &outcomes);
    }
    for outcome in outcomes.iter().filter(|outcome| outcome.outcome == "failed") {
        println!("FAILED {}: {}", outcome.id, outcome.why.lines().next().unwrap_or_default());
    }
    Ok(())
}

/// The interpreter, the suite and the images, made once.
fn prepare(place: &Place) -> Result<()> {
    if !place.root.join("venv/ready").exists() {
        checked(Command::new("python3").args(["-m", "venv"]).arg(place.root.join("venv")))?;
        checked(Command::new(place.python()).args(["-m", "pip", "install", "-q"]).args(PACKAGES))?;
        std::fs::write(place.root.join("venv/ready"), "")?;
    }
    if !place.suite().join("tests/integration").exists() {
        let wanted = format!("docker=={VERSION}");
        let mut download = Command::new(place.python());
        download.args(["-m", "pip", "download", "-q", "--no-binary", ":all:", "--no-deps", "-d"]);
        checked(download.arg(&place.root).arg(wanted))?;
        let archive = place.root.join(format!("docker-{VERSION}.tar.gz"));
        checked(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&place.root))?;
    }
    for tag in IMAGES {
        busybox_archive(&ImageSpec::tagged(tag), &place.image(tag))?;
    }
    Ok(())
}

fn checked(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// Node ids of the tests to run, out-of-scope families left out.
fn collect(place: &Place, args: &Args) -> Result<Vec<String>> {
    let mut command = Command::new(place.python());
    command.args(["-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]);
    if !args.rest.iter().any(|word| word.starts_with("tests/")) {
        command.arg("tests/integration");
    }
    let output = command.args(&args.rest).current_dir(place.suite()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let skip =
        if args.all { BTreeMap::new() } else { verdict::reasons(&place.data.join("out-of-scope.txt"))? };
    let ids: Vec<String> = text
        .lines()
        .filter(|line| line.starts_with("tests/") && line.contains("::"))
        .filter(|id| !skip.keys().any(|start| id.starts_with(start.as_str())))
        .map(str::to_owned)
        .collect();
    ensure!(!ids.is_empty(), "pytest collected nothing: {text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(ids)
}

/// Seconds that each test took in earlier runs, to balance the shards.
fn durations(place: &Place) -> BTreeMap<String, f64> {
    let mut known = BTreeMap::new();
    for name in ["dockerd.json", "weft.json"] {
        let bytes = std::fs::read(place.root.join(name)).unwrap_or_default();
        let outcomes: Vec<Outcome> = serde_json::from_slice(&bytes).unwrap_or_default();
        known.extend(outcomes.into_iter().map(|outcome| (outcome.id, outcome.seconds)));
    }
    known
}
