//! `cargo xtask bench many`: hundreds of containers on one network of this machine.
//!
//! All start (four clients at a time), all resolve each other's names through 127.0.0.11, all stop and go. The questions
//! are asked by a thread of ours inside each container's network namespace, so that 200 × 199 of them measure the
//! resolver and not as many processes; a few containers ask with their own C library's resolver besides.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use weft_testkit::{ImageSpec, Subject, busybox_archive};

use crate::measure::{Bed, median};

/// Clients at a time.
const AT_ONCE: usize = 4;
/// Namespaces asked from at a time.
const ASKERS: usize = 8;
/// A question without an answer is asked again after this, as the C library does; three times in all.
const PATIENCE: Duration = Duration::from_secs(5);
/// Containers whose own resolver is asked too.
const SAMPLE: usize = 10;

/// `cargo xtask bench many`.
#[derive(clap::Args)]
pub struct Args {
    /// How many containers.
    #[arg(long, default_value_t = 200)]
    count: usize,
    /// dockerd or weft.
    #[arg(long, default_value = "weft")]
    subject: String,
    /// Also write the table to this file.
    #[arg(long)]
    out: Option<std::path::PathBuf>,
}

/// A container of the crowd.
struct Member {
    name: String,
    address: Ipv4Addr,
    /// Path of its network namespace, as the sandbox sees it.
    netns: String,
}

/// Measures and prints.
pub fn run(args: &Args) -> Result<()> {
    ensure!((2..=900).contains(&args.count), "--count: 2 to 900");
    let archives = tempfile::Builder::new().prefix("weft-bench-").tempdir()?;
    busybox_archive(&ImageSpec::tagged("busybox:latest"), &archives.path().join("small.tar"))?;
    let bed = Bed::new(Subject::parse(&args.subject)?, &archives)?;
    let mut table = Table::default();
    crowd(&bed, args.count, &mut table)?;
    let text = format!(
        "{} containers on one network, {}\n\n{}",
        args.count,
        bed.daemon.subject().name(),
        table.text
    );
    print!("{text}");
    if let Some(path) = &args.out {
        std::fs::write(path, &text)?;
    }
    Ok(())
}

#[derive(Default)]
struct Table {
    text: String,
}

impl Table {
    fn row(&mut self, what: &str, figure: String) -> Result<()> {
        eprintln!("{what}: {figure}");
        Ok(writeln!(self.text, "{what:58} {figure:>14}")?)
    }
}

fn crowd(bed: &Bed, count: usize, table: &mut Table) -> Result<()> {
    let before = links(bed)?;
    bed.docker(&["network", "create", "--subnet", "10.90.0.0/22", "crowd"])?;
    // One comes and goes first: what is made once is no container's memory.
    bed.docker(&["run", "--rm", "--network", "crowd", "busybox", "true"])?;
    let empty = bed.pss_kb()?;
    let names: Vec<String> = (1..=count).map(|n| format!("member-{n}")).collect();
    let (took, each) = start(bed, &names)?;
    let edge = (count / 10).max(1);
    table.row("all started, four at a time", format!("{took:.1} s"))?;
    table.row("one start, the first tenth (median)", format!("{:.0} ms", median(each[..edge].to_vec())))?;
    table.row(
        "one start, the last tenth (median)",
        format!("{:.0} ms", median(each[count - edge..].to_vec())),
    )?;
    let members = members(bed, &names)?;
    ensure!(members.len() == count, "{} of {count} run", members.len());
    let full = bed.pss_kb()?;
    table.row(
        "memory for each (PSS, shim and its part of the daemon)",
        format!("{:.0} kB", (full - empty) / count as f64),
    )?;
    let begun = Instant::now();
    let asked = resolve_all(bed, &members)?;
    let took = begun.elapsed().as_secs_f64();
    table.row(&format!("all resolve all: {asked} questions, none unanswered"), format!("{took:.1} s"))?;
    for member in members.iter().take(SAMPLE) {
        let peer = &members[count - 1];
        let said = bed.docker(&["exec", &member.name, "ping", "-c", "1", "-W", "5", &peer.name])?;
        ensure!(said.contains(&peer.address.to_string()), "{} finds {} at {said}", member.name, peer.name);
    }
    let crowded = bed.pss_kb()?;
    table.row("memory of daemon and shims, none running", format!("{:.1} MB", empty / 1024.0))?;
    table.row("the same, all running and resolved", format!("{:.1} MB", crowded / 1024.0))?;
    let listed = Instant::now();
    bed.docker(&["ps", "-q"])?;
    table.row("docker ps", format!("{:.0} ms", listed.elapsed().as_secs_f64() * 1000.0))?;
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let begun = Instant::now();
    bed.docker(&[&["stop"], &all[..]].concat())?;
    table.row("all stopped, one command", format!("{:.1} s", begun.elapsed().as_secs_f64()))?;
    ensure!(bed.docker(&["ps", "-q"])?.is_empty(), "some still run");
    let begun = Instant::now();
    bed.docker(&[&["rm"], &all[..]].concat())?;
    table.row("all removed, one command", format!("{:.1} s", begun.elapsed().as_secs_f64()))?;
    bed.docker(&["network", "rm", "crowd"])?;
    // Links go behind the answer.
    let end = Instant::now() + Duration::from_secs(10);
    let mut left = links(bed)?;
    while left != before && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
        left = links(bed)?;
    }
    ensure!(left == before, "links are left: {left}, before {before}");
    Ok(())
}

