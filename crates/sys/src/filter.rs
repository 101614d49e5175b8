//! Classic BPF on sockets (`SO_ATTACH_FILTER`, `socket(7)`): what a program does not take is never copied here.

use std::{
    io,
    mem::size_of,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Has the kernel judge what comes to a socket from now on.
///
/// # Errors
/// A program that the kernel does not take.
pub(crate) fn attach(socket: BorrowedFd<'_>, lines: &mut [libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(lines.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: lines.as_mut_ptr() };
    let size = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).map_err(io::Error::other)?;
    // SAFETY: the program and its lines outlive the call, which copies them.
    #[expect(unsafe_code, reason = "socket filters have no safe wrapper")]
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
