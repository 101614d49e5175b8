//! The last steps of a process that is about to become the container's: privileges go, the filter comes, the program
//! takes over.
//!
//! ```text
//! [ids are set, capabilities are all still there]
//! prepare   bounding set, capabilities down to the final ones (and CAP_SYS_ADMIN while the filter still needs it),
//!           find the program as the container's user would
//! (wait for start)
//! execute   filter · final capabilities · ambient set · exec        without no-new-privileges
//!           final capabilities · ambient set · filter · exec        with it
//! ```
//!
//! Both the first process (inside the runtime's executor hook) and later ones (exec) go through here, so they cannot
//! differ. What goes wrong is written to a pipe that closes by itself when the program takes over.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{errno::Errno, unistd};
use oci_spec::runtime::{Capabilities, Process};
use rustix::thread::{CapabilitySet, CapabilitySets};
use weft_sys::process::{SeccompProgram, load_seccomp};

use super::types::{Fault, FaultKind};

/// Largest `/etc/passwd` that is searched for a home directory.
const PASSWD_LIMIT: u64 = 1 << 20;

/// What a process becomes.
#[derive(Clone)]
pub(super) struct Entry {
    args: Vec<String>,
    env: Vec<String>,
    uid: u32,
    caps: Option<Caps>,
    no_new_privileges: bool,
    seccomp: Option<(SeccompProgram, u64)>,
}

/// Capability sets as bit masks.
#[derive(Clone, Copy)]
struct Caps {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
}

impl Entry {
    /// Resolves an OCI process. `seccomp` is the filter with its flags.
    pub(super) fn new(process: &Process, seccomp: Option<(SeccompProgram, u64)>) -> Self {
        let mask = |set: &Option<Capabilities>| {
            set.iter().flatten().fold(0, |all, cap| all | capability_bit(&cap.to_string()))
        };
        Self {
            args: process.args().clone().unwrap_or_default(),
            env: process.env().clone().unwrap_or_default(),
            uid: process.user().uid(),
            caps: process.capabilities().as_ref().map(|c| Caps {
                bounding: mask(c.bounding()),
                effective: mask(c.effective()),
                permitted: mask(c.permitted()),
                inheritable: mask(c.inheritable()),
                ambient: mask(c.ambient()),
            }),
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            seccomp,
        }
    }

    /// Gives up what is not needed until the program runs, and finds the program.
    pub(super) fn prepare(&self) -> Result<PathBuf, Fault> {
        self.reduce_capabilities().map_err(|e| Fault::because("setting capabilities", &e))?;
        self.program()
    }

    /// Finds the program as the container's user would.
    pub(super) fn program(&self) -> Result<PathBuf, Fault> {
        let Some(name) = self.args.first() else { return Err(Fault::other("no command specified")) };
        let path = self.env.iter().find_map(|e| e.strip_prefix("PATH=")).unwrap_or("/bin:/usr/bin");
        find_program(name, path)
    }

    fn filter_needs_admin(&self) -> bool {
        self.seccomp.is_some() && !self.no_new_privileges
    }

    fn reduce_capabilities(&self) -> io::Result<()> {
        let Some(caps) = self.caps else { return Ok(()) };
        for number in 0..64 {
            let cap = CapabilitySet::from_bits_retain(1 << number);
            if caps.bounding & (1 << number) == 0 {
                match rustix::thread::remove_capability_from_bounding_set(cap) {
                    Ok(()) => {}
                    // The first number that the kernel does not know: there are none above.
                    Err(rustix::io::Errno::INVAL) => break,
                    Err(e) => return Err(e.into()),
                }
            }
        }
        let admin = if self.filter_needs_admin() { CapabilitySet::SYS_ADMIN.bits() } else { 0 };
        set_caps(&caps, admin)
    }

