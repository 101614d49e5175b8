//! Networks of running containers, and many published ports.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::measure::Bed;

/// Makes a network unless it is there.
pub fn network(bed: &Bed, name: &str) -> Result<()> {
    if bed.docker(&["network", "inspect", name]).is_ok() {
        return Ok(());
    }
    bed.docker(&["network", "create", name]).map(drop)
}

pub fn connectable(bed: &mut Bed) -> Result<()> {
    network(bed, "bench-connect")?;
    bed.docker(&["run", "-d", "--name", "bench-c", "busybox", "sleep", "100000"]).map(drop)
}

/// `POST path` with a JSON body over the daemon's socket: the client's own start would hide what is measured.
fn post(bed: &Bed, path: &str, body: &str) -> Result<()> {
    ask(&bed.daemon.socket(), "POST", &format!("/v1.41{path}"), body).map(drop)
}

/// A request with a JSON body over a socket; the answer's body.
pub(super) fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let code: u16 = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
    ensure!(code < 300, "{method} {path}: {answer}");
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

pub fn connect(bed: &mut Bed) -> Result<f64> {
    let begun = Instant::now();
    post(bed, "/networks/bench-connect/connect", r#"{"Container":"bench-c"}"#)?;
    post(bed, "/networks/bench-connect/disconnect", r#"{"Container":"bench-c"}"#)?;
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

const RANGE: &str = "20000-20999:20000-20999";

fn create_range(bed: &Bed) -> Result<()> {
    let _ = bed.docker(&["rm", "-f", "bench-range"]);
    bed.docker(&["create", "--name", "bench-range", "-p", RANGE, "busybox", "sleep", "100000"]).map(drop)
}

pub fn range_time(bed: &mut Bed) -> Result<f64> {
    create_range(bed)?;
    let begun = Instant::now();
    post(bed, "/containers/bench-range/start", "")?;
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

/// Beyond what a container without published ports takes.
pub fn range_memory(bed: &mut Bed) -> Result<f64> {
    let _ = bed.docker(&["rm", "-f", "bench-range", "bench-plain"]);
    bed.docker(&["run", "-d", "--name", "bench-plain", "busybox", "sleep", "100000"])?;
    std::thread::sleep(Duration::from_secs(1));
    let before = bed.pss_kb()?;
    bed.docker(&["rm", "-f", "bench-plain"])?;
    create_range(bed)?;
    post(bed, "/containers/bench-range/start", "")?;
    std::thread::sleep(Duration::from_secs(1));
    // A part of the daemon that the kernel took back meanwhile is no gain of the range.
    Ok(((bed.pss_kb()? - before) / 1024.0).max(0.01))
}
