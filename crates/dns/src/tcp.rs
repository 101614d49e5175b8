//! Conversations over TCP (RFC 7766): queries one after another, each with its length before it.
//!
//! A container may have so many connections at a time. Another one closes that which has been waiting for its asker for the
//! longest time (RFC 7766 section 6.2.3 lets a server do that), so that clients that keep theirs open keep nobody out. One
//! that waits for us is left alone.

use std::{io, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    Decision, Transport,
    serve::{Core, Served},
};

/// A connection that asks nothing for this long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// Connections of one container at a time.
const MOST: usize = 64;

/// One connection.
struct Line {
    /// Since when it waits for its asker; `None` while it is our turn.
    waits: Mutex<Option<Instant>>,
    close: Notify,
}

/// All of one container.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<Arc<Line>>>>);

impl Lines {
    /// A new one, for which an idle one may have to go; `None` where none is idle.
    fn open(&self) -> Option<Arc<Line>> {
        let mut lines = self.0.lock();
        if lines.len() >= MOST {
            let idle = lines.iter().enumerate().filter_map(|(at, line)| Some(((*line.waits.lock())?, at)));
            let (_, at) = idle.min()?;
            lines.swap_remove(at).close.notify_one();
        }
        let line = Arc::new(Line { waits: Mutex::new(Some(Instant::now())), close: Notify::new() });
        lines.push(Arc::clone(&line));
        Some(line)
    }

    fn gone(&self, line: &Arc<Line>) {
        self.0.lock().retain(|other| !Arc::ptr_eq(other, line));
    }
}

/// Serves connections until the listener fails; they end with it.
pub(crate) async fn serve_tcp(core: Arc<Core>, listener: TcpListener, served: Arc<Served>) -> io::Result<()> {
    let (lines, mut talks) = (Lines::default(), JoinSet::new());
    loop {
        while talks.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            // Out of descriptors: wait for some to come back instead of spinning.
            Err(error) if error.raw_os_error().is_some_and(|e| matches!(e, 23 | 24)) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let Some(line) = lines.open() else { continue };
        let (core, served, lines) = (Arc::clone(&core), Arc::clone(&served), lines.clone());
        talks.spawn(async move {
            if let Err(error) = converse(&core, &served, stream, &line).await {
                tracing::debug!(%error, "a connection to the resolver ended");
            }
            lines.gone(&line);
        });
    }
}

async fn converse(
    core: &Arc<Core>,
    served: &Arc<Served>,
    mut stream: TcpStream,
    line: &Line,
) -> io::Result<()> {
    loop {
        let packet = tokio::select! {
            packet = next(&mut stream) => packet?,
            () = line.close.notified() => return Ok(()),
        };
        let Some(packet) = packet else { return Ok(()) };
        *line.waits.lock() = None;
        let names = Arc::clone(&core.names.read());
        let answer = match core.decide(&packet, Transport::Tcp, &names, served.container) {
            Decision::Drop => return Ok(()),
            Decision::Reply(answer) => Some(answer),
            Decision::Forward { limit } => match served.forwards.take() {
                Some(_place) => core.forward(&packet, Transport::Tcp, served.container, limit).await,
                None => core.refuse(&packet),
            },
        };
        let Some(answer) = answer else { return Ok(()) };
        let mut framed = u16::try_from(answer.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        timeout(IDLE, stream.write_all(&framed)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        *line.waits.lock() = Some(Instant::now());
    }
}

/// The next query; `None` where there is none any more.
async fn next(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let Ok(size) = timeout(IDLE, stream.read_u16()).await else { return Ok(None) };
    let size = match size {
        Ok(size) => size,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut packet = vec![0u8; usize::from(size)];
    timeout(IDLE, stream.read_exact(&mut packet)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    Ok(Some(packet))
}
