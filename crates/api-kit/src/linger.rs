//! Closing a connection so that the client reads the answer.
//!
//! A request that is refused early (a corrupt archive, say) leaves a client that is still sending. Closed at once, the socket
//! would answer the client's next write with an error or a reset, and the client would report that instead of our answer. So
//! the write side is closed first, and what still comes is read and dropped until the client sees the end, or has had half a
//! second (the delay that Go's server grants, too).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// Longest time to go on reading.
const PATIENCE: Duration = Duration::from_millis(500);

/// A stream that lingers when it is shut down.
pub(crate) struct Linger<S> {
    stream: S,
    /// The write side is closed; reading ends with this.
    closing: Option<Pin<Box<Sleep>>>,
}

impl<S> Linger<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, closing: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Linger<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if me.closing.is_none() {
            ready!(Pin::new(&mut me.stream).poll_shutdown(cx))?;
            me.closing = Some(Box::pin(tokio::time::sleep(PATIENCE)));
        }
        let mut waste = [0; 8192];
        loop {
            if me.closing.as_mut().is_none_or(|timer| timer.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(Ok(()));
            }
            let mut waste = ReadBuf::new(&mut waste);
            match Pin::new(&mut me.stream).poll_read(cx, &mut waste) {
                Poll::Pending => return Poll::Pending,
                // The client has seen the end, or is gone.
                Poll::Ready(Ok(())) if waste.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(())),
            }
        }
    }
}
