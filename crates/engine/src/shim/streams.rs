//! The shim's ends of the container's streams: reading output in big pieces, and giving input without ever waiting.

use std::{io, os::fd::OwnedFd};

use crate::logs::Stream;

/// Input above which clients are not read.
const INPUT_HIGH_WATER: usize = 64 << 10;

/// The container's standard input.
#[derive(Default)]
pub(super) struct StdinPipe {
    fd: Option<OwnedFd>,
    /// Whether it is, or will be, connected.
    open: bool,
    waiting: Vec<u8>,
    closing: bool,
}

impl StdinPipe {
    /// A standard input that is to be connected later, or never.
    pub(super) fn new(open: bool) -> Self {
        Self { open, ..Self::default() }
    }

    pub(super) fn connect(&mut self, fd: OwnedFd) {
        if self.open {
            self.fd = Some(fd);
            self.flush();
        }
    }

    /// Whether more input can be taken.
    pub(super) fn has_room(&self) -> bool {
        !self.open || self.waiting.len() < INPUT_HIGH_WATER
    }

    /// The descriptor, when something waits to be written.
    pub(super) fn wants_write(&self) -> Option<&OwnedFd> {
        self.fd.as_ref().filter(|_| !self.waiting.is_empty())
    }

    /// The descriptor, to notice that nobody reads any more.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.open && !self.closing {
            self.waiting.extend_from_slice(bytes);
            self.flush();
        }
    }

    /// Closes once everything is written.
    pub(super) fn close(&mut self) {
        self.closing = true;
        self.flush();
    }

    pub(super) fn flush(&mut self) {
        while let (Some(fd), false) = (&self.fd, self.waiting.is_empty()) {
            match rustix::io::write(fd, &self.waiting) {
                Ok(n) => {
                    self.waiting.drain(..n);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => self.abandon(),
            }
        }
        if self.closing && self.waiting.is_empty() && self.fd.is_some() {
            self.abandon();
        }
        if self.waiting.is_empty() && self.waiting.capacity() > INPUT_HIGH_WATER / 4 {
            self.waiting = Vec::new();
        }
    }

    /// Nobody reads it any more.
    pub(super) fn abandon(&mut self) {
        self.fd = None;
        self.open = false;
        self.waiting = Vec::new();
    }
}

/// One output stream.
pub(super) struct Output {
    pub(super) fd: OwnedFd,
    pub(super) stream: Stream,
}

/// What reading an output gave.
pub(super) enum Chunk {
    Data(usize),
    Nothing,
    End,
}

impl Output {
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<Chunk> {
        match rustix::io::read(&self.fd, buffer) {
            // EIO: the last holder of the terminal's other side is gone.
            Ok(0) | Err(rustix::io::Errno::IO) => Ok(Chunk::End),
            Ok(n) => Ok(Chunk::Data(n)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(Chunk::Nothing),
            Err(e) => Err(e.into()),
        }
    }
}
