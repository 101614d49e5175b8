//! What keeps processes apart and watches over them: namespaces, seccomp, capabilities, pidfd.

use nix::sched::{CloneFlags, unshare};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use weft_sys::process::{Fork, exit_now, fork};

use super::{Check, Finding, Without, read};

const GROUP: &str = "processes";

/// Probes that change the process they run in: each in a child of its own.
pub(super) fn fork_probes() -> Vec<Check> {
    let space = |name: &str, flags: CloneFlags, without: Without| {
        let detail = in_child(|| unshare(flags).map_err(|e| e as i32)).map(|()| "made one");
        Check::of(GROUP, name, detail, without)
    };
    let fatal = Without {
        finding: Finding::Fatal,
        loses: "containers cannot be kept apart from the host",
        remedy: "run as root; the kernel needs CONFIG_NAMESPACES",
    };
    let user = Without {
        finding: Finding::Missing,
        loses: "userns-remap does not work: root in a container is root on the host",
        remedy: "sysctl -w user.max_user_namespaces=15000; the kernel needs CONFIG_USER_NS",
    };
    let kinds = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    vec![
        space("mount, process, IPC and UTS namespaces", kinds, fatal),
        space(
            "cgroup namespace",
            CloneFlags::CLONE_NEWCGROUP,
            Without {
                finding: Finding::Note,
                loses: "containers see the host's cgroup paths",
                remedy: "Linux 4.6 or newer",
            },
        ),
        space("user namespace", CloneFlags::CLONE_NEWUSER, user),
    ]
}

/// Runs `probe` in a child; its error is an error number.
fn in_child(probe: impl FnOnce() -> Result<(), i32>) -> Result<(), String> {
    match fork().map_err(|e| format!("cannot be tried in a process with several threads: {e}"))? {
        Fork::Child => exit_now(probe().err().unwrap_or(0)),
        Fork::Parent(pid) => {
            let pid = Pid::from_raw(pid).ok_or("no process id")?;
            let ended = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            match ended.map_err(|e| e.to_string())?.and_then(|(_, status)| status.exit_status()) {
                Some(0) => Ok(()),
                Some(errno) => Err(std::io::Error::from_raw_os_error(errno).to_string()),
                None => Err("the probe died".into()),
            }
        }
    }
}

pub(super) fn probe() -> Vec<Check> {
    let version = rustix::system::uname().release().to_string_lossy().into_owned();
    let status = read("/proc/self/status");
    let effective = field(&status, "CapEff").and_then(|t| u64::from_str_radix(t, 16).ok()).unwrap_or(0);
    let actions = read("/proc/sys/kernel/seccomp/actions_avail");
    let pidfd = pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
    let mut all = vec![
        Check::of(
            GROUP,
            "kernel 5.10 or newer",
            if at_least(&version, (5, 10)) { Ok(version.clone()) } else { Err(version.clone()) },
            Without {
                finding: Finding::Missing,
                loses: "Weft is not tested with it",
                remedy: "a newer kernel",
            },
        ),
        Check::of(
            GROUP,
            "seccomp filters",
            if actions.contains("errno") { Ok(actions.clone()) } else { Err("no filter actions") },
            Without {
                finding: Finding::Missing,
                loses: "containers may use every system call",
                remedy: "the kernel needs CONFIG_SECCOMP_FILTER",
            },
        ),
        Check::of(
            GROUP,
            "seccomp notifications",
            if actions.contains("user_notif") { Ok("user_notif") } else { Err("no user_notif") },
            Without { finding: Finding::Note, loses: "nothing today", remedy: "Linux 5.0 or newer" },
        ),
        Check::of(
            GROUP,
            "pidfd",
            pidfd.map(|_| "opens"),
            Without {
                finding: Finding::Fatal,
                loses: "the end of processes cannot be watched safely",
                remedy: "Linux 5.3 or newer",
            },
        ),
    ];
    all.extend(CAPABILITIES.iter().map(|(bit, name, without)| {
        let has = if effective >> bit & 1 == 1 { Ok("effective") } else { Err("not in our set") };
        Check::of(GROUP, *name, has, *without)
    }));
    let security = read("/sys/kernel/security/lsm");
    let detail = if security.is_empty() { "none".to_owned() } else { security };
    all.push(Check::ok(GROUP, "security modules", detail));
    all
}

const CAPABILITIES: &[(u32, &str, Without)] = &[
    (
        21,
        "CAP_SYS_ADMIN",
        Without {
            finding: Finding::Fatal,
            loses: "no namespaces and no mounts",
            remedy: "run as root of the host",
        },
    ),
    (
        12,
        "CAP_NET_ADMIN",
        Without { finding: Finding::Fatal, loses: "no networks", remedy: "run as root of the host" },
    ),
    (
        24,
        "CAP_SYS_RESOURCE",
        Without {
            finding: Finding::Missing,
            loses: "limits of processes (--ulimit) above our own and negative --oom-score-adj are not granted; a warning says so",
            remedy: "give the daemon's service CAP_SYS_RESOURCE",
        },
    ),
    (
        27,
        "CAP_MKNOD",
        Without {
            finding: Finding::Missing,
            loses: "images with device files cannot be unpacked",
            remedy: "give the daemon's service CAP_MKNOD",
        },
    ),
    (
        16,
        "CAP_SYS_MODULE",
        Without {
            finding: Finding::Note,
            loses: "modules of the kernel are not loaded when they are needed",
            remedy: "load them at boot: see the modules named here",
        },
    ),
];

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn at_least(version: &str, least: (u32, u32)) -> bool {
    let mut numbers = version.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_fields() {
        for (version, new) in [("6.18.44", true), ("5.10.0-8-amd64", true), ("5.4.0", false), ("4.19", false)]
        {
            assert_eq!(at_least(version, (5, 10)), new, "{version}");
        }
        assert_eq!(field("A:\t1\nCapEff:\t00ff\n", "CapEff"), Some("00ff"));
    }
}
