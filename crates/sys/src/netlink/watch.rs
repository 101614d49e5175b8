//! News from the kernel: somebody else changed nftables; a marked link is not as it was; an interface lost an address, or the
//! route to what is on it.
//!
//! ```text
//!  NFNLGRP_NFTABLES ─▶ not our socket's doing? ──┐
//!                                                ├─▶ poll ─▶ Event ─▶ whoever asked
//!  RTNLGRP_LINK, _IFADDR, _ROUTE ─▶ filter ──────┘    ▲
//!                                             closing the other end of a pipe ends it
//! ```
//!
//! nf_tables writes the port of the socket that asked for a change into each message about it, so that what we did ourselves is
//! told apart and cannot start a loop. rtnetlink says so of few changes: who is told must look whether the link is as he left it.
//!
//! A filter in the kernel lets only marked links pass, addresses that go, and routes that go and were made by the kernel:
//! machines make links for others by the hundred, and learn routes by the hundred thousand, and none of that wakes anybody
//! here. A queue that ran over is news of everything. Source: `nf_tables_api.c`, `rtnetlink.c`, `linux/filter.h`.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use ipnet::IpNet;
use netlink_sys::{Socket as RawSocket, SocketAddr, protocols};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub use super::marks::{Marks, Names};
use super::{
    NetlinkError,
    attr::{as_text, find},
    channel::{failed, frames},
    marks,
};
use crate::{filter, nft::SUBSYSTEM};

/// `NFNLGRP_NFTABLES`.
const GROUP_NFTABLES: u32 = 7;
/// `RTNLGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`.
const GROUPS_ROUTE: [u32; 5] = [1, 5, 7, 9, 11];
/// `RTM_*`.
pub(super) const NEWLINK: u16 = 16;
pub(super) const DELLINK: u16 = 17;
pub(super) const DELADDR: u16 = 21;
pub(super) const DELROUTE: u16 = 25;
/// `IFLA_IFNAME`.
pub(super) const IFNAME: u16 = 3;
/// Bytes of `struct ifinfomsg`, `ifaddrmsg`, `rtmsg`.
const IFINFO: usize = 16;
const IFADDR: usize = 8;
const RTMSG: usize = 12;
/// `NFT_MSG_NEWGEN`: a transaction is complete; it names no table.
const NEWGEN: u16 = 15;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Another's transaction touched this table of nftables.
    Table(String),
    /// Another's transaction is complete.
    Transaction,
    /// Something about a marked link has changed, or it is not there any more.
    Link {
        /// Its index.
        index: u32,
        /// Its name, perhaps a new one.
        name: String,
    },
    /// An interface has lost an address.
    Address(u32, IpNet),
    /// A route to what is on an interface is gone.
    Route(u32, IpNet),
    /// Messages were lost.
    Overrun,
}

/// The two subscriptions, in the network namespace of the thread that made them.
#[derive(Debug)]
pub struct Watch {
    netfilter: RawSocket,
    route: RawSocket,
    own: Vec<u32>,
    marks: Marks,
}

fn subscribe(
    protocol: isize,
    groups: &[u32],
    filter: Option<&mut [libc::sock_filter]>,
) -> Result<RawSocket, NetlinkError> {
    let mut socket = RawSocket::new(protocol).map_err(failed("socket"))?;
    socket.bind(&SocketAddr::new(0, 0)).map_err(failed("bind"))?;
    if let Some(lines) = filter {
        filter::attach(descriptor(&socket), lines).map_err(failed("filter"))?;
    }
    for group in groups {
        socket.add_membership(*group).map_err(failed("subscribe"))?;
    }
    Ok(socket)
}

impl Watch {
    /// Subscribes. What is done by sockets of nfnetlink with a port in `own` is left out; what of links comes is that of `marks`.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    pub fn new(own: Vec<u32>, marks: Marks) -> Result<Self, NetlinkError> {
        let netfilter = subscribe(protocols::NETLINK_NETFILTER, &[GROUP_NFTABLES], None)?;
        let route = subscribe(protocols::NETLINK_ROUTE, &GROUPS_ROUTE, Some(&mut marks::program(marks, [])))?;
        Ok(Self { netfilter, route, own, marks })
    }

    /// For saying later which links are listened to, too, though they bear no mark.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    pub fn names(&self) -> Result<Names, NetlinkError> {
        Names::new(descriptor(&self.route), self.marks)
    }

    /// Waits for news; `None` once the other end of `end` is closed.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    pub fn next(&self, end: &OwnedFd) -> Result<Option<Vec<Event>>, NetlinkError> {
        loop {
            let [netfilter, route] = [descriptor(&self.netfilter), descriptor(&self.route)];
            let mut fds = [end.as_fd(), netfilter, route].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(failed("poll")(error.into())),
            }
            let ready = fds.map(|fd| fd.any().unwrap_or(true));
            if ready[0] {
                return Ok(None);
            }
            let mut events = Vec::new();
            if ready[1] {
                drain(&self.netfilter, &self.own, &mut events)?;
            }
            if ready[2] {
                drain(&self.route, &[], &mut events)?;
            }
            if !events.is_empty() {
                return Ok(Some(events));
            }
        }
    }
}