/// How many links the sandbox has.
fn links(bed: &Bed) -> Result<usize> {
    let output = bed.sandbox.command("ip").args(["-o", "link"]).output().context("start ip")?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().count())
}

/// Starts them in order, and says how long all took, in seconds, and each, in milliseconds.
fn start(bed: &Bed, names: &[String]) -> Result<(f64, Vec<f64>)> {
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    let worker = || -> Result<Vec<(usize, f64)>> {
        let mut mine = Vec::new();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(name) = names.get(n) else { return Ok(mine) };
            let args =
                ["run", "-d", "--name", name, "--network", "crowd", "--stop-signal", "KILL", "busybox"];
            mine.push((n, bed.time(&[&args[..], &["sleep", "100000"]].concat())?));
        }
    };
    let mut each = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        let joined = workers.into_iter().map(|w| w.join().unwrap_or_else(|_| bail!("a client panicked")));
        Ok::<_, anyhow::Error>(joined.collect::<Result<Vec<_>>>()?.concat())
    })?;
    each.sort_by_key(|(n, _)| *n);
    Ok((begun.elapsed().as_secs_f64(), each.into_iter().map(|(_, took)| took).collect()))
}

fn members(bed: &Bed, names: &[String]) -> Result<Vec<Member>> {
    let format = "{{.Name}} {{.NetworkSettings.Networks.crowd.IPAddress}} {{.NetworkSettings.SandboxKey}} {{.State.Running}}";
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let text = bed.docker(&[&["inspect", "-f", format], &all[..]].concat())?;
    let member = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
        [name, address, netns, "true"] => Ok(Member {
            name: name.trim_start_matches('/').to_owned(),
            address: address.parse()?,
            netns: netns.to_owned(),
        }),
        _ => bail!("does not run: {line}"),
    };
    text.lines().map(member).collect()
}

/// Every member asks for every other; answers the number of questions.
fn resolve_all(bed: &Bed, members: &[Member]) -> Result<usize> {
    let (next, asked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let root = format!("/proc/{}/root", bed.sandbox.init_pid());
    let worker = || -> Result<()> {
        while let Some(member) = members.get(next.fetch_add(1, Ordering::Relaxed)) {
            // A thread of its own for each: its network namespace stays with it.
            std::thread::scope(|scope| {
                let ask = scope.spawn(|| ask_all(&root, member, members, &asked));
                ask.join().unwrap_or_else(|_| bail!("the asking panicked"))
            })?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..ASKERS).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|w| w.join().unwrap_or_else(|_| bail!("the asking panicked")))
    })?;
    Ok(asked.into_inner())
}

fn ask_all(root: &str, member: &Member, members: &[Member], asked: &AtomicUsize) -> Result<()> {
    let path = format!("{root}{}", member.netns);
    let netns = std::fs::File::open(&path).with_context(|| path.clone())?;
    nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET).context("entering the namespace")?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect("127.0.0.11:53")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    for (id, peer) in members.iter().enumerate().filter(|(_, peer)| peer.name != member.name) {
        let found = ask(&socket, u16::try_from(id)?, &peer.name)
            .with_context(|| format!("{} asks for {}", member.name, peer.name))?;
        ensure!(
            found == peer.address,
            "{} finds {} at {found}, not {}",
            member.name,
            peer.name,
            peer.address
        );
        asked.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// One question for an address (RFC 1035, section 4.1), and the last four bytes of the answer: the one A record's.
fn ask(socket: &UdpSocket, id: u16, name: &str) -> Result<Ipv4Addr> {
    let mut question = Vec::from(id.to_be_bytes());
    question.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0, u8::try_from(name.len())?]);
    question.extend(name.bytes());
    question.extend([0, 0, 1, 0, 1]);
    let mut answer = [0; 512];
    for _ in 0..3 {
        socket.send(&question)?;
        while let Ok(n) = socket.recv(&mut answer) {
            if answer[..2] != id.to_be_bytes() {
                continue;
            }
            let (code, answers) = (answer[3] & 15, u16::from_be_bytes([answer[6], answer[7]]));
            ensure!(code == 0 && answers == 1 && n > 20, "code {code}, {answers} answers");
            let last: [u8; 4] = answer[n - 4..n].try_into()?;
            return Ok(last.into());
        }
    }
    bail!("no answer")
}
