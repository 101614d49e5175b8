//! A load generator for resolvers: one socket, a fixed number of questions outstanding, each answered one followed by
//! the next. Many messages are one call and one way through the kernel, so that it is not the generator that is measured;
//! and it never sleeps, so that nobody pays for waking it.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg, setsockopt, sockopt::UdpGroSegment,
};

/// A question without an answer counts as lost after this.
const PATIENCE: Duration = Duration::from_millis(500);
/// Most bytes that are received as one.
const ROOM: usize = 65_536;

/// What came of it.
#[derive(Debug)]
pub struct Told {
    pub answers: u64,
    pub took: Duration,
    /// From question to answer.
    pub p99: Duration,
    /// Questions that were never answered.
    pub lost: u64,
}

/// A query for the IPv4 addresses of `name`.
fn query(name: &str) -> Vec<u8> {
    let mut packet = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, 1, 0, 1]);
    packet
}

/// Asks `server` for `name` for as long as `time`, from the calling thread's namespace.
pub fn ask(server: SocketAddr, name: &str, outstanding: usize, time: Duration) -> Result<Told> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(server)?;
    setsockopt(&socket, UdpGroSegment, &true).context("answers as one")?;
    let mut room = vec![0; ROOM];
    let mut packets = vec![query(name); outstanding];
    let mut sent = vec![Instant::now(); outstanding];
    let mut round = vec![0u8; outstanding];
    let mut latencies: Vec<u32> = Vec::with_capacity(1 << 20);
    let begun = Instant::now();
    let mut due: Vec<usize> = (0..outstanding).collect();
    let (mut answers, mut lost) = (0u64, 0u64);
    while begun.elapsed() < time {
        let now = Instant::now();
        for slot in &due {
            round[*slot] = round[*slot].wrapping_add(1);
            // The identifier is the round and the slot, so that a late answer is no answer.
            packets[*slot][0] = round[*slot];
            packets[*slot][1] = u8::try_from(*slot)?;
            sent[*slot] = now;
        }
        send(&socket, &packets, &due)?;
        due.clear();
        let seen = receive(&socket, &mut room, |answer| {
            let slot = usize::from(answer[1]);
            if slot < outstanding && answer[0] == round[slot] && answer[2] & 0x80 != 0 {
                ensure!(answer[3] & 0x0f == 0 && answer[7] > 0, "{name} is not resolved: {answer:?}");
                latencies.push(u32::try_from(sent[slot].elapsed().as_nanos()).unwrap_or(u32::MAX));
                due.push(slot);
            }
            Ok(())
        })?;
        answers += u64::try_from(due.len())?;
        if seen == 0 {
            // Everything outstanding is lost: begin anew.
            lost += u64::try_from(outstanding)?;
            ensure!(lost < 1000, "{server} does not answer");
            due = (0..outstanding).collect();
        }
    }
    let took = begun.elapsed();
    latencies.sort_unstable();
    let p99 = latencies.get(latencies.len() * 99 / 100).context("no answer at all")?;
    Ok(Told { answers, took, p99: Duration::from_nanos((*p99).into()), lost })
}

/// Questions of one size leave as one datagram that the kernel cuts (`UDP_SEGMENT`, udp(7)).
fn send(socket: &UdpSocket, packets: &[Vec<u8>], due: &[usize]) -> Result<()> {
    let Some(first) = due.first() else { return Ok(()) };
    let size = u16::try_from(packets[*first].len())?;
    let slices: Vec<IoSlice<'_>> = due.iter().map(|slot| IoSlice::new(&packets[*slot])).collect();
    let cut = [ControlMessage::UdpGsoSegments(&size)];
    let cut = if due.len() > 1 { &cut[..] } else { &[] };
    sendmsg::<()>(socket.as_raw_fd(), &slices, cut, MsgFlags::empty(), None).context("sending questions")?;
    Ok(())
}

/// Waits for at least one message and takes what is there; answers how many. Answers that the server gave as one come as
/// one (`UDP_GRO`).
fn receive(socket: &UdpSocket, room: &mut [u8], mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<usize> {
    wait(socket)?;
    let mut seen = 0;
    loop {
        let (size, piece) = {
            let mut slices = [IoSliceMut::new(room)];
            let mut space = nix::cmsg_space!(i32);
            let flags = MsgFlags::MSG_DONTWAIT;
            match recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags) {
                Ok(message) => {
                    let pieces = message.cmsgs()?.find_map(|told| match told {
                        ControlMessageOwned::UdpGroSegments(size) => usize::try_from(size).ok(),
                        _ => None,
                    });
                    (message.bytes, pieces.unwrap_or(message.bytes))
                }
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return Ok(seen),
                Err(error) => return Err(error).context("receiving answers"),
            }
        };
        for answer in room[..size].chunks(piece.max(1)) {
            seen += 1;
            if answer.len() >= 12 {
                each(answer)?;
            }
        }
    }
}

/// Looks until there is an answer, or the patience ends.
fn wait(socket: &UdpSocket) -> Result<()> {
    let begun = Instant::now();
    let mut byte = [0u8; 1];
    loop {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
        match nix::sys::socket::recv(socket.as_raw_fd(), &mut byte, flags) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) if begun.elapsed() < PATIENCE => {}
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return Ok(()),
            Err(error) => return Err(error).context("waiting for answers"),
        }
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_counted_as_they_are_answered() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = server.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            server.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let (mut buffer, mut count) = ([0u8; 512], 0u64);
            while let Ok((size, from)) = server.recv_from(&mut buffer) {
                (buffer[2], buffer[3], buffer[7]) = (0x81, 0x80, 1);
                server.send_to(&buffer[..size], from).unwrap();
                count += 1;
            }
            count
        });
        for outstanding in [1, 16] {
            let told = ask(at, "web.app", outstanding, Duration::from_millis(200)).unwrap();
            assert!(told.answers > 100 && told.p99 < Duration::from_secs(1), "{told:?}");
        }
        assert!(thread.join().unwrap() > 200);
    }
}
