//! The seam: requests go in, acknowledgements and dumps come out. [`Socket`] is the kernel; [`FakeChannel`] records and
//! can be made to fail.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use netlink_packet_core::NLM_F_DUMP;
use netlink_sys::{Socket as RawSocket, SocketAddr};

use super::{HEADER, Message};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;
/// Room for one receive: the kernel's dumps come in pieces of at most 32 KiB.
const RECEIVE: usize = 64 * 1024;
/// A dump that others change while it runs is repeated this often.
const DUMP_TRIES: usize = 8;

/// Which netlink protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Links, addresses, routes.
    Route,
    /// nftables, conntrack.
    Netfilter,
}

/// A request the kernel refused, or a socket that failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket itself.
    #[error("netlink socket: {call}")]
    Socket {
        /// Which call.
        call: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel's answer to one message.
    #[error("{what}{}{detail}", if detail.is_empty() { "" } else { ": " })]
    Refused {
        /// What was asked, in words.
        what: String,
        /// The kernel's own explanation, where it gave one (extended acknowledgement).
        detail: String,
        /// The error number.
        #[source]
        source: io::Error,
    },
    /// A dump kept being interrupted by changes.
    #[error("{what}: changing too fast to be read")]
    Interrupted {
        /// What was dumped.
        what: String,
    },
}

impl NetlinkError {
    /// The kernel's error number, when there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Socket { source, .. } | Self::Refused { source, .. } => source.raw_os_error(),
            Self::Interrupted { .. } => None,
        }
    }
}

/// Answers to a query: message type and body.
pub type Answers = Vec<(u16, Vec<u8>)>;

/// Sends requests to a kernel.
pub trait Channel: Send {
    /// Sends all messages in one go and waits for every acknowledgement. rtnetlink executes each message
    /// whatever becomes of the others; nfnetlink executes a batch whole or not at all.
    ///
    /// # Errors
    /// The first refusal that its message does not tolerate.
    fn transact(&mut self, messages: &[Message]) -> Result<(), NetlinkError>;

    /// Sends one request for a dump, or for one object, and gives back the answers: type and body.
    ///
    /// # Errors
    /// As the kernel answers.
    fn query(&mut self, message: &Message) -> Result<Answers, NetlinkError>;
}

/// A netlink socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    raw: RawSocket,
    sequence: u32,
    buffer: Vec<u8>,
}

pub(super) fn failed(call: &'static str) -> impl FnOnce(io::Error) -> NetlinkError {
    move |source| NetlinkError::Socket { call, source }
}

