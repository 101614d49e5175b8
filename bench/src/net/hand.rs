//! The reference: two namespaces on a bridge, made by hand with `ip`, in a sandbox of their own.
//!
//! ```text
//!   left 10.250.0.2 ─ veth ─┐
//!                           ├─ hand0 (bridge, 10.250.0.1) ── eth0 of the sandbox: DNAT of one port, masquerade
//!   right 10.250.0.3 ─ veth ┘
//! ```

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use weft_testkit::{Sandbox, sandbox};

use super::rig::Netns;

/// Address of the left namespace.
pub const LEFT: &str = "10.250.0.2";
/// Address of the right one.
pub const RIGHT: &str = "10.250.0.3";
/// The port that is passed on to the right namespace's port of the same number.
pub const PORT: u16 = 5300;

pub struct Hand {
    pub left: Netns,
    pub right: Netns,
    // Dropped in this order: what holds the namespaces, then the sandbox.
    _holders: [Holder; 2],
    pub sandbox: Sandbox,
}

/// A process that holds a network namespace.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Hand {
    pub fn new() -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let inside = Netns::of_process(sandbox.init_pid());
        let ip = |args: &str| -> Result<()> {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net={}", inside.0)).args(["--", "ip"]).args(args.split(' '));
            sandbox::run(&mut command)
        };
        ip("link add hand0 type bridge")?;
        ip("addr add 10.250.0.1/24 dev hand0")?;
        ip("link set hand0 up")?;
        let (left, holder_left) = plug(&ip, "handl", LEFT)?;
        let (right, holder_right) = plug(&ip, "handr", RIGHT)?;
        let rules = format!(
            "echo 1 > /proc/sys/net/ipv4/ip_forward && nft -f - <<'END'
table ip hand {{
  chain in {{ type nat hook prerouting priority dstnat; iifname eth0 tcp dport {PORT} dnat to {RIGHT}; }}
  chain out {{ type nat hook postrouting priority srcnat; oifname eth0 masquerade; }}
}}
END"
        );
        sandbox::run(sandbox.command("sh").args(["-c", &rules]))?;
        Ok(Self { left, right, _holders: [holder_left, holder_right], sandbox })
    }
}

impl Hand {
    /// Subjects the pair to a table as one would write it by hand for what policies do: verdicts by who began the
    /// connection, who answers and at which port, for what the bridge shows to the IP hooks.
    pub fn with_policy(self) -> Result<Self> {
        let script = format!(
            "ip link set hand0 type bridge nf_call_iptables 1 && nft -f - <<'END'
table ip handpolicy {{
  map verdicts {{
    type ipv4_addr . ipv4_addr . inet_proto . inet_service : verdict
    counter
    elements = {{ {LEFT} . {RIGHT} . tcp . {PORT} : accept, {LEFT} . {RIGHT} . udp . {PORT} : accept }}
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state invalid drop
    ct direction original ip saddr . ip daddr . meta l4proto . th dport vmap @verdicts
    ct direction reply ip daddr . ip saddr . meta l4proto . th sport vmap @verdicts
  }}
}}
END"
        );
        sandbox::run(self.sandbox.command("sh").args(["-c", &script]))?;
        Ok(self)
    }
}

/// A namespace whose `eth0` is on the bridge.
fn plug(ip: &impl Fn(&str) -> Result<()>, link: &str, address: &str) -> Result<(Netns, Holder)> {
    let mut command = Command::new("unshare");
    command.args(["--net", "--", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"]);
    sandbox::die_with_parent(&mut command);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start unshare")?;
    let mut said = String::new();
    let stdout = child.stdout.take().context("its output")?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut said)?;
    let pid = child.id();
    let (holder, netns) = (Holder(child), Netns::of_process(i32::try_from(pid)?));
    ip(&format!("link add {link} type veth peer name eth0 netns {pid}"))?;
    ip(&format!("link set {link} master hand0 up"))?;
    let script = format!(
        "ip addr add {address}/24 dev eth0 && ip link set eth0 up && ip route add default via 10.250.0.1"
    );
    let mut inside = Command::new("nsenter");
    inside.arg(format!("--net={}", netns.0)).args(["--", "sh", "-c", &script]);
    sandbox::run(&mut inside)?;
    Ok((netns, holder))
}