    /// Becomes the program. Returns only what went wrong.
    pub(super) fn execute(&self, program: &Path) -> Fault {
        let filter = || match &self.seccomp {
            Some((program, flags)) => {
                load_seccomp(program, *flags).map_err(|e| Fault::because("loading the seccomp filter", &e))
            }
            None => Ok(()),
        };
        let caps = || match &self.caps {
            Some(caps) => set_caps(caps, 0)
                .and_then(|()| set_ambient(caps.ambient))
                .map_err(|e| Fault::because("setting capabilities", &e)),
            None => Ok(()),
        };
        // All memory that exec needs is made ready before the filter is on.
        let (Ok(path), Some(args), Some(env)) = (
            CString::new(program.as_os_str().as_encoded_bytes()),
            c_strings(&self.args),
            c_strings(&self.environment()),
        ) else {
            return Fault::other("a NUL byte in the command or its environment");
        };
        let ready = if self.no_new_privileges {
            caps().and_then(|()| filter())
        } else {
            filter().and_then(|()| caps())
        };
        if let Err(fault) = ready {
            return fault;
        }
        let Err(errno) = unistd::execve(&path, &args, &env);
        exec_fault(program, errno)
    }

    /// The environment, with the user's home where it was not given.
    fn environment(&self) -> Vec<String> {
        let mut env = self.env.clone();
        if !env.iter().any(|e| e.starts_with("HOME=")) {
            let home = home_of(self.uid).unwrap_or_else(|| "/".to_owned());
            env.push(format!("HOME={home}"));
        }
        env
    }
}

/// Sends a fault through the pipe that the shim listens to.
pub(super) fn report(pipe: &OwnedFd, fault: &Fault) {
    if let (Ok(text), Ok(copy)) = (serde_json::to_vec(fault), pipe.try_clone()) {
        // When the shim is gone there is nobody to tell.
        let _ = File::from(copy).write_all(&text);
    }
}

fn set_caps(caps: &Caps, extra: u64) -> io::Result<()> {
    // What we do not hold ourselves cannot be granted; the caller warned about it.
    let held = rustix::thread::capabilities(None)?.permitted.bits();
    let set = |bits: u64| CapabilitySet::from_bits_retain(bits & held);
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: set(caps.effective | extra),
            permitted: set(caps.permitted | caps.effective | extra),
            inheritable: set(caps.inheritable),
        },
    )?;
    Ok(())
}

fn set_ambient(wanted: u64) -> io::Result<()> {
    if wanted == 0 {
        return Ok(());
    }
    rustix::thread::clear_ambient_capability_set()?;
    let held = rustix::thread::capabilities(None)?;
    let grant = wanted & held.permitted.bits() & held.inheritable.bits();
    for number in (0..64).filter(|n| grant & (1 << n) != 0) {
        let cap = CapabilitySet::from_bits_retain(1 << number);
        rustix::thread::configure_capability_in_ambient_set(cap, true)?;
    }
    Ok(())
}

/// Finds the program as Go's `exec.LookPath` does, in whose words Docker's users know the answers.
fn find_program(name: &str, path: &str) -> Result<PathBuf, Fault> {
    if name.contains('/') {
        return match check_program(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Err(Fault {
                kind: FaultKind::NotFound,
                message: format!("exec: \"{name}\": stat {name}: no such file or directory"),
            }),
            Err(errno) => Err(Fault {
                kind: FaultKind::NotExecutable,
                message: format!("exec: \"{name}\": {}", go_words(errno)),
            }),
        };
    }
    for dir in path.split(':') {
        let candidate = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
        if check_program(&candidate).is_ok() {
            return Ok(candidate);
        }
    }
    Err(Fault {
        kind: FaultKind::NotFound,
        message: format!("exec: {name:?}: executable file not found in $PATH"),
    })
}

fn check_program(path: &Path) -> Result<(), Errno> {
    let stat = nix::sys::stat::stat(path)?;
    if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
        return Err(Errno::EISDIR);
    }
    unistd::access(path, unistd::AccessFlags::X_OK)
}

