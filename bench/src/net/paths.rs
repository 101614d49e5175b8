//! Throughput (iperf3, cubic, one core each for sender and receiver) and round trips, over Weft's paths and over those
//! made by hand, one after the other in each sample; told is their ratio.

use std::net::UdpSocket;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::hand::{Hand, LEFT, PORT, RIGHT};
use super::rig::{HERE, Netns, THERE, need};
use crate::measure::Bed;

/// Seconds of one stream.
const SECONDS: &str = "2";
/// Round trips of one sample.
const TRIPS: usize = 20_000;

/// Two containers on a network, and the hand-made pair is made anew for each sample's run.
pub fn pair(bed: &mut Bed) -> Result<()> {
    super::publish::network(bed, "bench-path")?;
    for name in ["left", "right"] {
        bed.docker(&["run", "-d", "--name", name, "--network", "bench-path", "busybox", "sleep", "100000"])?;
    }
    Ok(())
}

/// The right one with a published port.
pub fn published(bed: &mut Bed) -> Result<()> {
    super::publish::network(bed, "bench-path")?;
    let publish = format!("{PORT}:{PORT}");
    let base = ["run", "-d", "--name", "right", "--network", "bench-path", "-p", &publish];
    bed.docker(&[&base[..], &["busybox", "sleep", "100000"]].concat()).map(drop)
}

pub(super) fn address(bed: &Bed, container: &str) -> Result<String> {
    bed.docker(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container])
}

/// A server that ends with this.
struct Server(Child);

impl Server {
    fn start(at: &Netns) -> Result<Self> {
        let mut command = at.command(THERE, "iperf3");
        command.args(["-s", "-p", &PORT.to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
        weft_testkit::sandbox::die_with_parent(&mut command);
        let server = Self(command.stderr(Stdio::null()).spawn().context("start iperf3")?);
        std::thread::sleep(Duration::from_millis(300));
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Bits a second from `client` to a server in `server`, reached at `to`.
pub(super) fn stream(client: &Netns, server: &Netns, to: &str, streams: usize) -> Result<f64> {
    need("iperf3")?;
    let _server = Server::start(server)?;
    let (port, streams) = (PORT.to_string(), streams.to_string());
    let output = client
        .command(HERE, "iperf3")
        .args(["-c", to, "-p", &port, "-C", "cubic", "-P", &streams, "-t", SECONDS, "-J"])
        .output()
        .context("start iperf3")?;
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).context("iperf3's report")?;
    ensure!(output.status.success(), "iperf3 to {to}: {}", told["error"]);
    told["end"]["sum_received"]["bits_per_second"].as_f64().context("iperf3 told no sum")
}

/// Container to container.
pub fn bridge(bed: &Bed, streams: usize) -> Result<f64> {
    let (left, right) = (Netns::of(bed, "left")?, Netns::of(bed, "right")?);
    let hand = Hand::new()?;
    let reference = stream(&hand.left, &hand.right, RIGHT, streams)?;
    Ok(stream(&left, &right, &address(bed, "right")?, streams)? / reference)
}

/// From the other side of the sandbox's `eth0`, which is this program's own namespace.
fn outside() -> Netns {
    Netns("/proc/self/ns/net".to_owned())
}

/// Another host to a published port.
pub fn inward(bed: &mut Bed) -> Result<f64> {
    let right = Netns::of(bed, "right")?;
    let hand = Hand::new()?;
    let reference = stream(&outside(), &hand.right, &hand.sandbox.address().to_string(), 1)?;
    Ok(stream(&outside(), &right, &bed.sandbox.address().to_string(), 1)? / reference)
}

/// The masqueraded way out.
pub fn outward(bed: &mut Bed) -> Result<f64> {
    let right = Netns::of(bed, "right")?;
    let hand = Hand::new()?;
    let reference = stream(&hand.right, &outside(), &hand.sandbox.outside_address().to_string(), 1)?;
    let gateway = bed.sandbox.outside_address().to_string();
    // The way out of a sandbox ends at its own wire; nothing beyond is needed.
    Ok(stream(&right, &outside(), &gateway, 1)? / reference)
}

/// 64 bytes there and back, both ends on one core.
pub fn round_trip(bed: &mut Bed) -> Result<f64> {
    let (left, right) = (Netns::of(bed, "left")?, Netns::of(bed, "right")?);
    let hand = Hand::new()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // Short turns: a slow moment of the machine hits both.
    for _ in 0..5 {
        theirs.push(trips(&hand.left, &hand.right, LEFT, RIGHT)?);
        ours.push(trips(&left, &right, "0.0.0.0", &address(bed, "right")?)?);
    }
    Ok(crate::measure::median(ours) / crate::measure::median(theirs))
}

/// Seconds of one round trip.
pub(super) fn trips(from: &Netns, to: &Netns, source: &str, target: &str) -> Result<f64> {
    let echo = to.run(THERE, || Ok(UdpSocket::bind(("0.0.0.0", PORT))?))?;
    echo.set_read_timeout(Some(Duration::from_millis(500)))?;
    let server = std::thread::spawn(move || {
        let _ = super::rig::pin(nix::unistd::Pid::from_raw(0), THERE);
        let mut buffer = [0u8; 64];
        while let Ok((size, peer)) = echo.recv_from(&mut buffer) {
            if echo.send_to(&buffer[..size], peer).is_err() {
                break;
            }
        }
    });
    let took = from.run(THERE, || {
        let socket = UdpSocket::bind((source, 0))?;
        socket.connect((target, PORT))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut buffer = [7u8; 64];
        let begun = Instant::now();
        for _ in 0..TRIPS {
            socket.send(&buffer)?;
            socket.recv(&mut buffer)?;
        }
        Ok(begun.elapsed())
    });
    server.join().ok().context("the echo panicked")?;
    Ok(took?.as_secs_f64() / f64::from(u32::try_from(TRIPS)?))
}
