//! Several pretended hosts on one wire: sandboxes with a daemon each, joined by a bridge in a sandbox of its own.
//!
//! ```text
//!   h1 ── lan0 10.64.0.1/24 ──┐
//!   h2 ── lan0 10.64.0.2/24 ──┼── lan (bridge, in the switch's sandbox)
//!   h3 ── lan0 10.64.0.3/24 ──┘      its ports h1, h2, h3 are set down and up
//! ```
//!
//! A host's own `eth0` (see `sandbox`) stays beside it and leads to the test alone: hosts reach one another by `lan0` only.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{
    daemon::{Daemon, DaemonOptions, Subject},
    sandbox::{Sandbox, run},
};

/// Hosts that the wire's subnet has room for.
const MOST: usize = 250;

/// One host of a lab.
#[derive(Debug)]
pub struct LabHost {
    /// `h1`, `h2`, …: its name, and the switch's port that it is plugged into.
    pub name: String,
    /// Its address on the wire.
    pub address: Ipv4Addr,
    /// Its daemon; `None` where none was asked for.
    pub daemon: Option<Daemon>,
    /// Its namespaces. Last, so that the daemon ends first.
    pub sandbox: Sandbox,
}

impl LabHost {
    /// Starts the host's daemon, told its name and its address.
    ///
    /// # Errors
    /// It does not become ready; with the end of its log.
    pub fn power(&mut self, mut options: DaemonOptions) -> Result<()> {
        let own = ["--name", &self.name, "--underlay", &self.address.to_string()].map(str::to_owned);
        options.extra.extend(own);
        let daemon = Daemon::start(&self.sandbox, Subject::Weft, "d", options);
        self.daemon = Some(daemon.with_context(|| format!("the daemon of {}", self.name))?);
        Ok(())
    }
}

/// Hosts on one wire. Everything ends with it.
#[derive(Debug)]
pub struct Lab {
    /// In the order of their names.
    pub hosts: Vec<LabHost>,
    switch: Sandbox,
}

impl Lab {
    /// Hosts `h1` to `hN`, each with a daemon that was told its name and its address (`--name`, `--underlay`).
    ///
    /// Must be called on a thread that lives as long as the lab; see [`Sandbox::new`].
    pub fn start(hosts: usize, options: &DaemonOptions) -> Result<Self> {
        let mut lab = Self::wire(hosts)?;
        lab.hosts.iter_mut().try_for_each(|host| host.power(options.clone()))?;
        Ok(lab)
    }

    /// The same without daemons.
    pub fn wire(hosts: usize) -> Result<Self> {
        ensure!((1..=MOST).contains(&hosts), "a lab has 1 to {MOST} hosts");
        let switch = Sandbox::new().context("the switch")?;
        run(switch.command("ip").args(["link", "add", "lan", "type", "bridge"]))?;
        run(switch.command("ip").args(["link", "set", "lan", "up"]))?;
        let mut lab = Self { hosts: Vec::new(), switch };
        for number in 1..=hosts {
            let host = lab.plug(number).with_context(|| format!("host {number}"))?;
            lab.hosts.push(host);
        }
        Ok(lab)
    }

    fn plug(&self, number: usize) -> Result<LabHost> {
        let (sandbox, name) = (Sandbox::new()?, format!("h{number}"));
        let address = Ipv4Addr::new(10, 64, 0, u8::try_from(number)?);
        let (here, there) = (sandbox.init_pid().to_string(), self.switch.init_pid().to_string());
        run(Command::new("ip")
            .args(["link", "add", "lan0", "netns", &here, "type", "veth", "peer", "name", &name])
            .args(["netns", &there]))?;
        run(self.switch.command("ip").args(["link", "set", &name, "master", "lan", "up"]))?;
        run(sandbox.command("ip").args(["addr", "add", &format!("{address}/24"), "dev", "lan0"]))?;
        run(sandbox.command("ip").args(["link", "set", "lan0", "up"]))?;
        Ok(LabHost { name, address, daemon: None, sandbox })
    }

    /// Pulls a host's cable, or puts it back.
    pub fn link(&self, host: &LabHost, up: bool) -> Result<()> {
        set_link(self.switch.init_pid(), &host.name, up)
    }

    /// First process of the switch's sandbox, for [`set_link`] from another program.
    pub fn switch_pid(&self) -> i32 {
        self.switch.init_pid()
    }
}

/// Sets the port of a host at a lab's switch up or down.
pub fn set_link(switch: i32, host: &str, up: bool) -> Result<()> {
    let word = if up { "up" } else { "down" };
    run(crate::sandbox::enter(switch, "ip").args(["link", "set", host, word]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_reach_one_another_until_the_cable_is_pulled() {
        let lab = Lab::wire(3).unwrap();
        let ping = |from: &LabHost, to: &LabHost| {
            let mut command = from.sandbox.command("busybox");
            let to = to.address.to_string();
            command.args(["ping", "-c", "1", "-W", "1", &to]).output().unwrap().status.success()
        };
        let [a, b, c] = &lab.hosts[..] else { panic!("three hosts") };
        assert!(ping(a, b) && ping(b, c) && ping(c, a));
        lab.link(b, false).unwrap();
        assert!(!ping(a, b) && ping(c, a));
        lab.link(b, true).unwrap();
        assert!(ping(a, b));
        assert!(Lab::wire(0).is_err());
    }
}