fn exec_fault(program: &Path, errno: Errno) -> Fault {
    let kind = if errno == Errno::ENOENT { FaultKind::NotFound } else { FaultKind::NotExecutable };
    Fault { kind, message: format!("exec {}: {}", program.display(), go_words(errno)) }
}

/// An error number in the words of Go's syscall package.
pub(super) fn go_words(errno: Errno) -> String {
    match errno {
        Errno::ENOENT => "no such file or directory".to_owned(),
        Errno::EACCES => "permission denied".to_owned(),
        Errno::EPERM => "operation not permitted".to_owned(),
        Errno::EISDIR => "is a directory".to_owned(),
        Errno::ENOEXEC => "exec format error".to_owned(),
        Errno::E2BIG => "argument list too long".to_owned(),
        Errno::ETXTBSY => "text file busy".to_owned(),
        Errno::ELOOP => "too many levels of symbolic links".to_owned(),
        other => other.desc().to_lowercase(),
    }
}

fn c_strings(texts: &[String]) -> Option<Vec<CString>> {
    texts.iter().map(|t| CString::new(t.as_str()).ok()).collect()
}

/// The home directory of a user by the container's own `/etc/passwd`, which may be anything: only a regular file of
/// modest size is read.
fn home_of(uid: u32) -> Option<String> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open("/etc/passwd")
        .ok()?;
    let meta = file.metadata().ok()?;
    if meta.mode() & libc::S_IFMT != libc::S_IFREG {
        return None;
    }
    let mut text = Vec::new();
    file.take(PASSWD_LIMIT).read_to_end(&mut text).ok()?;
    parse_home(&String::from_utf8_lossy(&text), uid)
}

fn parse_home(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        (fields.next()?.parse() == Ok(uid)).then_some(())?;
        fields.nth(2).filter(|home| !home.is_empty()).map(str::to_owned)
    })
}

/// Capability numbers of linux/capability.h, by position.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

fn capability_bit(name: &str) -> u64 {
    let name = name.strip_prefix("CAP_").unwrap_or(name);
    CAPABILITIES.iter().position(|c| *c == name).map_or(0, |number| 1 << number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capability_names_have_the_kernels_numbers() {
        for (name, bit) in [("CAP_CHOWN", 0), ("SYS_ADMIN", 21), ("CAP_CHECKPOINT_RESTORE", 40)] {
            assert_eq!(capability_bit(name), 1 << bit, "{name}");
        }
        assert_eq!(capability_bit("CAP_NO_SUCH"), 0);
    }

    #[test]
    fn homes_are_found_in_odd_files() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nbroken\n#c:x:7\npg:x:70:70::/var/lib/pg:/bin/sh\nn:x:8:8:::";
        for (uid, home) in [(0, Some("/root")), (70, Some("/var/lib/pg")), (8, None), (9, None)] {
            assert_eq!(parse_home(passwd, uid).as_deref(), home, "{uid}");
        }
    }

    #[test]
    fn programs_are_found_in_gos_words() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("plain");
        std::fs::write(&file, "x").expect("write");
        let plain = file.display().to_string();
        for (name, kind, words) in [
            ("no-such", FaultKind::NotFound, "exec: \"no-such\": executable file not found in $PATH"),
            ("/no/such", FaultKind::NotFound, "exec: \"/no/such\": stat /no/such: no such file or directory"),
            ("/", FaultKind::NotExecutable, "exec: \"/\": is a directory"),
            (&plain, FaultKind::NotExecutable, &format!("exec: \"{plain}\": permission denied")),
        ] {
            let fault = find_program(name, "/usr/bin:/bin").expect_err("not runnable");
            assert_eq!((fault.kind, fault.message.as_str()), (kind, words));
        }
        assert!(find_program("sh", "/nowhere:/bin").is_ok());
    }
}