impl Socket {
    /// Opens one here.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    pub fn open(family: Family) -> Result<Self, NetlinkError> {
        let protocol = match family {
            Family::Route => netlink_sys::protocols::NETLINK_ROUTE,
            Family::Netfilter => netlink_sys::protocols::NETLINK_NETFILTER,
        };
        let raw = RawSocket::new(protocol).map_err(failed("socket"))?;
        raw.connect(&SocketAddr::new(0, 0)).map_err(failed("connect"))?;
        // Acknowledgements without the request's copy, with the kernel's words when it refuses.
        raw.set_cap_ack(true).map_err(failed("setsockopt"))?;
        raw.set_ext_ack(true).map_err(failed("setsockopt"))?;
        Ok(Self { raw, sequence: 0, buffer: Vec::with_capacity(RECEIVE) })
    }

    /// The port that the kernel gave it: what [`super::watch`] tells its doings by.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    pub fn port(&self) -> Result<u32, NetlinkError> {
        let mut address = SocketAddr::new(0, 0);
        self.raw.get_address(&mut address).map_err(failed("getsockname"))?;
        Ok(address.port_number())
    }

    /// A dump of which the kernel sends only what is as the request's header says (`NETLINK_GET_STRICT_CHK`): of a million
    /// routes the few that are asked for. `None` where it cannot (before Linux 4.20).
    ///
    /// # Errors
    /// As the kernel answers.
    pub fn query_filtered(&mut self, message: &Message) -> Result<Option<Answers>, NetlinkError> {
        if self.raw.set_netlink_get_strict_chk(true).is_err() {
            return Ok(None);
        }
        let answers = self.query(message);
        self.raw.set_netlink_get_strict_chk(false).map_err(failed("setsockopt"))?;
        answers.map(Some)
    }

    /// What is in the queue, or the next to come when `flags` is 0. Empty when there is none.
    fn receive(&mut self, flags: i32) -> Result<Vec<Frame>, NetlinkError> {
        self.buffer.clear();
        loop {
            match self.raw.recv(&mut self.buffer, flags) {
                Ok(_) => return Ok(frames(&self.buffer)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Vec::new()),
                Err(e) => return Err(failed("recv")(e)),
            }
        }
    }

    fn send(&mut self, messages: &[Message]) -> Result<u32, NetlinkError> {
        // What an earlier failure left behind.
        while !self.receive(libc::MSG_DONTWAIT)?.is_empty() {}
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(messages.iter().map(|m| m.body.len() + HEADER + 4).sum());
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            message.write(self.sequence, &mut bytes);
        }
        if bytes.len() > 128 * 1024 {
            // A socket sends no more than its buffer holds; the privileged option has no upper limit.
            force_send_buffer(&self.raw, bytes.len() * 2).map_err(failed("setsockopt"))?;
        }
        self.raw.send(&bytes, 0).map_err(failed("send"))?;
        Ok(first)
    }

    fn query_once(&mut self, message: &Message) -> Result<Option<Answers>, NetlinkError> {
        let first = self.send(std::slice::from_ref(message))?;
        let dump = message.flags & NLM_F_DUMP == NLM_F_DUMP;
        let mut answers = Vec::new();
        let mut whole = true;
        loop {
            for frame in self.receive(0)? {
                if frame.sequence != first {
                    continue;
                }
                whole &= frame.flags & NLM_F_DUMP_INTR == 0;
                match frame.kind {
                    NLMSG_ERROR => {
                        refusal(message, &frame)?;
                        return Ok(Some(answers));
                    }
                    NLMSG_DONE => {
                        refusal(message, &frame)?;
                        return Ok(whole.then_some(answers));
                    }
                    kind => answers.push((kind, frame.body)),
                }
            }
            if !dump && !answers.is_empty() {
                return Ok(Some(answers));
            }
        }
    }
}

impl Channel for Socket {
    fn transact(&mut self, messages: &[Message]) -> Result<(), NetlinkError> {
        if messages.is_empty() {
            return Ok(());
        }
        let asking: Vec<Message> = messages.iter().map(Message::acknowledged).collect();
        let first = self.send(&asking)?;
        let mut result = Ok(());
        let mut seen = 0usize;
        loop {
            // The kernel has executed everything inside `send`: the queue is complete.
            let frames = self.receive(libc::MSG_DONTWAIT)?;
            if frames.is_empty() {
                break;
            }
            for frame in frames.iter().filter(|f| f.kind == NLMSG_ERROR) {
                let index = usize::try_from(frame.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
                if let Some(message) = messages.get(index) {
                    seen += 1;
                    let refused = refusal(message, frame);
                    if result.is_ok() {
                        result = refused;
                    }
                }
            }
        }
        if seen == 0 && result.is_ok() {
            return Err(failed("recv")(io::Error::new(io::ErrorKind::UnexpectedEof, "no acknowledgement")));
        }
        result
    }

    fn query(&mut self, message: &Message) -> Result<Answers, NetlinkError> {
        for _ in 0..DUMP_TRIES {
            if let Some(answers) = self.query_once(message)? {
                return Ok(answers);
            }
        }
        Err(NetlinkError::Interrupted { what: message.what.clone() })
    }
}

fn force_send_buffer(socket: &RawSocket, bytes: usize) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    use std::os::fd::{AsRawFd, BorrowedFd};
    // SAFETY: the descriptor is the socket's own, which outlives this call.
    #[expect(unsafe_code, reason = "netlink-sys gives out a raw descriptor only")]
    let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    setsockopt(&fd, sockopt::SndBufForce, &bytes)
        .or_else(|_| setsockopt(&fd, sockopt::SndBuf, &bytes))
        .map_err(Into::into)
}

pub(super) struct Frame {
    pub(super) kind: u16,
    flags: u16,
    sequence: u32,
    /// Port of the socket whose request this answers or tells of; 0 for the kernel's own doings.
    pub(super) port: u32,
    pub(super) body: Vec<u8>,
}