fn drain(socket: &RawSocket, own: &[u32], events: &mut Vec<Event>) -> Result<(), NetlinkError> {
    let mut buffer: Vec<u8> = Vec::with_capacity(64 * 1024);
    loop {
        buffer.clear();
        match socket.recv(&mut buffer, libc::MSG_DONTWAIT) {
            Ok(_) => {
                for frame in frames(&buffer) {
                    let ours = frame.port != 0 && own.contains(&frame.port);
                    let event = if ours { None } else { event(frame.kind, &frame.body) };
                    events.extend(event.filter(|e| !events.contains(e)));
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => events.push(Event::Overrun),
            Err(e) => return Err(failed("recv")(e)),
        }
    }
}

fn descriptor(socket: &RawSocket) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is the socket's own, which outlives the borrow.
    #[expect(unsafe_code, reason = "netlink-sys gives out a raw descriptor only")]
    unsafe {
        BorrowedFd::borrow_raw(socket.as_raw_fd())
    }
}

/// Reads foreign bytes: anything malformed is no event.
fn event(kind: u16, body: &[u8]) -> Option<Event> {
    if kind & 0xff00 == SUBSYSTEM {
        if kind & 0xff == NEWGEN {
            return Some(Event::Transaction);
        }
        // In every message of nf_tables, the first attribute is the table's name.
        return Some(Event::Table(as_text(find(body.get(4..)?, 1)?)?.to_owned()));
    }
    match kind {
        NEWLINK | DELLINK => {
            let index = number(body.get(4..8)?)?;
            Some(Event::Link { index, name: as_text(find(body.get(IFINFO..)?, IFNAME)?)?.to_owned() })
        }
        DELADDR => {
            let attributes = body.get(IFADDR..)?;
            // IFA_LOCAL where there is one, else IFA_ADDRESS.
            let own = find(attributes, 2).or_else(|| find(attributes, 1))?;
            Some(Event::Address(number(body.get(4..8)?)?, net(own, *body.get(1)?)?))
        }
        DELROUTE => {
            let attributes = body.get(RTMSG..)?;
            // RTA_OIF, RTA_DST.
            let index = number(find(attributes, 4)?)?;
            Some(Event::Route(index, net(find(attributes, 1)?, *body.get(1)?)?))
        }
        _ => None,
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn net(address: &[u8], prefix: u8) -> Option<IpNet> {
    let ip = match *address {
        [a, b, c, d] => IpAddr::from([a, b, c, d]),
        _ => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
    };
    IpNet::new(ip, prefix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Channel, Family, Message, Socket, address, attr::Attrs, link};
    use crate::nft::Batch;

    #[test]
    fn malformed_news_is_none() {
        for kind in [SUBSYSTEM, SUBSYSTEM | 6, 16, 17, 0xffff] {
            for body in [&[][..], &[1, 0, 0], &[0xff; 40], &[1, 0, 0, 0, 9, 0, 1, 0, 1]] {
                assert_eq!(event(kind, body), None, "{kind} {body:?}");
            }
        }
        let table = [&[1, 0, 0, 0], Attrs::new().text(1, "weft").as_bytes()].concat();
        assert_eq!(event(SUBSYSTEM | 2, &table), Some(Event::Table("weft".into())));
        assert_eq!(event(SUBSYSTEM | NEWGEN, &[]), Some(Event::Transaction));
    }

    #[test]
    fn fuzz_news() {
        let table = [&[1, 0, 0, 0], Attrs::new().text(1, "weft").as_bytes()].concat();
        let link = [&[0; IFINFO][..], Attrs::new().text(3, "wfb0").as_bytes()].concat();
        let address =
            [&[2, 24, 0, 0, 7, 0, 0, 0][..], Attrs::new().bytes(2, &[10, 0, 0, 1]).as_bytes()].concat();
        let routed = Attrs::new().bytes(1, &[10, 0, 0, 0]).ne32(4, 7);
        let route = [&[2, 24, 0, 0, 254, 2, 253, 1, 0, 0, 0, 0][..], routed.as_bytes()].concat();
        assert_eq!(event(DELADDR, &address), Some(Event::Address(7, "10.0.0.1/24".parse().unwrap())));
        assert_eq!(event(DELROUTE, &route), Some(Event::Route(7, "10.0.0.0/24".parse().unwrap())));
        weft_testkit::fuzz::run("netlink-news", &[table, link, address, route], &[], |bytes| {
            for kind in [SUBSYSTEM | 2, NEWLINK, DELLINK, DELADDR, DELROUTE] {
                let _ = event(kind, bytes);
            }
        });
    }

    #[test]
    fn others_are_heard_and_we_are_not() {
        // A network namespace of the thread's own.
        std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let (mut ours, mut other) =
                (Socket::open(Family::Netfilter).unwrap(), Socket::open(Family::Netfilter).unwrap());
            let marks = Marks { name: *b"ma", alias: *b"mark" };
            let watch = Watch::new(vec![ours.port().unwrap()], marks).unwrap();
            let (end, hold) = std::os::unix::net::UnixStream::pair().unwrap();
            let end = OwnedFd::from(end);
            let table = |name: &str| -> Vec<Message> {
                let mut batch = Batch::new(name);
                batch.add_table();
                batch.finish()
            };
            ours.transact(&table("silent")).unwrap();
            other.transact(&table("loud")).unwrap();
            let heard = watch.next(&end).unwrap().unwrap();
            assert_eq!(heard, [Event::Table("loud".into()), Event::Transaction]);
            let mut route = Socket::open(Family::Route).unwrap();
            let up = link::Change { up: Some(true), ..link::Change::default() };
            let mut hear = |work: &[Message]| {
                route.transact(work).unwrap();
                // The end of each round: a link that is marked.
                route.transact(&[link::create_bridge("ma-end", &up)]).unwrap();
                let last = link::get(&mut route, "ma-end").unwrap().unwrap().index;
                let mut all = Vec::new();
                while !all.contains(&Event::Link { index: last, name: "ma-end".into() }) {
                    all.extend(watch.next(&end).unwrap().unwrap());
                }
                route.transact(&[link::delete("ma-end")]).unwrap();
                watch.next(&end).unwrap();
                all.retain(|e| !matches!(e, Event::Link { index, .. } if *index == last));
                all
            };
            assert_eq!(hear(&[link::create_bridge("other", &up), link::change("other", &up)]), []);
            let alias = |alias: &str| link::Change { alias: Some(alias.into()), ..link::Change::default() };
            assert_eq!(hear(&[link::change("other", &alias("not ours"))]), []);
            let heard = hear(&[link::change("other", &alias("mark 7"))]);
            let [Event::Link { index, name }] = &heard[..] else { panic!("{heard:?}") };
            assert_eq!(name, "other");
            let address = "10.7.0.1/24".parse().unwrap();
            assert_eq!(hear(&[address::add(*index, address)]), []);
            let heard = hear(&[address::remove(*index, address)]);
            assert!(heard.contains(&Event::Address(*index, address)), "{heard:?}");
            assert!(heard.contains(&Event::Route(*index, address.trunc())), "{heard:?}");
            assert!(!hear(&[link::delete("other")]).is_empty());
            // Links without a mark, by their names and no others.
            let names = ["eth0", "lan", "fifteen-letters"].map(str::to_owned);
            watch.names().unwrap().listen(&names).unwrap();
            for (name, is_heard) in [
                ("eth0", true),
                ("eth", false),
                ("eth01", false),
                ("lan", true),
                ("lam", false),
                ("fifteen-letters", true),
                ("fifteen-letter", false),
            ] {
                let heard = hear(&[link::create_bridge(name, &up)]);
                let named = |e: &Event| matches!(e, Event::Link { name: of, .. } if of == name);
                assert_eq!(heard.iter().any(named), is_heard, "{name}: {heard:?}");
                assert_eq!(hear(&[link::delete(name)]).iter().any(named), is_heard, "{name}");
            }
            drop(hold);
            assert_eq!(watch.next(&end).unwrap(), None);
        })
        .join()
        .unwrap();
    }
}
