//! A packet socket for one kind of datagram: IPv4 with UDP to a given port, whatever the interface's addresses are
//! (`packet(7)`). What a DHCP client needs before it has an address.
//!
//! The kernel filters (`SO_ATTACH_FILTER`): of an interface's other traffic nothing is copied here.

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use crate::filter;

/// The longest datagram that is taken.
const LONGEST: usize = 2048;
/// `linux/if_ether.h`, in network order as the socket interface wants it.
const ETH_P_IP: u16 = 0x0800u16.to_be();

/// Ethernet address of everybody.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// The socket. It does not block.
#[derive(Debug)]
pub struct UdpTap {
    fd: OwnedFd,
    index: i32,
}

/// `ld* …` and `jmp …` of classic BPF (`linux/bpf_common.h`): UDP, first fragment, this destination port.
fn udp_to(port: u16) -> [libc::sock_filter; 9] {
    let line = |code: u16, jt: u8, jf: u8, k: u32| libc::sock_filter { code, jt, jf, k };
    [
        line(0x30, 0, 0, 9),               // ldb [9]: protocol
        line(0x15, 0, 6, 17),              // jeq UDP, else drop
        line(0x28, 0, 0, 6),               // ldh [6]: flags and fragment offset
        line(0x45, 4, 0, 0x1fff),          // jset offset, then drop
        line(0xb1, 0, 0, 0),               // ldxb 4 * ([0] & 15): header length
        line(0x48, 0, 0, 2),               // ldh [x + 2]: destination port
        line(0x15, 0, 1, u32::from(port)), // jeq port, else drop
        line(0x06, 0, 0, 0xffff),          // take it
        line(0x06, 0, 0, 0),               // drop it
    ]
}

fn length<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[expect(unsafe_code, reason = "link-layer addresses and socket filters have no safe wrapper")]
impl UdpTap {
    /// Opens one on an interface of the calling thread's namespace, for datagrams to `port`.
    ///
    /// # Errors
    /// No such interface; no right to packet sockets.
    pub fn open(interface: &str, port: u16) -> io::Result<Self> {
        let index = nix::net::if_::if_nametoindex(interface)?;
        let index = i32::try_from(index).map_err(io::Error::other)?;
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: plain numbers. Protocol 0: nothing is received before the filter is in place.
        let fd = checked(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let tap = Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, index };
        filter::attach(tap.fd.as_fd(), &mut udp_to(port))?;
        let at = tap.address(BROADCAST);
        // SAFETY: a whole `sockaddr_ll` of that length.
        checked(unsafe { libc::bind(fd, (&raw const at).cast(), length::<libc::sockaddr_ll>()) })?;
        Ok(tap)
    }

    fn address(&self, to: [u8; 6]) -> libc::sockaddr_ll {
        let mut address = [0; 8];
        address[..6].copy_from_slice(&to);
        libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).unwrap_or_default(),
            sll_protocol: ETH_P_IP,
            sll_ifindex: self.index,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: address,
        }
    }

    /// Sends an IPv4 packet, header included, to an Ethernet address.
    ///
    /// # Errors
    /// As sendto(2).
    pub fn send(&self, packet: &[u8], to: [u8; 6]) -> io::Result<()> {
        let at = self.address(to);
        // SAFETY: the packet and a whole `sockaddr_ll` of that length are read, and not kept.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const at).cast(),
                length::<libc::sockaddr_ll>(),
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The next IPv4 packet, header included, and the Ethernet address that it came from.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; as recvfrom(2).
    pub fn receive(&self) -> io::Result<(Vec<u8>, [u8; 6])> {
        let mut buffer = vec![0u8; LONGEST];
        let mut from = self.address([0; 6]);
        let mut size = length::<libc::sockaddr_ll>();
        // SAFETY: buffer and address are ours, with their true sizes.
        let got = unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                0,
                (&raw mut from).cast(),
                &raw mut size,
            )
        };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        buffer.truncate(got);
        let [a, b, c, d, e, f, ..] = from.sll_addr;
        Ok((buffer, [a, b, c, d, e, f]))
    }
}

impl AsFd for UdpTap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
impl AsRawFd for UdpTap {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}
