//! A pretended host for one test: its own network and mount namespace, a driver in it, and a LAN with one neighbour.
//! All of it ends with the test's thread; nothing of the machine's own network is touched.
//!
//! ```text
//! LAN host 192.0.2.9, 2001:db8::9 ── eth0 192.0.2.1, 2001:db8::1 HOST ── segments and sandboxes of the driver
//! ```
#![allow(dead_code, reason = "each test file uses its part")]

pub mod host_rules;

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use ipnet::IpNet;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};
use weft_dataplane::{
    Converger, Desired, Driver, Gateway, Outcome, Port, Publish, Sandbox, Segment, link_name,
};
use weft_driver_linux::LinuxDriver;
use weft_model::{ContainerId, MacAddr, NetworkId, PortId, PortRange, Protocol};
use weft_sys::{
    netlink::{
        Channel, Family, Socket, address,
        link::{self, Change, Peer},
        route,
    },
    netns,
};

pub const WAIT: Duration = Duration::from_millis(1500);
pub const LAN4: &str = "192.0.2.9";
pub const HOST4: &str = "192.0.2.1";
pub const LAN6: &str = "2001:db8::9";
pub const HOST6: &str = "2001:db8::1";

pub struct Host {
    pub converger: Converger<LinuxDriver>,
    pub desired: Desired,
    pub dir: tempfile::TempDir,
    pub lan: PathBuf,
}

fn up() -> Change {
    Change { up: Some(true), ..Change::default() }
}

impl Host {
    /// Moves the test's thread to a host of its own.
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let lan = dir.path().join("lan");
        let driver = LinuxDriver::new(dir.path().join("netns"), true).unwrap();
        driver.netns().create(&lan, None, || Ok::<(), ()>(())).unwrap().unwrap();
        let mut socket = Socket::open(Family::Route).unwrap();
        let target = netns::open(&lan).unwrap();
        let peer = Peer { name: "eth0", netns: target.as_fd(), change: Change::default() };
        socket.transact(&[link::create_veth("eth0", &up(), &peer), link::change("lo", &up())]).unwrap();
        Self::address(&mut socket, &["192.0.2.1/24", "2001:db8::1/64"]);
        let host = Self { converger: Converger::new(driver), desired: Desired::default(), dir, lan };
        host.bridged_packets_are_filtered(false);
        host.inside(&host.lan, || {
            let mut socket = Socket::open(Family::Route).unwrap();
            socket.transact(&[link::change("lo", &up()), link::change("eth0", &up())]).unwrap();
            Self::address(&mut socket, &["192.0.2.9/24", "2001:db8::9/64"]);
        });
        host
    }

    fn address(socket: &mut Socket, addresses: &[&str]) {
        let index = link::get(socket, "eth0").unwrap().unwrap().index;
        let add = |a: &&str| address::add(index, a.parse().unwrap());
        socket.transact(&addresses.iter().map(add).collect::<Vec<_>>()).unwrap();
    }

    /// Switches `br_netfilter` for this host; false where the machine does not have it.
    pub fn bridged_packets_are_filtered(&self, on: bool) -> bool {
        let set = |family: &str| {
            weft_sys::sysctl::write(
                &format!("net.bridge.bridge-nf-call-{family}"),
                if on { "1" } else { "0" },
            )
        };
        set("iptables").is_ok() && set("ip6tables").is_ok()
    }

    /// The LAN host sends what is for the containers' subnets straight to the host.
    pub fn lan_routes_to_host(&self) {
        self.inside(&self.lan, || {
            let mut socket = Socket::open(Family::Route).unwrap();
            let index = link::get(&mut socket, "eth0").unwrap().unwrap().index;
            let via = |ip: &str| route::add(&route::Default { via: ip.parse().unwrap(), index, metric: 0 });
            socket.transact(&[via(HOST4), via(HOST6)]).unwrap();
        });
    }

    /// Runs something in a namespace, on a thread of its own.
    pub fn inside<T: Send + 'static>(&self, path: &Path, work: impl FnOnce() -> T + Send + 'static) -> T {
        spawn(path, work).join().unwrap()
    }

    pub fn driver(&self) -> &LinuxDriver {
        self.converger.driver()
    }

    pub fn segment(&mut self, nth: u8, addresses: &[&str]) -> NetworkId {
        let id = NetworkId::from_bytes([nth; 32]);
        let segment = Segment {
            link: link_name('b', &id),
            mac: MacAddr([2, 0x42, 0, 0, 0, nth]),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            mtu: 1500,
            internal: false,
            inter_container: true,
            masquerade: true,
            borrowed: false,
            further: Default::default(),
            gateways: Default::default(),
            trusted: Default::default(),
            open: Default::default(),
            source: Default::default(),
            uplink: None,
        };
        self.desired.segments.insert(id, segment);
        id
    }

    /// A sandbox with one port; gives back the sandbox's file.
    pub fn container(&mut self, nth: u8, segment: NetworkId, addresses: &[&str]) -> PathBuf {
        let id = ContainerId::from_bytes([nth; 32]);
        let ipv6 = addresses.iter().any(|a| a.contains(':'));
        self.desired.sandboxes.insert(id, Sandbox { ipv6, ..Sandbox::default() });
        self.plug(nth, "eth0", id, segment, addresses);
        self.driver().sandbox_path(id)
    }

    pub fn plug(
        &mut self,
        nth: u8,
        ifname: &str,
        sandbox: ContainerId,
        segment: NetworkId,
        addresses: &[&str],
    ) -> PortId {
        let id = PortId::from_bytes([nth; 32]);
        let on = &self.desired.segments[&segment];
        let addresses: Vec<IpNet> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        let gateways =
            on.addresses.iter().filter(|g| !on.internal && addresses.iter().any(|a| a.trunc() == g.trunc()));
        let port = Port {
            link: link_name('p', &id),
            segment,
            sandbox,
            ifname: ifname.to_owned(),
            mac: MacAddr([2, 0x42, 1, 0, 0, nth]),
            mtu: on.mtu,
            gateways: gateways.map(|g| Gateway { via: g.addr(), metric: 0 }).collect(),
            sysctls: Default::default(),
            isolated: !on.inter_container,
            parent: None,
            addresses: addresses.into_iter().collect(),
        };
        self.desired.ports.insert(id, port);
        id
    }

    pub fn publish(
        &mut self,
        protocol: Protocol,
        host_ip: &str,
        host_port: u16,
        target_ip: &str,
        target_port: u16,
    ) {
        self.desired.publishes.insert(Publish {
            protocol,
            host_ip: host_ip.parse().unwrap(),
            host_ports: PortRange { start: host_port, end: host_port },
            target_ip: target_ip.parse().unwrap(),
            target_port,
        });
    }

    /// A row of ports whose numbers stay the same.
    pub fn publish_row(&mut self, protocol: Protocol, host_ip: &str, start: u16, end: u16, target_ip: &str) {
        self.desired.publishes.insert(Publish {
            protocol,
            host_ip: host_ip.parse().unwrap(),
            host_ports: PortRange { start, end },
            target_ip: target_ip.parse().unwrap(),
            target_port: start,
        });
    }

    pub fn converge(&mut self) -> Outcome {
        self.desired.generation += 1;
        let outcome = self.converger.converge(&self.desired).unwrap();
        if let Some((step, error)) = outcome.failed.first() {
            panic!("{step}: {}", weft_base_chain(error));
        }
        outcome
    }

    /// A look at the kernel finds all as desired.
    pub fn assert_settled(&self) {
        let observed = self.driver().observe().unwrap();
        assert_eq!(self.driver().plan(&self.desired, &observed), [], "planning again gives nothing");
    }
}

