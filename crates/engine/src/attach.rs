//! Attaching clients to streams: of a container (before or after its start), or of an exec.
//!
//! [`Attachment`] is made while the request can still be refused; [`Attachment::run`] pumps once the connection has been
//! taken over. Output reaches the client as the shim frames it: Docker's stdcopy frames without a terminal, raw with one.

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UnixStream,
    sync::oneshot,
};
use weft_model::{Container, ContainerId};

use crate::{
    Engine, EngineError, Result,
    cell::{Cell, Joiner},
    detach,
    dress::Dress,
    engine::Inner,
    exec::ExecCell,
    logs::{LogEntry, Stream, reader},
    shim::{Attach, wire::stdcopy_header},
    types::AttachOptions,
};

/// How an attachment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The streams ended.
    Ended,
    /// The client typed the detach keys.
    Detached,
    /// The client went.
    Hung,
}

enum Source {
    Now(UnixStream),
    AtStart(oneshot::Receiver<Result<UnixStream>>),
    Exec(Arc<Inner>, Arc<ExecCell>),
    Nothing,
}

/// A client's streams, not yet connected to it.
pub struct Attachment {
    source: Source,
    logs: Option<reader::LogReader>,
    stdin: bool,
    keys: Vec<u8>,
    tty: bool,
    /// The client wants frames; the shim gives them where there is no terminal.
    framed: bool,
    engine: Engine,
    container: Arc<Container>,
}

impl Engine {
    /// Attaches to a container; one that does not run is joined at its next start, before its process begins.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while it is paused; `Invalid` for unknown detach keys.
    pub async fn attach(&self, id: ContainerId, options: &AttachOptions) -> Result<Attachment> {
        let cell = self.0.cell(id).await?;
        let container = self.0.container(id).await?;
        let status = &container.status;
        if status.state == weft_model::RunState::Paused {
            let text = format!("container {id} is paused, unpause the container before attach");
            return Err(EngineError::Conflict(text));
        }
        let keys = keys(options.detach_keys.as_deref())?;
        let logs = if options.logs { self.replay(id, options).await? } else { None };
        let source = if options.stream { self.stream(&cell, options).await? } else { Source::Nothing };
        self.0.events.container(&container, "attach", []);
        let tty = container.spec.process.tty;
        let stdin = options.stdin && container.spec.process.open_stdin;
        let framed = !tty;
        Ok(Attachment { source, logs, stdin, keys, tty, framed, engine: self.clone(), container })
    }

