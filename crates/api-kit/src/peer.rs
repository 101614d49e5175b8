//! Noticing that a client has gone, told apart from one that has only said all it has to say.
//!
//! A client may close its writing side behind its request (`nc -N`, `curl` with an upload from a pipe) and still wants its answer,
//! so the end of its input is not its end. A Unix socket tells both apart: when the other end is closed it hangs up. TCP does
//! not: a closed and a half-closed client look the same until something is written to them. There the answer gets some time;
//! a stream that goes on longer ends at its first write, or with that time.

use std::{
    future::pending,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    net::{TcpStream, UnixStream},
};

/// How long a TCP client that has closed its writing side is answered.
const PATIENCE: Duration = Duration::from_secs(30);

/// Completes when the peer of a Unix socket has gone.
pub(crate) fn of_unix(socket: &UnixStream) -> impl Future<Output = ()> + Send + use<> {
    // A socket that hung up says so whatever was asked; asking for data would wake the watch with each piece of it.
    until_closed(socket.as_fd(), Interest::PRIORITY)
}

/// Completes when the peer of a TCP socket has gone, or has been half gone for long.
pub(crate) fn of_tcp(socket: &TcpStream) -> impl Future<Output = ()> + Send + use<> {
    let closed = until_closed(socket.as_fd(), Interest::READABLE);
    async {
        closed.await;
        tokio::time::sleep(PATIENCE).await;
    }
}

/// Watches `socket` by a descriptor of its own, because another task's reads and writes own the first. Where none is left for
/// the watch, the peer never seems to go: writing tells, too.
#[expect(
    deprecated,
    reason = "its successor is unsafe for the sake of types that lend a descriptor; this one is owned"
)]
fn until_closed(socket: BorrowedFd<'_>, interest: Interest) -> impl Future<Output = ()> + Send + use<> {
    let watch = (|| AsyncFd::with_interest(socket.try_clone_to_owned()?, interest))();
    async move {
        let watch: AsyncFd<OwnedFd> = match watch {
            Ok(watch) => watch,
            Err(error) => {
                tracing::debug!(%error, "a client cannot be watched");
                return pending().await;
            }
        };
        loop {
            let Ok(mut guard) = watch.ready(interest).await else { return pending().await };
            if guard.ready().is_read_closed() {
                return;
            }
            // Data is the reader's; the next event comes with the next change.
            guard.clear_ready();
        }
    }
}
