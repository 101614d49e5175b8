//! Throughput (iperf3, cubic, one core each for sender and receiver) and round trips, over Weft's paths and over those
//! made by hand, in turns; told is their ratio.

use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::hand::{Hand, LEFT, PORT, RIGHT};
use super::rig::{HERE, Netns, THERE, need};
use super::trips::{self, Path};
use super::turns::ratio;
use crate::measure::Bed;

/// Seconds of one stream.
const SECONDS: &str = "1";
/// Streams of one sample, of each side.
pub(super) const STREAMS: usize = 6;

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
    let to = address(bed, "right")?;
    ratio(STREAMS, || stream(&left, &right, &to, streams), || stream(&hand.left, &hand.right, RIGHT, streams))
}

/// From the other side of the sandbox's `eth0`, which is this program's own namespace.
fn outside() -> Netns {
    Netns("/proc/self/ns/net".to_owned())
}

/// Another host to a published port.
pub fn inward(bed: &mut Bed) -> Result<f64> {
    let right = Netns::of(bed, "right")?;
    let hand = Hand::new()?;
    let (ours, theirs) = (bed.sandbox.address().to_string(), hand.sandbox.address().to_string());
    ratio(STREAMS, || stream(&outside(), &right, &ours, 1), || stream(&outside(), &hand.right, &theirs, 1))
}

/// The masqueraded way out.
pub fn outward(bed: &mut Bed) -> Result<f64> {
    let right = Netns::of(bed, "right")?;
    let hand = Hand::new()?;
    // The way out of a sandbox ends at its own wire; nothing beyond is needed.
    let ours = bed.sandbox.outside_address().to_string();
    let theirs = hand.sandbox.outside_address().to_string();
    ratio(STREAMS, || stream(&right, &outside(), &ours, 1), || stream(&hand.right, &outside(), &theirs, 1))
}

/// 64 bytes there and back, both ends on one core.
pub fn round_trip(bed: &mut Bed) -> Result<f64> {
    let hand = Hand::new()?;
    let ours = ours(bed)?;
    let theirs = Path::new(&hand.left, &hand.right, LEFT, RIGHT)?;
    ratio(trips::TURNS, || ours.turn(), || theirs.turn())
}

/// Round trips between the containers.
pub(super) fn ours(bed: &Bed) -> Result<Path> {
    let (left, right) = (Netns::of(bed, "left")?, Netns::of(bed, "right")?);
    Path::new(&left, &right, "0.0.0.0", &address(bed, "right")?)
}
