//! A TCP relay on loopback that can cut the wire: for what a network does and a process does not.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use anyhow::Result;

/// What happens on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Wire {
    /// Bytes pass.
    Whole = 0,
    /// Nothing passes either way, and nobody is told.
    Cut = 1,
    /// What the client says arrives; the answers do not.
    Deaf = 2,
}

/// A relay; it ends on drop.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    wire: AtomicU8,
    delay: AtomicU64,
    over: AtomicBool,
}

impl Relay {
    /// A relay to `target` (`host:port`).
    pub fn to(target: &str) -> Result<Self> {
        Self::at("127.0.0.1:0", target)
    }

    /// The same, listening at `here`.
    pub fn at(here: &str, target: &str) -> Result<Self> {
        let listener = TcpListener::bind(here)?;
        let (address, shared) = (listener.local_addr()?, Arc::new(Shared::default()));
        let (target, mine) = (target.to_owned(), Arc::clone(&shared));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if mine.over.load(SeqCst) {
                    return;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&target)) else { continue };
                for (from, to, answers) in [(&client, &server, false), (&server, &client, true)] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                    let shared = Arc::clone(&mine);
                    std::thread::spawn(move || carry(from, to, answers, &shared));
                }
            }
        });
        Ok(Self { address, shared })
    }

    /// `host:port` of the relay.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Changes what happens on the wire, for connections that are and that come.
    pub fn set(&self, wire: Wire) {
        self.shared.wire.store(wire as u8, SeqCst);
    }

    /// Delays each piece of bytes.
    pub fn delay(&self, by: Duration) {
        self.shared.delay.store(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.store(true, SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, answers: bool, shared: &Shared) {
    let _ = (from.set_nodelay(true), to.set_nodelay(true));
    let mut buffer = vec![0; 64 << 10];
    'pieces: while let Ok(n @ 1..) = from.read(&mut buffer) {
        std::thread::sleep(Duration::from_millis(shared.delay.load(SeqCst)));
        loop {
            let wire = shared.wire.load(SeqCst);
            if shared.over.load(SeqCst) {
                break 'pieces;
            }
            if wire == Wire::Whole as u8 || (wire == Wire::Deaf as u8 && !answers) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
