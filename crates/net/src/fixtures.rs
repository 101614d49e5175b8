//! Small values that the tests of this crate are made of.

use std::{io, net::SocketAddr};

use weft_base::{FreeName, Name, Timestamp};
use weft_model::{
    Attachment, Confinement, ContainerId, ContainerSpec, DnsConfig, HostBinding, ImageBinding, Isolation,
    Labels, LogConfig, MacAddr, NetworkId, NetworkKind, NetworkMode, NetworkSpec, Object, PortAddress,
    PortId, PortOwner, PortRange, PortSpec, ProcessSpec, Protocol, PublishSpec, Resources, RestartPolicy,
    RunRequest, SubnetSpec, Want, default_project,
};

use crate::{Hints, HostSockets, PortContext, WildcardV6};

/// A subnet people chose, with its first address (second of a /31) as gateway.
pub fn subnet(cidr: &str) -> SubnetSpec {
    let cidr: ipnet::IpNet = cidr.parse().unwrap();
    let gateway = cidr.hosts().find(|ip| *ip != cidr.network());
    SubnetSpec {
        cidr,
        gateway,
        remote_gateway: false,
        router: None,
        range: None,
        reserved: Default::default(),
        explicit: true,
        explicit_gateway: false,
    }
}

/// A user-defined bridge.
pub fn network(name: &str, subnets: Vec<SubnetSpec>) -> NetworkSpec {
    NetworkSpec {
        id: NetworkId::new(),
        name: FreeName::new(name).unwrap(),
        kind: NetworkKind::Bridge,
        ipv4: true,
        ipv6: subnets.iter().any(|s| s.cidr.network().is_ipv6()),
        subnets,
        isolation: Isolation::default(),
        bridge: None,
        borrowed: false,
        gateways: Default::default(),
        trusted: Vec::new(),
        config_from: String::new(),
        mtu: None,
        host_binding: HostBinding::default(),
        host_source: weft_model::HostSource::default(),
        attachable: false,
        predefined: false,
        ifname_prefix: String::new(),
        limit: Default::default(),
        closed: false,
        parent: None,
        dhcp: false,
        options: Default::default(),
        ipam_options: Default::default(),
    }
}

/// A port of a container of its own.
pub fn port(network: &NetworkSpec, ips: &[&str]) -> PortSpec {
    let address = |ip: &&str| PortAddress { ip: ip.parse().unwrap(), prefix: 24, gateway: None };
    PortSpec {
        id: PortId::new(),
        network: network.id,
        owner: PortOwner::Container(ContainerId::new()),
        mac: MacAddr([2, 0x42, 0, 0, 0, 1]),
        addresses: ips.iter().map(address).collect(),
        ifname: "eth0".into(),
        default_route: true,
        default_route_v6: true,
        names: Vec::new(),
        links: Vec::new(),
        publish: Vec::new(),
        sysctls: Default::default(),
        dhcp: None,
    }
}

/// A container on these networks that is wanted to run.
pub fn container(name: &str, networks: &[&NetworkSpec]) -> ContainerSpec {
    let id = ContainerId::new();
    ContainerSpec {
        id,
        name: Name::new(name).unwrap(),
        image: ImageBinding {
            reference: "busybox".into(),
            id: format!("sha256:{}", "cd".repeat(32)).parse().unwrap(),
        },
        process: ProcessSpec::default(),
        hostname: id.short(),
        domainname: String::new(),
        confine: Confinement::default(),
        resources: Resources::default(),
        mounts: Vec::new(),
        volumes_from: Vec::new(),
        network: NetworkMode::Attached,
        attachments: networks.iter().map(|n| attachment(n)).collect(),
        exposed: Vec::new(),
        publish: Vec::new(),
        publish_all: false,
        dns: DnsConfig::default(),
        extra_hosts: Vec::new(),
        links: Vec::new(),
        limit: Default::default(),
        log: LogConfig { driver: "json-file".into(), options: Default::default() },
        restart: RestartPolicy::default(),
        auto_remove: false,
        health: None,
        stop_signal: String::new(),
        stop_timeout: None,
        runtime: String::new(),
        init: None,
        annotations: Default::default(),
        echo: Default::default(),
        run: RunRequest { seq: 1, want: Want::Running, ..RunRequest::default() },
    }
}

/// A wish for nothing special.
pub fn attachment(network: &NetworkSpec) -> Attachment {
    Attachment {
        network: network.id,
        written: network.name.to_string(),
        aliases: Vec::new(),
        links: Vec::new(),
        ipv4: None,
        ipv6: None,
        link_local: Vec::new(),
        mac: None,
        gateway_priority: 0,
        options: Default::default(),
        ifname: None,
        sysctls: Default::default(),
        explicit: false,
    }
}

/// A record of `spec`.
pub fn object<S, T: Default>(spec: S) -> Object<S, T> {
    Object::new(default_project(), Timestamp::from_unix(0, 0).unwrap(), Labels::new(), spec)
}

struct Free;
impl HostSockets for Free {
    fn probe(&self, _: Protocol, _: SocketAddr) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `run` beside these networks and ports, on a host whose ports are all free.
pub fn in_context<T>(nets: &[&NetworkSpec], old: &[PortSpec], run: impl FnOnce(&PortContext<'_>) -> T) -> T {
    let existing: Vec<&PortSpec> = old.iter().collect();
    run(&PortContext {
        networks: nets,
        existing: &existing,
        hints: &Hints::default(),
        sockets: &Free,
        name_of: &|_| None,
        publish_ip: None,
        wildcard_v6: WildcardV6::WhenAddressed,
    })
}

/// A wish for a published port.
pub fn publish(container_port: u16, host: Option<u16>) -> PublishSpec {
    let host_port = host.map(|p| PortRange { start: p, end: p });
    PublishSpec { protocol: Protocol::Tcp, container_port, host_ip: String::new(), host_port }
}

/// `ifname network address mac [default[4|6]] [publish…]`, one port a line.
pub fn show(ports: &[PortSpec], nets: &[&NetworkSpec]) -> Vec<String> {
    let line = |p: &PortSpec| {
        let net = nets.iter().find(|n| n.id == p.network).unwrap().name.as_str();
        let ips: Vec<_> = p.addresses.iter().map(|a| format!("{}/{}", a.ip, a.prefix)).collect();
        let mut line = format!("{} {net} {}", p.ifname, ips.join(","));
        line += match (p.default_route, p.default_route_v6) {
            (true, true) => " default",
            (true, false) => " default4",
            (false, true) => " default6",
            (false, false) => "",
        };
        for b in &p.publish {
            line += &format!(" {}->{}", SocketAddr::new(b.host_ip, b.host_port), b.container_port);
            line += &if b.more > 0 { format!("+{}", b.more) } else { String::new() };
        }
        line
    };
    ports.iter().map(line).collect()
}
