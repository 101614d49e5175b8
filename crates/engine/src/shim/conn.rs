//! One client of the shim: a control connection, or a stream of output and input after it asked to attach.
//!
//! What a client does not take yet waits in a buffer. The shim stops reading the container's output while any
//! buffer is above [`HIGH_WATER`]: the container then waits for the slowest client, nothing is lost, and memory
//! stays bounded. A client that is gone is dropped and holds nothing up.

use std::{
    io::{self, IoSlice, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
};

use super::wire::{self, Attach, Message, Request};

/// Waiting output above which the container's output is not read.
pub(super) const HIGH_WATER: usize = 64 << 10;

/// What the connection is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Control,
    Stream(Attach),
}

/// What was read.
pub(super) enum Input {
    /// Nothing more for the moment.
    Nothing,
    /// Bytes are in the connection's `received`.
    Some,
    /// The client will not send any more.
    End,
}

pub(super) struct Conn {
    pub(super) id: u64,
    pub(super) mode: Mode,
    pub(super) sock: UnixStream,
    /// Bytes from the client that are not used yet.
    pub(super) received: Vec<u8>,
    /// The client may still send.
    pub(super) readable: bool,
    out: Vec<u8>,
    /// Output ends once all of it is sent.
    ending: bool,
    pub(super) dead: bool,
}

impl Conn {
    pub(super) fn new(id: u64, sock: UnixStream) -> io::Result<Self> {
        sock.set_nonblocking(true)?;
        Ok(Self {
            id,
            mode: Mode::Control,
            sock,
            received: Vec::new(),
            readable: true,
            out: Vec::new(),
            ending: false,
            dead: false,
        })
    }

    pub(super) fn waiting(&self) -> usize {
        self.out.len()
    }

    /// Reads once, at most as much as `buffer` holds.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Input {
        match self.sock.read(buffer) {
            Ok(0) => Input::End,
            Ok(n) => {
                self.received.extend_from_slice(&buffer[..n]);
                Input::Some
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Input::Nothing
            }
            Err(_) => {
                self.dead = true;
                Input::End
            }
        }
    }

    /// The next request, if a whole one is there. A client that does not speak our language is dropped.
    pub(super) fn request(&mut self) -> Option<Request> {
        if self.mode != Mode::Control || self.dead {
            return None;
        }
        match wire::decode(&mut self.received) {
            Ok(request) => request,
            Err(error) => {
                tracing::warn!(%error, "dropping a client");
                self.dead = true;
                None
            }
        }
    }

    pub(super) fn tell(&mut self, message: &Message) {
        let mut frame = Vec::new();
        wire::encode(message, &mut frame);
        self.send(&[&frame]);
    }

    /// Sends now what the socket takes and keeps the rest.
    pub(super) fn send(&mut self, parts: &[&[u8]]) {
        if self.dead {
            return;
        }
        let mut sent = 0;
        if self.out.is_empty() {
            let slices: Vec<IoSlice<'_>> = parts.iter().map(|p| IoSlice::new(p)).collect();
            match self.sock.write_vectored(&slices) {
                Ok(n) => sent = n,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(_) => {
                    self.dead = true;
                    return;
                }
            }
        }
        for part in parts {
            let skip = sent.min(part.len());
            self.out.extend_from_slice(&part[skip..]);
            sent -= skip;
        }
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self) {
        while !self.out.is_empty() && !self.dead {
            match self.sock.write(&self.out) {
                Ok(n) => {
                    self.out.drain(..n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.dead = true,
            }
        }
        if self.out.capacity() > HIGH_WATER / 4 {
            self.out = Vec::new();
        }
        self.end_if_due();
    }

    /// Lets the client see the end of output once it has everything.
    pub(super) fn end(&mut self) {
        self.ending = true;
        self.end_if_due();
    }

    fn end_if_due(&mut self) {
        if self.ending && self.out.is_empty() {
            // A forked helper may hold a copy of this socket: closing ours alone would not show.
            let _ = self.sock.shutdown(Shutdown::Write);
        }
    }
}