    /// What was logged so far, where the driver can tell.
    async fn replay(&self, id: ContainerId, options: &AttachOptions) -> Result<Option<reader::LogReader>> {
        let query = reader::LogQuery {
            stdout: options.stdout,
            stderr: options.stderr,
            ..reader::LogQuery::default()
        };
        match self.logs(id, query).await {
            Ok(reader) => Ok(Some(reader)),
            Err(EngineError::Unsupported(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn stream(&self, cell: &Arc<Cell>, options: &AttachOptions) -> Result<Source> {
        let attach = Attach { stdin: options.stdin, stdout: options.stdout, stderr: options.stderr };
        if let Some(shim) = cell.shim() {
            match shim.attach(attach).await {
                Ok(stream) => return Ok(Source::Now(stream)),
                // It ended this moment: then it is the next run that is waited for.
                Err(_) if shim.wait().now_or_never().is_some() => {}
                Err(e) => return Err(e.into()),
            }
        }
        let (answer, coming) = oneshot::channel();
        cell.state.lock().joiners.push(Joiner { attach, answer });
        Ok(Source::AtStart(coming))
    }
}

/// The wanted detach keys, the default ones when nothing was said.
pub(crate) fn keys(written: Option<&str>) -> Result<Vec<u8>> {
    match written {
        None | Some("") => Ok(detach::DEFAULT.to_vec()),
        Some(text) => {
            let bad = |e| EngineError::Invalid(format!("Invalid detach keys ({text}) provided: {e}"));
            detach::parse(text).map_err(bad)
        }
    }
}

impl Attachment {
    pub(crate) fn of_exec(
        engine: Engine,
        container: Arc<Container>,
        exec: Arc<ExecCell>,
        keys: Vec<u8>,
    ) -> Self {
        let (stdin, tty) = (exec.spec.attach.0, exec.spec.tty);
        let source = Source::Exec(Arc::clone(&engine.0), exec);
        Self { source, logs: None, stdin, keys, tty, framed: !tty, engine, container }
    }

    /// Output in frames, or as it is, whatever the process has.
    #[must_use]
    pub fn framed(self, framed: bool) -> Self {
        Self { framed, ..self }
    }

    /// Output is in frames that name its stream, not as it is.
    #[must_use]
    pub fn is_framed(&self) -> bool {
        self.framed
    }

    /// Connects the streams to a client until one side ends. For an exec this starts its process.
    ///
    /// # Errors
    /// `StartFailed` when an exec's process cannot be started (nothing was written to `output` then).
    pub async fn run<R, W>(mut self, input: R, mut output: W) -> Result<Left>
    where
        R: AsyncRead + Unpin + Send,
        W: AsyncWrite + Unpin + Send,
    {
        if let Some(mut logs) = self.logs.take() {
            while let Some(batch) =
                logs.next_batch().await.map_err(|e| EngineError::Internal(weft_base::chain(&e)))?
            {
                let bytes = frames(&batch, !self.framed);
                if output.write_all(&bytes).await.is_err() {
                    return Ok(Left::Hung);
                }
            }
        }
        let exec_id = match &self.source {
            Source::Exec(_, exec) => Some(exec.spec.id),
            _ => None,
        };
        let mut over = None;
        let stream = match std::mem::replace(&mut self.source, Source::Nothing) {
            Source::Now(stream) => stream,
            Source::AtStart(coming) => match coming.await {
                Ok(stream) => stream?,
                // The start failed, or the container is gone.
                Err(_) => return Ok(Left::Ended),
            },
            Source::Exec(inner, exec) => match crate::exec::start(&inner, &exec, true).await? {
                Some(stream) => {
                    over = Some(exec.over.subscribe());
                    stream
                }
                None => return Ok(Left::Ended),
            },
            Source::Nothing => {
                let _ = output.shutdown().await;
                return Ok(Left::Ended);
            }
        };
        let left = self.pump(stream, input, &mut output).await;
        if let (Left::Ended, Some(mut over)) = (left, over) {
            // Clients ask for the exit code as soon as the stream ends.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(5), over.wait_for(|o| *o)).await;
        }
        let _ = output.shutdown().await;
        if left == Left::Detached {
            let events = &self.engine.0.events;
            match exec_id {
                Some(id) => events.container(&self.container, "exec_detach", [("execID", id.to_string())]),
                None => events.container(&self.container, "detach", []),
            }
        }
        Ok(left)
    }

    async fn pump<R, W>(&self, stream: UnixStream, mut input: R, output: &mut W) -> Left
    where
        R: AsyncRead + Unpin + Send,
        W: AsyncWrite + Unpin + Send,
    {
        let (mut from, mut to) = stream.into_split();
        let give = async {
            if !self.stdin {
                return hung(&mut input).await;
            }
            let keys = if self.tty { self.keys.clone() } else { Vec::new() };
            let mut filter = detach::Filter::new(keys);
            let (mut buffer, mut out) = (vec![0u8; 32 << 10], Vec::new());
            while let Ok(n @ 1..) = input.read(&mut buffer).await {
                let detached = filter.pass(&buffer[..n], &mut out);
                let written = to.write_all(&out).await;
                out.clear();
                if detached {
                    return Left::Detached;
                }
                if written.is_err() {
                    // The process reads no more; its output goes on.
                    return std::future::pending().await;
                }
            }
            filter.rest(&mut out);
            let _ = to.write_all(&out).await;
            let _ = to.shutdown().await;
            std::future::pending().await
        };
        let take = async {
            let mut buffer = vec![0u8; 64 << 10];
            let mut dress = Dress::new(!self.tty, self.framed);
            loop {
                match from.read(&mut buffer).await {
                    Ok(0) | Err(_) => return Left::Ended,
                    Ok(n) => {
                        let bytes = dress.pass(&buffer[..n]);
                        if output.write_all(bytes).await.is_err() || output.flush().await.is_err() {
                            return Left::Hung;
                        }
                    }
                }
            }
        };
        tokio::select! {
            left = take => left,
            left = give => left,
        }
    }
}

/// Waits until a client that gives no input is gone. One that only closes its half still hears the output.
async fn hung<R: AsyncRead + Unpin>(input: &mut R) -> Left {
    let mut buffer = [0u8; 512];
    loop {
        match input.read(&mut buffer).await {
            Ok(0) => return std::future::pending().await,
            Ok(_) => {}
            Err(_) => return Left::Hung,
        }
    }
}

/// Log entries as an attached client would have seen them.
fn frames(batch: &[LogEntry], tty: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in batch {
        let end = usize::from(!entry.partial);
        if !tty {
            let stream = if entry.stream == Stream::Stdout { 1 } else { 2 };
            out.extend_from_slice(&stdcopy_header(stream, entry.line.len() + end));
        }
        out.extend_from_slice(&entry.line);
        out.extend_from_slice(&b"\n"[..end]);
    }
    out
}
