//! Round trips of 64 bytes over UDP between two namespaces, both ends on one core.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::unistd::Pid;

use super::rig::{Netns, THERE, pin};

/// Round trips of one turn: some 30 ms.
const TRIPS: u32 = 2_000;
/// Turns of one sample.
pub const TURNS: usize = 60;

/// An asker and who answers it. Sockets stay in the namespace that they were made in, so turns cost no setting up.
pub struct Path {
    socket: UdpSocket,
    echo: Option<JoinHandle<()>>,
    over: Arc<AtomicBool>,
}

impl Path {
    /// From one namespace to another's address; `source` is the address to ask from.
    pub fn new(from: &Netns, to: &Netns, source: &str, target: &str) -> Result<Self> {
        let answering = to.run(THERE, || Ok(UdpSocket::bind(("0.0.0.0", super::hand::PORT))?))?;
        answering.set_read_timeout(Some(Duration::from_millis(100)))?;
        let socket = from.run(THERE, || {
            let socket = UdpSocket::bind((source, 0))?;
            socket.connect((target, super::hand::PORT))?;
            Ok(socket)
        })?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let echo = std::thread::spawn(move || {
            let _ = pin(Pid::from_raw(0), THERE);
            let mut buffer = [0u8; 64];
            while !told.load(Relaxed) {
                if let Ok((size, peer)) = answering.recv_from(&mut buffer) {
                    let _ = answering.send_to(&buffer[..size], peer);
                }
            }
        });
        Ok(Self { socket, echo: Some(echo), over })
    }

    /// Seconds of one round trip, the mean of a turn.
    pub fn turn(&self) -> Result<f64> {
        let mut buffer = [7u8; 64];
        std::thread::scope(|scope| {
            let asker = scope.spawn(|| {
                pin(Pid::from_raw(0), THERE)?;
                let begun = Instant::now();
                for _ in 0..TRIPS {
                    self.socket.send(&buffer)?;
                    self.socket.recv(&mut buffer)?;
                }
                Ok(begun.elapsed().as_secs_f64() / f64::from(TRIPS))
            });
            asker.join().ok().context("the asker panicked")?
        })
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(echo) = self.echo.take() {
            let _ = echo.join();
        }
    }
}
