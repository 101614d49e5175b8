//! Ports whose containers answer what this host asks of itself by IPv6: what is published on all addresses, or on `::1`.
//!
//! The kernel takes an answer for `::1` from no other interface than `lo` (RFC 4291, section 2.5.3), so at each such port a
//! driver must lead it there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use crate::{Desired, Observed, Step};

/// By the port's link: the address that answers.
pub type Loopbacks = BTreeMap<String, Ipv6Addr>;

impl Desired {
    /// All of them.
    #[must_use]
    pub fn loopbacks(&self) -> Loopbacks {
        let asked = |ip: IpAddr| ip == Ipv6Addr::UNSPECIFIED || ip == Ipv6Addr::LOCALHOST;
        let targets: BTreeSet<IpAddr> =
            self.publishes.iter().filter(|p| asked(p.host_ip)).map(|p| p.target_ip).collect();
        let one = |port: &crate::Port| {
            let mut own = port.addresses.iter().map(|net| net.addr()).filter(|ip| targets.contains(ip));
            match own.next()? {
                IpAddr::V6(ip) => Some((port.link.clone(), ip)),
                IpAddr::V4(_) => None,
            }
        };
        self.ports.values().filter_map(one).collect()
    }
}

/// After the ports are there, and before anything is published.
pub(crate) fn plan(desired: &Desired, observed: &Observed, steps: &mut Vec<Step>) {
    let wanted = if observed.can_loop { desired.loopbacks() } else { Loopbacks::new() };
    // On many kernels it ends with the port's link.
    let anew: BTreeSet<String> = steps
        .iter()
        .filter_map(|step| match step {
            Step::CreatePort { port, .. } => Some(port.link.clone()),
            _ => None,
        })
        .collect();
    let remove: BTreeSet<String> =
        observed.loopbacks.keys().filter(|link| !wanted.contains_key(*link)).cloned().collect();
    let add: Loopbacks = wanted
        .into_iter()
        .filter(|(link, ip)| anew.contains(link) || observed.loopbacks.get(link) != Some(ip))
        .collect();
    if !remove.is_empty() || !add.is_empty() {
        steps.push(Step::ChangeLoopbacks { remove, add });
    }
}

pub(crate) fn note(observed: &mut Observed, remove: &BTreeSet<String>, add: &Loopbacks) {
    observed.loopbacks.retain(|link, _| !remove.contains(link));
    observed.loopbacks.extend(add.iter().map(|(link, ip)| (link.clone(), *ip)));
}

#[cfg(test)]
mod tests {
    use weft_model::{MacAddr, NetworkId, PortId, PortRange, Protocol};

    use super::*;
    use crate::{Port, Publish, SandboxId, plan as whole};

    fn desired(host_ips: &[&str]) -> Desired {
        let segment = crate::state::tests::segment();
        let (id, sandbox) = (NetworkId::from_bytes([1; 32]), SandboxId::from_bytes([1; 32]));
        let port = Port {
            link: "wfp0".into(),
            segment: id,
            sandbox,
            ifname: "eth0".into(),
            mac: MacAddr([2, 0, 0, 0, 0, 2]),
            addresses: ["10.1.0.2/24", "fd01::2/64"].map(|a| a.parse().unwrap()).into(),
            mtu: 1500,
            gateways: Default::default(),
            sysctls: Default::default(),
            isolated: false,
            parent: None,
        };
        let publish = |ip: &&str| {
            let host_ip: IpAddr = ip.parse().unwrap();
            let target = if host_ip.is_ipv4() { "10.1.0.2" } else { "fd01::2" };
            Publish {
                protocol: Protocol::Tcp,
                host_ip,
                host_ports: PortRange::one(8080),
                target_ip: target.parse().unwrap(),
                target_port: 80,
            }
        };
        Desired {
            sandboxes: [(sandbox, Default::default())].into(),
            segments: [(id, segment)].into(),
            ports: [(PortId::from_bytes([1; 32]), port)].into(),
            publishes: host_ips.iter().map(publish).collect(),
            ..Desired::default()
        }
    }

    #[test]
    fn what_the_host_may_ask_of_itself_is_led_back() {
        let of = |host_ips: &[&str]| desired(host_ips).loopbacks().into_values().collect::<Vec<_>>();
        let one: Ipv6Addr = "fd01::2".parse().unwrap();
        assert_eq!(of(&["::"]), [one]);
        assert_eq!(of(&["::1", "127.0.0.1"]), [one]);
        assert!(of(&["0.0.0.0", "127.0.0.1", "2001:db8::1"]).is_empty());
    }

    #[test]
    fn it_comes_with_its_port_changes_and_goes() {
        let mut seen = Observed { can_loop: true, ..Observed::default() };
        let mut follow = |desired: &Desired| {
            let steps = whole(desired, &seen, "r");
            steps.iter().for_each(|step| seen.note(step));
            assert_eq!(whole(desired, &seen, "r"), [], "planning again gives nothing");
            steps
        };
        let places = |steps: &[Step]| {
            let at = |is: fn(&Step) -> bool| steps.iter().position(is);
            let port = at(|step| matches!(step, Step::CreatePort { .. }));
            (port, at(|step| matches!(step, Step::ChangeLoopbacks { .. })))
        };
        let (port, change) = places(&follow(&desired(&["::"])));
        assert!(port.unwrap() < change.unwrap(), "on a port that is there");
        // The port is made anew: so is this.
        let mut moved = desired(&["::"]);
        moved.ports.values_mut().for_each(|port| port.ifname = "eth1".into());
        let (port, change) = places(&follow(&moved));
        assert!(port.unwrap() < change.unwrap());
        moved.publishes.clear();
        let gone = follow(&moved);
        assert!(
            gone.iter().any(|s| matches!(s, Step::ChangeLoopbacks { add, .. } if add.is_empty())),
            "{gone:?}"
        );
        let steps = whole(&desired(&["::"]), &Observed::default(), "r");
        assert_eq!(places(&steps).1, None, "not where that cannot be");
    }
}