/// Splits what was received; stops at the first malformed header.
pub(super) fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(header) = bytes.get(..HEADER) {
        let word =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let length = usize::try_from(word(0)).unwrap_or(usize::MAX);
        let Some(body) = bytes.get(HEADER..length) else { break };
        let (kind, flags, sequence, port) = (half(4), half(6), word(8), word(12));
        frames.push(Frame { kind, flags, sequence, port, body: body.to_vec() });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    frames
}

/// `NLMSGERR_ATTR_MSG`.
const EXT_MESSAGE: u16 = 1;

fn refusal(message: &Message, frame: &Frame) -> Result<(), NetlinkError> {
    let code = frame.body.get(..4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
    // The smallest number has no opposite.
    let errno = code.saturating_neg();
    if errno <= 0 || message.tolerate.contains(&errno) {
        return Ok(());
    }
    // After the code: the request's header (its body is left out: NETLINK_CAP_ACK), then attributes.
    let attributes = frame.body.get(4 + HEADER..).unwrap_or_default();
    let detail =
        super::attr::find(attributes, EXT_MESSAGE).and_then(super::attr::as_text).unwrap_or_default();
    Err(NetlinkError::Refused {
        what: message.what.clone(),
        detail: detail.to_owned(),
        source: io::Error::from_raw_os_error(errno),
    })
}

/// Records requests; answers queries with what it was given; fails on demand. Clones share their record.
#[derive(Clone, Debug, Default)]
pub struct FakeChannel {
    state: Arc<Mutex<FakeState>>,
}

#[derive(Debug, Default)]
struct FakeState {
    sent: Vec<Vec<Message>>,
    answers: Vec<Answers>,
    refuse: Option<i32>,
}

impl FakeChannel {
    /// Batches sent since the last call.
    #[must_use]
    pub fn take(&self) -> Vec<Vec<Message>> {
        std::mem::take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).sent)
    }

    /// The next query gets this.
    pub fn answer(&self, answers: Answers) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).answers.insert(0, answers);
    }

    /// The next batch is refused with this error number.
    pub fn refuse(&self, errno: i32) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).refuse = Some(errno);
    }
}

impl Channel for FakeChannel {
    fn transact(&mut self, messages: &[Message]) -> Result<(), NetlinkError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(errno) = state.refuse.take() {
            let what = messages.first().map(|m| m.what.clone()).unwrap_or_default();
            let source = io::Error::from_raw_os_error(errno);
            return Err(NetlinkError::Refused { what, detail: String::new(), source });
        }
        state.sent.push(messages.to_vec());
        Ok(())
    }

    fn query(&mut self, _message: &Message) -> Result<Answers, NetlinkError> {
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner).answers.pop().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_frames_end_the_reading() {
        assert!(frames(&[]).is_empty());
        assert!(frames(&[1; 15]).is_empty());
        assert!(frames(&[0; 64]).is_empty(), "a length shorter than the header");
        assert!(frames(&[0xff; 64]).is_empty(), "a length beyond the end");
    }

    #[test]
    fn fuzz_frames() {
        let mut seed = Vec::new();
        let body = [&(-libc::ENODEV).to_ne_bytes()[..], &[0; HEADER]].concat();
        let text = super::super::attr::Attrs::new().text(EXT_MESSAGE, "no such device").into_bytes();
        let message =
            |body: Vec<u8>, kind| Message { kind, flags: 0, body, tolerate: &[1], what: "x".into() };
        message([body, text].concat(), NLMSG_ERROR).write(7, &mut seed);
        message(i32::MIN.to_ne_bytes().to_vec(), NLMSG_ERROR).write(8, &mut seed);
        assert_eq!(frames(&seed).len(), 2);
        let request = message(Vec::new(), 1);
        weft_testkit::fuzz::run("netlink-frames", &[seed], &[], |bytes| {
            for frame in frames(bytes) {
                let _ = refusal(&request, &frame);
            }
        });
    }

    #[test]
    fn the_kernel_explains_itself() {
        let mut socket = Socket::open(Family::Route).unwrap();
        let error = super::super::link::delete("wfnosuchlink");
        let error = socket.transact(&[error]).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENODEV));
        assert!(error.to_string().starts_with("delete link wfnosuchlink"), "{error}");
    }
}
