//! The small init of `--init`: process 1 of a container, which starts the real program, passes signals on to it,
//! and reaps whatever is orphaned.
//!
//! It is a program of its own, not part of `weft`: it must run in any image, and so needs no loader and no
//! library; and a container's `/proc/1/exe` must not lead to the daemon's executable. Ten kilobytes, made by
//! `build.rs` with nothing but `core`, and carried inside `weft`. It behaves as tini does under `docker --init`.
#![no_std]
#![no_main]

use core::arch::{asm, naked_asm};

#[cfg(target_arch = "x86_64")]
mod number {
    pub const WRITE: usize = 1;
    pub const SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const SETPGID: usize = 109;
    pub const SIGTIMEDWAIT: usize = 128;
    pub const EXIT_GROUP: usize = 231;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub const WRITE: usize = 64;
    pub const SIGPROCMASK: usize = 135;
    pub const IOCTL: usize = 29;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
    pub const KILL: usize = 129;
    pub const SETPGID: usize = 154;
    pub const SIGTIMEDWAIT: usize = 137;
    pub const EXIT_GROUP: usize = 94;
}

const SIGCHLD: isize = 17;
const SIGTTIN: isize = 21;
const SIGTTOU: isize = 22;
const SIG_SETMASK: usize = 2;
const WNOHANG: usize = 1;
const TIOCSPGRP: usize = 0x5410;
const EACCES: isize = -13;
const ENOENT: isize = -2;
const ENOTDIR: isize = -20;

