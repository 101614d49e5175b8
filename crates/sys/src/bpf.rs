//! Device programs of cgroup version 2 (bpf(2), `BPF_PROG_TYPE_CGROUP_DEVICE`): the kernel asks the program before a
//! process of the cgroup makes, reads or writes a device node. What version 1 had files for.
//!
//! Only loading and attaching; what the program says is its maker's business. A program that is attached lives as long as
//! its cgroup.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

/// One instruction, as the kernel has it (`struct bpf_insn` of `linux/bpf.h`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Class, size and operation.
    pub code: u8,
    /// Source register in the upper half, destination in the lower.
    pub registers: u8,
    /// Jump distance, or offset in memory.
    pub offset: i16,
    /// Constant.
    pub constant: i32,
}

const PROG_LOAD: u32 = 5;
const PROG_ATTACH: u32 = 8;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Cgroups below may have programs too; all must agree.
const ALLOW_MULTI: u32 = 2;

/// The part of `union bpf_attr` that loading needs; the kernel takes what is missing as zero.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// # Safety
/// `attr` must be the kernel's structure for `command`, and what it points to must live.
#[allow(unsafe_code)]
unsafe fn bpf<T>(command: u32, attr: &T) -> io::Result<RawFd> {
    // SAFETY: by the caller; the size tells the kernel how much of the union there is.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(done).map_err(io::Error::other)
}

/// Loads the program and attaches it to the cgroup whose directory is open.
///
/// # Errors
/// `InvalidInput` (EINVAL, EACCES) when the kernel's verifier refuses the program, `PermissionDenied` without
/// `CAP_SYS_ADMIN` or `CAP_BPF`.
#[allow(unsafe_code)]
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    let license = c"GPL";
    let load = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the structure is BPF_PROG_LOAD's beginning; program and license outlive the call; the number is a
    // descriptor that is ours alone.
    let loaded = unsafe { OwnedFd::from_raw_fd(bpf(PROG_LOAD, &load)?) };
    let attach = Attach {
        target: u32::try_from(cgroup.as_raw_fd()).map_err(io::Error::other)?,
        program: u32::try_from(loaded.as_raw_fd()).map_err(io::Error::other)?,
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the structure is BPF_PROG_ATTACH's beginning and holds no pointer.
    unsafe { bpf(PROG_ATTACH, &attach) }.map(drop)
}
