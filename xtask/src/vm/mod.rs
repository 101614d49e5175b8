//! `cargo xtask vm`: Weft on a machine with cgroup version 2 alone.
//!
//! Most builders have version 1 or hybrid, so the machine is brought along: qemu without KVM boots the
//! distribution's cloud kernel with an initramfs of busybox, the weft binary and the `docker` client. [`init`](init.sh)
//! mounts cgroup2, starts `weft up` and plays the cases of [`cases`](cases.sh), whose verdicts come over the serial
//! console:
//!
//! ```text
//! VM-CASE <name> ok|FAIL <seconds>      one for each
//! VM-DONE                               the last one was played
//! ```
//! A case that did not report is a failure, and so is a machine that does not end.

mod initramfs;
mod kernel;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

pub(crate) const INIT: &str = include_str!("init.sh");
pub(crate) const CASES: &str = include_str!("cases.sh");

/// `cargo xtask vm`.
#[derive(clap::Args)]
pub struct Args {
    /// Only these cases, by name, with commas between.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
    /// Give up after so many seconds.
    #[arg(long, default_value_t = 600)]
    patience: u64,
    /// Show all that comes over the console.
    #[arg(long)]
    verbose: bool,
    /// Also write the result to this file.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// What one case came to.
struct Verdict {
    name: String,
    good: bool,
    seconds: String,
    said: Vec<String>,
}

/// Names of all cases, in the order in which they are written.
fn names() -> Vec<&'static str> {
    CASES.lines().filter_map(|line| line.strip_prefix("case_")?.strip_suffix("() {")).collect()
}

/// Boots, plays, judges.
pub fn run(args: &Args) -> Result<()> {
    let all = names();
    for name in &args.cases {
        ensure!(all.contains(&name.as_str()), "no case {name:?}: {}", all.join(" "));
    }
    let chosen: Vec<&str> = all
        .into_iter()
        .filter(|name| args.cases.is_empty() || args.cases.iter().any(|n| n == name))
        .collect();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("workspace")?;
    let place = workspace.join("target/vm");
    std::fs::create_dir_all(&place)?;
    let kernel = kernel::Kernel::fetch(&place)?;
    let begun = Instant::now();
    let initramfs = initramfs::build(&place, &kernel, &chosen)?;
    let made = begun.elapsed();
    let begun = Instant::now();
    let verdicts = play(&place, &kernel.image, &initramfs, args, &chosen)?;
    let text = render(&kernel.release, &verdicts, made, begun.elapsed())?;
    print!("{text}");
    if let Some(path) = &args.out {
        std::fs::write(path, &text)?;
    }
    let failed: Vec<&str> = verdicts.iter().filter(|v| !v.good).map(|v| v.name.as_str()).collect();
    ensure!(failed.is_empty(), "failed on cgroup v2: {}", failed.join(" "));
    Ok(())
}

/// Ends with the value.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn boot(place: &Path, kernel: &Path, initramfs: &Path) -> Result<Machine> {
    // A disk, so that there is something whose input and output can be limited.
    let disk = place.join("disk.img");
    std::fs::File::create(&disk)?.set_len(64 << 20)?;
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "2", "-m", "1536"]);
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"]);
    qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio", disk.display()));
    qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
    qemu.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on"]);
    qemu.stdin(Stdio::null()).stdout(Stdio::piped());
    weft_testkit::sandbox::die_with_parent(&mut qemu);
    Ok(Machine(qemu.spawn().context("start qemu-system-x86_64 (Debian: qemu-system-x86)")?))
}

fn play(place: &Path, kernel: &Path, initramfs: &Path, args: &Args, chosen: &[&str]) -> Result<Vec<Verdict>> {
    let mut machine = boot(place, kernel, initramfs)?;
    let console = machine.0.stdout.take().context("the console")?;
    let (tell, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    let end = Instant::now() + Duration::from_secs(args.patience);
    let (mut verdicts, mut said, mut done) = (Vec::new(), Vec::new(), false);
    while let Ok(line) = heard.recv_timeout(end.saturating_duration_since(Instant::now())) {
        if args.verbose {
            println!("| {line}");
        }
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["VM-CASE", name, word, seconds] => {
                let (name, seconds) = (name.to_owned(), seconds.to_owned());
                verdicts.push(Verdict { name, good: word == "ok", seconds, said: std::mem::take(&mut said) });
            }
            ["VM-DONE"] => {
                done = true;
                break;
            }
            _ => said.push(line),
        }
    }
    if verdicts.is_empty() {
        bail!("no case was played:\n{}", said.join("\n"));
    }
    let silent: Vec<_> =
        chosen.iter().filter(|name| verdicts.iter().all(|v: &Verdict| v.name != **name)).collect();
    for name in silent {
        let why = if done { "it was not played" } else { "the machine ended, or took too long" };
        let mut last = vec![why.to_owned()];
        last.append(&mut said);
        verdicts.push(Verdict { name: (**name).to_owned(), good: false, seconds: "-".into(), said: last });
    }
    Ok(verdicts)
}

fn render(release: &str, verdicts: &[Verdict], made: Duration, took: Duration) -> Result<String> {
    let mut text = String::new();
    let good = verdicts.iter().filter(|v| v.good).count();
    writeln!(
        text,
        "cgroup v2, Linux {release} in qemu without KVM: {good} of {} cases pass",
        verdicts.len()
    )?;
    writeln!(
        text,
        "initramfs made in {:.0} s, machine ran for {:.0} s\n",
        made.as_secs_f64(),
        took.as_secs_f64()
    )?;
    for verdict in verdicts {
        let word = if verdict.good { "ok" } else { "FAIL" };
        writeln!(text, "{:24} {word:5} {:>4} s", verdict.name, verdict.seconds)?;
        if !verdict.good {
            verdict.said.iter().try_for_each(|line| writeln!(text, "    {line}"))?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_found_by_their_names() {
        let names = names();
        assert!(names.contains(&"oom") && names.contains(&"devices"), "{names:?}");
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }
}
