//! Datagrams by the batch: all that wait at a socket are taken by one system call, and their answers given by one more.
//! Under load that is a fraction of a call for each, and the asker is woken once.
//!
//! Answers of one size to one asker pass the kernel as one datagram, which is cut into them where the asker receives it
//! (`UDP_SEGMENT`, udp(7), Linux 4.18): most of what an answer costs is its way through there. An asker that asks much
//! asks for much alike.
//!
//! The room for a batch belongs to the thread: a waiting container holds none.

use std::{
    io::{self, IoSlice, IoSliceMut},
    ops::Range,
    os::fd::AsRawFd,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, sendmsg},
};
use tokio::{io::Interest, net::UdpSocket};

/// Largest query taken over UDP.
const MAX_QUERY: usize = 4096;
/// Datagrams at a time; the kernel takes at least 64 as one.
const MOST: usize = 32;
/// Largest datagram that several answers make; an IP packet has 65,535 bytes.
const LARGEST: usize = 65_000;

/// One batch and its answers.
pub(crate) struct Batch {
    room: Vec<[u8; MAX_QUERY]>,
    taken: Vec<(usize, SockaddrIn)>,
    answers: Vec<u8>,
    due: Vec<Due>,
}

/// Where an answer is, and whose.
type Due = (Range<usize>, SockaddrIn);

impl Batch {
    pub(crate) fn new() -> Self {
        Self { room: vec![[0; MAX_QUERY]; MOST], taken: Vec::new(), answers: Vec::new(), due: Vec::new() }
    }

    /// Takes what waits at `socket`; whether more may wait. Where none does, the socket's readiness is over, without a
    /// call that finds that out: the next datagram makes a new one.
    pub(crate) fn take(&mut self, socket: &UdpSocket) -> io::Result<bool> {
        self.taken.clear();
        let mut more = false;
        let tried = socket.try_io(Interest::READABLE, || {
            self.receive(socket)?;
            more = self.taken.len() == MOST;
            if more { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
        });
        match tried {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(more),
        }
    }

    fn receive(&mut self, socket: &UdpSocket) -> io::Result<()> {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            self.room.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let mut headers = MultiHeaders::<SockaddrIn>::preallocate(MOST, None);
        let flags = MsgFlags::MSG_DONTWAIT;
        let messages = recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), flags, None)?;
        self.taken.extend(messages.map(|m| (m.bytes, m.address)).filter_map(|(n, from)| Some((n, from?))));
        Ok(())
    }

    /// What was taken: each datagram and whom it is from, with the place for an answer.
    pub(crate) fn each(&mut self, mut look: impl FnMut(&[u8], SockaddrIn, &mut Answers<'_>)) {
        self.answers.clear();
        self.due.clear();
        for (buffer, (size, from)) in self.room.iter().zip(&self.taken) {
            let mut answers = Answers { text: &mut self.answers, due: &mut self.due, to: *from };
            look(&buffer[..*size], *from, &mut answers);
        }
    }

    /// Gives the answers. A full send buffer or an asker that is gone loses some, as networks do; it asks again.
    ///
    /// `together` says whether the socket takes several as one, and is changed where it does not (an old kernel, or a
    /// loopback of small packets in the container).
    pub(crate) fn give(&self, socket: &UdpSocket, together: &AtomicBool) {
        let mut due = self.due.as_slice();
        while !due.is_empty() {
            let whole = if together.load(Relaxed) { alike(due) } else { 1 };
            let gone = if whole > 1 {
                match self.give_as_one(socket, &due[..whole]) {
                    Err(Errno::EINVAL | Errno::EIO | Errno::EMSGSIZE | Errno::EOPNOTSUPP) => {
                        together.store(false, Relaxed);
                        0
                    }
                    other => lost(other.map(|_| whole), whole),
                }
            } else {
                // Those before the next that go as one.
                let next = (1..due.len()).find(|at| together.load(Relaxed) && alike(&due[*at..]) > 1);
                lost(self.give_each(socket, &due[..next.unwrap_or(due.len())]), 1)
            };
            due = due.get(gone..).unwrap_or_default();
        }
    }

    /// Answers of one size to one asker.
    fn give_as_one(&self, socket: &UdpSocket, due: &[Due]) -> nix::Result<usize> {
        let [(first, to), .., (last, _)] = due else { return Ok(0) };
        let size = u16::try_from(first.len()).map_err(|_| Errno::EMSGSIZE)?;
        let text = [IoSlice::new(&self.answers[first.start..last.end])];
        let cut = [ControlMessage::UdpGsoSegments(&size)];
        sendmsg(socket.as_raw_fd(), &text, &cut, MsgFlags::MSG_DONTWAIT, Some(to))
    }

    /// How many were given: the call stops at the first that fails, and the others have nothing to do with it.
    fn give_each(&self, socket: &UdpSocket, due: &[Due]) -> nix::Result<usize> {
        let slices: Vec<[IoSlice<'_>; 1]> =
            due.iter().map(|(at, _)| [IoSlice::new(&self.answers[at.clone()])]).collect();
        let askers: Vec<Option<SockaddrIn>> = due.iter().map(|(_, to)| Some(*to)).collect();
        let mut headers = MultiHeaders::preallocate(slices.len(), None);
        let flags = MsgFlags::MSG_DONTWAIT;
        let sent = sendmmsg(socket.as_raw_fd(), &mut headers, slices.iter(), askers, [], flags)?;
        Ok(sent.count().max(1))
    }
}

/// How many at the front may go as one.
fn alike(due: &[Due]) -> usize {
    let Some((first, to)) = due.first() else { return 0 };
    let most = LARGEST / first.len().max(1);
    due.iter().take(most).take_while(|(at, other)| at.len() == first.len() && other == to).count().max(1)
}

/// How many are done with: where the call failed, those that it was about.
fn lost(given: nix::Result<usize>, about: usize) -> usize {
    given.unwrap_or_else(|error| {
        tracing::debug!(%error, "answers were lost");
        about
    })
}

/// Where the answer to one datagram goes.
pub(crate) struct Answers<'a> {
    text: &'a mut Vec<u8>,
    due: &'a mut Vec<Due>,
    to: SockaddrIn,
}

