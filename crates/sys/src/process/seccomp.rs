//! A compiled seccomp filter as bytes, and its loading.
//!
//! Compiling a container's profile takes milliseconds, loading it microseconds; so the compiled program is
//! kept in a file and loaded from there.

use std::io;

/// A classic-BPF program: `struct sock_filter` items of 8 bytes (u16 code, u8 jt, u8 jf, u32 k), native byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeccompProgram {
    filters: Vec<[u8; 8]>,
}

impl SeccompProgram {
    /// Takes the bytes that `seccomp_export_bpf` wrote; `None` unless they are 1 to 4096 whole instructions (the
    /// kernel's `BPF_MAXINSNS`).
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (items, rest) = bytes.as_chunks::<8>();
        (rest.is_empty() && (1..=4096).contains(&items.len())).then(|| Self { filters: items.to_vec() })
    }
}

/// Installs the filter on the calling thread with `SECCOMP_FILTER_FLAG_*` flags (seccomp(2)). Needs
/// `CAP_SYS_ADMIN` or no-new-privileges.
///
/// # Errors
/// What the kernel says: `EACCES` without the right, `EINVAL` for a program or flag it does not take.
pub fn load_seccomp(program: &SeccompProgram, flags: u64) -> io::Result<()> {
    let items: Vec<libc::sock_filter> = program
        .filters
        .iter()
        .map(|&[c0, c1, jt, jf, k0, k1, k2, k3]| libc::sock_filter {
            code: u16::from_ne_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        })
        .collect();
    let len = u16::try_from(items.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: items.as_ptr().cast_mut() };
    // SAFETY: `program` points at `len` instructions that live over the call; the kernel only reads them.
    #[expect(unsafe_code, reason = "seccomp(2) has no safe wrapper")]
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_programs_are_taken() {
        for (len, taken) in
            [(0, false), (7, false), (8, true), (12, false), (4096 * 8, true), (4097 * 8, false)]
        {
            assert_eq!(SeccompProgram::from_bytes(&vec![0; len]).is_some(), taken, "{len} bytes");
        }
    }
}
