//! The resolver at 127.0.0.11, asked from a container's own namespace.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::load;
use super::rig::{HERE, Netns, OneCore, cpu_seconds};
use crate::measure::Bed;

/// Long enough for some ten thousand questions of the slowest.
const TIME: Duration = Duration::from_secs(2);

/// One sample.
pub struct Sample {
    pub per_second: f64,
    pub per_cpu_second: f64,
    /// Milliseconds.
    pub p99: f64,
}

/// Two containers on a network with names.
pub fn ready(bed: &mut Bed) -> Result<()> {
    super::publish::network(bed, "bench-names")?;
    for name in ["asked", "asker"] {
        bed.docker(&["run", "-d", "--name", name, "--network", "bench-names", "busybox", "sleep", "100000"])?;
    }
    Ok(())
}

/// Asks for one container from the other, the daemon on one core and the questions on another.
pub fn resolve(bed: &Bed, outstanding: usize) -> Result<Sample> {
    let inside = Netns::of(bed, "asker")?;
    let server = "127.0.0.11:53".parse()?;
    let _pinned = OneCore::new(bed)?;
    let before = cpu_seconds(bed)?;
    let told = inside.run(HERE, move || load::ask(server, "asked", outstanding, TIME))?;
    let cpu = (cpu_seconds(bed)? - before).max(0.01);
    ensure!(told.lost == 0, "{} questions were lost", told.lost);
    let answers = f64::from(u32::try_from(told.answers)?);
    Ok(Sample {
        per_second: answers / told.took.as_secs_f64(),
        per_cpu_second: answers / cpu,
        p99: told.p99.as_secs_f64() * 1000.0,
    })
}