/// A system call; a negative result is `-errno`.
///
/// # Safety
/// The arguments must be what the call expects.
#[cfg(target_arch = "x86_64")]
unsafe fn call(n: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result;
    // SAFETY: the kernel's calling convention; rcx and r11 are lost.
    unsafe {
        asm!("syscall", inlateout("rax") n as isize => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            in("r8") 0usize, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// A system call; a negative result is `-errno`.
///
/// # Safety
/// The arguments must be what the call expects.
#[cfg(target_arch = "aarch64")]
unsafe fn call(n: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result;
    // SAFETY: the kernel's calling convention.
    unsafe {
        asm!("svc 0", in("x8") n, inlateout("x0") a as isize => result, in("x1") b, in("x2") c, in("x3") d,
            in("x4") 0usize, options(nostack));
    }
    result
}

/// The kernel enters here, with the arguments on the stack.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {}", "ud2", sym begin);
    #[cfg(target_arch = "aarch64")]
    naked_asm!("mov x29, xzr", "mov x0, sp", "bl {}", "brk 1", sym begin);
}

extern "C" fn begin(stack: *const usize) -> ! {
    // SAFETY: the kernel puts argc, the argument pointers, a null, the environment pointers and a null there.
    let (argc, argv, envp) = unsafe {
        let argc = *stack;
        (argc, stack.add(1).cast::<*const u8>(), stack.add(argc + 2).cast::<*const u8>())
    };
    let mut skip = 1;
    // SAFETY: as above; each argument ends with a zero byte.
    if argc > 1 && unsafe { text(*argv.add(1)) } == b"--" {
        skip = 2;
    }
    if argc <= skip {
        fail(b"no program is given", b"", 1);
    }
    let all = u64::MAX;
    let mut before = 0u64;
    // SAFETY: both masks are eight bytes. From here on signals wait until they are asked for.
    unsafe { call(number::SIGPROCMASK, SIG_SETMASK, addr(&raw const all), addr_mut(&raw mut before), 8) };
    // SAFETY: a plain fork: no shared memory, no new stack.
    let child = unsafe { call(number::CLONE, SIGCHLD as usize, 0, 0, 0) };
    if child < 0 {
        fail(b"fork failed", b"", 1);
    }
    if child == 0 {
        // SAFETY: the rest of the argument list, which ends with a null.
        run(unsafe { argv.add(skip) }, envp, before);
    }
    supervise(child, all)
}

/// Becomes the program.
fn run(argv: *const *const u8, envp: *const *const u8, mask: u64) -> ! {
    // SAFETY: own process group, in the foreground of the terminal if there is one; old mask; all best effort.
    let path = unsafe {
        call(number::SETPGID, 0, 0, 0, 0);
        let group: i32 = own_pid();
        call(number::IOCTL, 0, TIOCSPGRP, (&raw const group).addr(), 0);
        call(number::SIGPROCMASK, SIG_SETMASK, addr(&raw const mask), 0, 8);
        text(*argv)
    };
    let mut result = ENOENT;
    if path.contains(&b'/') {
        // SAFETY: null-terminated lists and texts of the kernel's making.
        result = unsafe { call(number::EXECVE, (*argv).addr(), argv.addr(), envp.addr(), 0) };
    } else {
        for dir in search(envp).split(|b| *b == b':') {
            let mut buffer = [0u8; 4096];
            if dir.len() + path.len() + 2 > buffer.len() {
                continue;
            }
            let mut n = 0;
            for part in [if dir.is_empty() { b"." } else { dir }, b"/", path] {
                for byte in part {
                    buffer[n] = *byte;
                    n += 1;
                }
            }
            // SAFETY: as above; the buffer ends with a zero byte.
            let now = unsafe { call(number::EXECVE, buffer.as_ptr().addr(), argv.addr(), envp.addr(), 0) };
            // A file that may not be run counts more than one that is not there.
            if !matches!(now, ENOENT | ENOTDIR) || result == ENOENT {
                result = now;
            }
        }
    }
    let why: &[u8] = match result {
        ENOENT | ENOTDIR => b": No such file or directory",
        EACCES => b": Permission denied",
        _ => b": cannot be executed",
    };
    fail(path, why, if matches!(result, ENOENT | ENOTDIR) { 127 } else { 126 })
}

fn own_pid() -> i32 {
    #[cfg(target_arch = "x86_64")]
    const GETPID: usize = 39;
    #[cfg(target_arch = "aarch64")]
    const GETPID: usize = 172;
    // SAFETY: takes nothing.
    (unsafe { call(GETPID, 0, 0, 0, 0) }) as i32
}

/// The value of `PATH`.
fn search(envp: *const *const u8) -> &'static [u8] {
    let mut at = envp;
    // SAFETY: the list ends with a null.
    unsafe {
        while !(*at).is_null() {
            if let Some(value) = text(*at).strip_prefix(b"PATH=") {
                return value;
            }
            at = at.add(1);
        }
    }
    b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

/// Passes signals on and reaps, until the program ends; then ends as it did.
fn supervise(child: isize, all: u64) -> ! {
    loop {
        // SAFETY: the mask is eight bytes; no details, no time limit.
        let signal = unsafe { call(number::SIGTIMEDWAIT, addr(&raw const all), 0, 0, 8) };
        match signal {
            SIGCHLD => reap(child),
            SIGTTIN | SIGTTOU => {}
            1.. => {
                // SAFETY: plain numbers.
                unsafe { call(number::KILL, child as usize, signal as usize, 0, 0) };
            }
            _ => {}
        }
    }
}

fn reap(child: isize) {
    loop {
        let mut status = 0i32;
        // SAFETY: any child; the status is four bytes; no usage is asked for.
        let ended = unsafe { call(number::WAIT4, usize::MAX, (&raw mut status).addr(), WNOHANG, 0) };
        if ended <= 0 {
            return;
        }
        if ended == child {
            let signal = status & 0x7f;
            exit(if signal == 0 { (status >> 8) & 0xff } else { 128 + signal });
        }
    }
}

fn fail(first: &[u8], second: &[u8], code: i32) -> ! {
    for part in [b"docker-init: ", first, second, b"\n"] {
        // SAFETY: bytes that are there.
        unsafe { call(number::WRITE, 2, part.as_ptr().addr(), part.len(), 0) };
    }
    exit(code)
}

fn exit(code: i32) -> ! {
    loop {
        // SAFETY: does not return.
        unsafe { call(number::EXIT_GROUP, code as usize, 0, 0, 0) };
    }
}

fn addr(mask: *const u64) -> usize {
    mask.expose_provenance()
}

fn addr_mut(mask: *mut u64) -> usize {
    mask.expose_provenance()
}

/// # Safety
/// `start` must lead to bytes of which one is zero, and which stay.
unsafe fn text(start: *const u8) -> &'static [u8] {
    // SAFETY: by the caller.
    unsafe { core::slice::from_raw_parts(start, strlen(start)) }
}

/// The compiler may call these; there is no library to have them.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    for i in 0..n {
        // SAFETY: by the caller; volatile, or this would be made a call of itself.
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, n: usize) -> *mut u8 {
    for i in 0..n {
        // SAFETY: by the caller; volatile as above.
        unsafe { to.add(i).write_volatile(value as u8) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    for i in 0..n {
        // SAFETY: by the caller; volatile as above.
        let (x, y) = unsafe { (a.add(i).read_volatile(), b.add(i).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    // SAFETY: by the caller.
    unsafe { memcmp(a, b, n) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(start: *const u8) -> usize {
    let mut n = 0;
    // SAFETY: by the caller; volatile as above.
    while unsafe { start.add(n).read_volatile() } != 0 {
        n += 1;
    }
    n
}

/// `core` names it, though nothing here unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    fail(b"panic", b"", 255)
}