impl Answers<'_> {
    /// Lets `write` append the answer; `false` means that there is none.
    pub(crate) fn write(&mut self, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let begin = self.text.len();
        let said = write(self.text);
        if said {
            self.due.push((begin..self.text.len(), self.to));
        } else {
            self.text.truncate(begin);
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_that_wait_are_taken_and_answered_each_to_its_asker() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = server.local_addr().unwrap();
        let askers: Vec<_> = (0..3).map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let count = MOST + 5;
        for n in 0..count {
            askers[n % 3].send_to(&[u8::try_from(n).unwrap()], at).unwrap();
        }
        // One that is gone before its answer: its fate is its own.
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0], at).unwrap();
        let (mut batch, together) = (Batch::new(), AtomicBool::new(true));
        let (mut seen, mut rounds) = (0, Vec::new());
        while seen < count + 1 {
            server.readable().await.unwrap();
            rounds.push(batch.take(&server).unwrap());
            batch.each(|packet, _, answers| {
                seen += 1;
                answers.write(|out| {
                    out.extend_from_slice(&[packet[0], 0xaa]);
                    packet[0] % 2 == 0
                });
            });
            batch.give(&server, &together);
        }
        assert_eq!(rounds, [true, false]);
        for (n, asker) in askers.iter().enumerate() {
            asker.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
            let mut buffer = [0; 8];
            for mine in (0..count).filter(|m| m % 3 == n && m % 2 == 0) {
                assert_eq!(asker.recv(&mut buffer).unwrap(), 2);
                assert_eq!(buffer[..2], [u8::try_from(mine).unwrap(), 0xaa]);
            }
        }
        // Readiness is over until the next one comes.
        assert!(!batch.take(&server).unwrap());
        askers[0].send_to(&[1], at).unwrap();
        server.readable().await.unwrap();
        batch.take(&server).unwrap();
        assert_eq!(batch.taken.len(), 1);
    }

    /// Answers of several sizes to one asker: it receives each by itself and in order, whether they went together or not.
    #[tokio::test]
    async fn answers_that_go_together_arrive_one_by_one() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let asker = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        asker.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let sizes = [40, 40, 40, 60, 20, 20, 4000, 4000, 40];
        for allowed in [true, false] {
            for n in 0..sizes.len() {
                asker.send_to(&[u8::try_from(n).unwrap()], server.local_addr().unwrap()).unwrap();
            }
            server.readable().await.unwrap();
            let (mut batch, together) = (Batch::new(), AtomicBool::new(allowed));
            batch.take(&server).unwrap();
            batch.each(|packet, _, answers| {
                answers.write(|out| {
                    out.resize(out.len() + sizes[usize::from(packet[0])], packet[0]);
                    true
                });
            });
            let runs: Vec<usize> = (0..sizes.len()).map(|at| alike(&batch.due[at..])).collect();
            assert_eq!(runs, [3, 2, 1, 1, 2, 1, 2, 1, 1]);
            batch.give(&server, &together);
            assert_eq!(together.load(Relaxed), allowed, "the kernel does it");
            let mut buffer = [0; 8192];
            for (n, size) in sizes.into_iter().enumerate() {
                assert_eq!(asker.recv(&mut buffer).unwrap(), size);
                assert!(buffer[..size].iter().all(|byte| usize::from(*byte) == n));
            }
        }
    }
}