fn weft_base_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

/// A thread in a namespace.
pub fn spawn<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let target = netns::open(path).unwrap();
    thread::spawn(move || {
        setns(target.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
}

/// A TCP server that tells every client the address it sees it by.
pub fn serve_tcp(path: &Path, address: &str) {
    let address: SocketAddr = address.parse().unwrap();
    let (ready, wait) = mpsc::channel();
    spawn(path, move || {
        let listener = TcpListener::bind(address).unwrap();
        ready.send(()).unwrap();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip();
            let _ = stream.write_all(peer.to_string().as_bytes());
        }
    });
    wait.recv().unwrap();
}

/// The same for UDP.
pub fn serve_udp(path: &Path, address: &str) {
    let address: SocketAddr = address.parse().unwrap();
    let (ready, wait) = mpsc::channel();
    spawn(path, move || {
        let socket = UdpSocket::bind(address).unwrap();
        ready.send(()).unwrap();
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(peer.ip().to_string().as_bytes(), peer);
        }
    });
    wait.recv().unwrap();
}

/// Connects from where the thread is; the address the server saw, or why not.
pub fn connect(address: &str) -> Result<IpAddr, std::io::ErrorKind> {
    let address: SocketAddr = address.parse().unwrap();
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, WAIT)?;
        stream.set_read_timeout(Some(WAIT))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    ask().map(|text: String| text.parse().unwrap()).map_err(|e: std::io::Error| e.kind())
}

/// The same from a namespace.
pub fn connect_from(path: &Path, address: &str) -> Result<IpAddr, std::io::ErrorKind> {
    let address = address.to_owned();
    spawn(path, move || connect(&address)).join().unwrap()
}

/// The same for UDP.
pub fn ask_udp(path: &Path, address: &str) -> Result<IpAddr, std::io::ErrorKind> {
    let address: SocketAddr = address.parse().unwrap();
    spawn(path, move || {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let ask = || {
            let socket = UdpSocket::bind(any)?;
            socket.connect(address)?;
            socket.set_read_timeout(Some(WAIT))?;
            socket.send(b"?")?;
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer)?;
            Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
        };
        ask().map(|text: String| text.parse().unwrap()).map_err(|e: std::io::Error| e.kind())
    })
    .join()
    .unwrap()
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
