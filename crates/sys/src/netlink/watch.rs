//! News from the kernel: somebody else changed nftables, or a link.
//!
//! ```text
//!  NFNLGRP_NFTABLES ──┐
//!                     ├─▶ poll ─▶ not our socket's doing? ─▶ Event ─▶ whoever asked
//!  RTNLGRP_LINK ──────┘    ▲
//!                  closing the other end of a pipe ends it
//! ```
//!
//! nf_tables writes the port of the socket that asked for a change into each message about it, so that what we did
//! ourselves is told apart and cannot start a loop. rtnetlink does so since Linux 6.2; before, our own deletions are heard.
//! A queue that ran over is news of everything. Source: `nf_tables_api.c`, `linux/netfilter/nfnetlink.h`.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkFlags},
};
use netlink_sys::{Socket as RawSocket, SocketAddr, protocols};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    NetlinkError,
    attr::{as_text, find},
    channel::{failed, frames},
    decode_route,
};
use crate::nft::SUBSYSTEM;

/// `NFNLGRP_NFTABLES`.
const GROUP_NFTABLES: u32 = 7;
/// `RTNLGRP_LINK`.
const GROUP_LINK: u32 = 1;
/// `NFT_MSG_NEWGEN`: a transaction is complete; it names no table.
const NEWGEN: u16 = 15;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Another's transaction touched this table of nftables.
    Table(String),
    /// Another's transaction is complete.
    Transaction,
    /// A link is not there any more, or was set down.
    LinkDown(String),
    /// Messages were lost.
    Overrun,
}

/// The two subscriptions, in the network namespace of the thread that made them.
#[derive(Debug)]
pub struct Watch {
    netfilter: RawSocket,
    route: RawSocket,
    own: Own,
}

/// Ports of sockets whose doings are no news.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// Of nfnetlink.
    pub netfilter: Vec<u32>,
    /// Of rtnetlink.
    pub route: Vec<u32>,
}

fn subscribe(protocol: isize, group: u32) -> Result<RawSocket, NetlinkError> {
    let mut socket = RawSocket::new(protocol).map_err(failed("socket"))?;
    socket.bind(&SocketAddr::new(0, 0)).map_err(failed("bind"))?;
    socket.add_membership(group).map_err(failed("subscribe"))?;
    Ok(socket)
}

impl Watch {
    /// Subscribes. What the sockets in `own` do is left out.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    pub fn new(own: Own) -> Result<Self, NetlinkError> {
        let netfilter = subscribe(protocols::NETLINK_NETFILTER, GROUP_NFTABLES)?;
        Ok(Self { netfilter, route: subscribe(protocols::NETLINK_ROUTE, GROUP_LINK)?, own })
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
                drain(&self.netfilter, &self.own.netfilter, &mut events)?;
            }
            if ready[2] {
                drain(&self.route, &self.own.route, &mut events)?;
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
    let (message, gone) = match decode_route(kind, body)? {
        RouteNetlinkMessage::NewLink(message) => (message, false),
        RouteNetlinkMessage::DelLink(message) => (message, true),
        _ => return None,
    };
    // A new link says that all its flags have changed; it is not up yet, which is no news.
    let (flags, changed) = (message.header.flags, message.header.change_mask);
    let down = gone || (!flags.contains(LinkFlags::Up) && changed == LinkFlags::Up);
    let name = message.attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    })?;
    down.then_some(Event::LinkDown(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Channel, Family, Message, Socket, attr::Attrs, link};
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
    fn others_are_heard_and_we_are_not() {
        // A network namespace of the thread's own.
        std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let (mut ours, mut other) =
                (Socket::open(Family::Netfilter).unwrap(), Socket::open(Family::Netfilter).unwrap());
            let watch = Watch::new(Own { netfilter: vec![ours.port().unwrap()], ..Own::default() }).unwrap();
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
            route.transact(&[link::change("lo", &up)]).unwrap();
            let down = link::Change { up: Some(false), ..link::Change::default() };
            route.transact(&[link::change("lo", &down)]).unwrap();
            assert_eq!(watch.next(&end).unwrap().unwrap(), [Event::LinkDown("lo".into())]);
            drop(hold);
            assert_eq!(watch.next(&end).unwrap(), None);
        })
        .join()
        .unwrap();
    }
}
