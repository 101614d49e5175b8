//! A hijacked connection and this program's standard streams, until one of them ends.
//!
//! ```text
//! stdin ──(detach keys)──▶ connection ──▶ stdout, stderr
//! window size, signals ──▶ further requests
//! ```

use std::{
    io::{Read as _, Write as _},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinHandle,
};

use super::{keys::Keys, terminal};
use crate::client::{Channel, Client, Frames, Upgraded};

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The other side has nothing more to say.
    Ended,
    /// The detach keys were typed.
    Detached,
}

/// What a session connects.
#[derive(Debug)]
pub struct Session {
    /// The other side has a terminal: its output is raw.
    pub tty: bool,
    /// Pass our standard input on.
    pub stdin: bool,
    /// Watched for when the other side has a terminal.
    pub keys: Keys,
}

impl Session {
    /// Copies until the other side ends or the person detaches.
    pub async fn run(self, connection: Upgraded) -> anyhow::Result<End> {
        let _raw = if self.tty && self.stdin { terminal::Raw::enter()? } else { None };
        let (reader, writer) = tokio::io::split(connection);
        let mut output = tokio::spawn(show(reader, self.tty));
        if !self.stdin {
            output.await??;
            drop(writer);
            return Ok(End::Ended);
        }
        let keys = self.tty.then_some(self.keys);
        let mut input = tokio::spawn(feed(writer, keys));
        tokio::select! {
            shown = &mut output => { shown??; Ok(End::Ended) }
            fed = &mut input => {
                if fed?? {
                    return Ok(End::Detached);
                }
                output.await??;
                Ok(End::Ended)
            }
        }
    }
}

async fn show(mut reader: ReadHalf<Upgraded>, tty: bool) -> anyhow::Result<()> {
    let mut buffer = vec![0; 32 * 1024];
    let mut frames = Frames::default();
    loop {
        let length = match reader.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            // The daemon may cut the connection at the end.
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
            Err(e) => return Err(e).context("reading from the container"),
        };
        if tty {
            write(Channel::Out, &buffer[..length])?;
        } else {
            frames.feed(&buffer[..length], write)?;
        }
    }
}

/// Writes to one of our streams at once.
pub fn write(channel: Channel, bytes: &[u8]) -> anyhow::Result<()> {
    match channel {
        Channel::Out => {
            crate::output::bytes(bytes)?;
            std::io::stdout().flush()?;
        }
        Channel::Err => std::io::stderr().write_all(bytes)?,
    }
    Ok(())
}

/// Passes our input on; `true` when the detach keys were typed. What is typed after the end goes nowhere.
async fn feed(mut writer: WriteHalf<Upgraded>, mut keys: Option<Keys>) -> anyhow::Result<bool> {
    let mut typed = input();
    let mut out = Vec::new();
    while let Some(bytes) = typed.recv().await {
        out.clear();
        let detach = match &mut keys {
            Some(keys) => keys.feed(&bytes, &mut out),
            None => {
                out.extend_from_slice(&bytes);
                false
            }
        };
        if writer.write_all(&out).await.is_err() || writer.flush().await.is_err() {
            return Ok(false);
        }
        if detach {
            return Ok(true);
        }
    }
    // The other side may have ended already.
    let _ = writer.shutdown().await;
    Ok(false)
}

/// Our standard input, read by a thread of its own: a read cannot be given up, so nobody must wait for it.
fn input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(8);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 32 * 1024];
        loop {
            match std::io::stdin().lock().read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    if sender.blocking_send(buffer[..length].to_vec()).is_err() {
                        return;
                    }
                }
            }
        }
    });
    receiver
}

/// Tells the other side our window's size, now and whenever it changes. `path` is the resize endpoint.
#[must_use]
pub fn follow_size(client: &Client, path: String) -> JoinHandle<()> {
    let client = client.clone();
    tokio::spawn(async move {
        let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
        // The first one may come before there is a terminal to resize.
        for _ in 0..5 {
            if resize(&client, &path).await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        while changes.recv().await.is_some() {
            resize(&client, &path).await;
        }
    })
}

async fn resize(client: &Client, path: &str) -> bool {
    let Some((rows, columns)) = terminal::size() else { return true };
    client.post(path).query("h", rows).query("w", columns).done().await.is_ok()
}

/// Hands signals that this program gets on to the container. `path` is the kill endpoint.
pub fn forward_signals(client: &Client, path: &str) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let forwarded = [
        ("HUP", SignalKind::hangup()),
        ("INT", SignalKind::interrupt()),
        ("QUIT", SignalKind::quit()),
        ("TERM", SignalKind::terminate()),
        ("USR1", SignalKind::user_defined1()),
        ("USR2", SignalKind::user_defined2()),
        ("ALRM", SignalKind::alarm()),
    ];
    let mut tasks = Vec::new();
    for (name, kind) in forwarded {
        let mut signals = signal(kind)?;
        let (client, path) = (client.clone(), path.to_owned());
        tasks.push(tokio::spawn(async move {
            while signals.recv().await.is_some() {
                // It may have ended by now: then the signal has nobody to go to.
                let _ = client.post(path.as_str()).query("signal", name).done().await;
            }
        }));
    }
    Ok(tasks)
}
