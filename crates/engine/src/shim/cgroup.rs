//! The container's cgroup as the shim needs it, on v1, hybrid and v2 alike: join, freeze, signal everybody, hear of
//! memory kills, remove. Limits are the runtime's business.

use std::{
    fs,
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{event::EventfdFlags, fs::inotify};
use weft_sys::process::{self, Fork};

use crate::cgroup::place_in;

/// How long processes that were killed may take to leave their cgroup.
const REMOVE_PATIENCE: Duration = Duration::from_secs(3);
/// How long freezing may take.
const FREEZE_PATIENCE: Duration = Duration::from_millis(500);

/// One mounted hierarchy.
struct Hierarchy {
    mount: PathBuf,
    /// Controllers of a v1 hierarchy; `None` for v2.
    controllers: Option<Vec<String>>,
}

/// A cgroup path in every mounted hierarchy.
pub(super) struct Cgroup {
    path: String,
    hierarchies: Vec<Hierarchy>,
}

impl Cgroup {
    /// Finds the mounted hierarchies. A path that is not a plain, absolute one below the root names nothing, so
    /// that no mistake can touch somebody else's cgroup.
    pub(super) fn open(path: &str) -> io::Result<Self> {
        let plain = path.starts_with('/')
            && path.len() > 1
            && path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..");
        let hierarchies =
            if plain { parse_mounts(&fs::read_to_string("/proc/self/mountinfo")?) } else { vec![] };
        Ok(Self { path: path.to_owned(), hierarchies })
    }

    fn dir(&self, hierarchy: &Hierarchy) -> PathBuf {
        hierarchy.mount.join(self.path.trim_start_matches('/'))
    }

    /// The directory that has this controller's files, if it exists.
    fn controller(&self, name: &str) -> Option<(PathBuf, bool)> {
        let found = self.hierarchies.iter().find(|h| match &h.controllers {
            Some(names) => names.iter().any(|n| n == name),
            None => false,
        });
        let found = match found {
            Some(v1) => (self.dir(v1), false),
            None => (self.dir(self.hierarchies.iter().find(|h| h.controllers.is_none())?), true),
        };
        found.0.is_dir().then_some(found)
    }

    /// Moves the calling process, which has one thread, to where `init` is, in every hierarchy of version 1 in which
    /// `init` is at or below this cgroup. That of version 2 is answered, for the process to be forked into.
    pub(super) fn join_beside(&self, init: i32) -> io::Result<Option<Unified>> {
        let places = fs::read_to_string(format!("/proc/{init}/cgroup"))?;
        let mut unified = None;
        for hierarchy in &self.hierarchies {
            let Some(place) = place_in(&places, hierarchy.controllers.as_deref()) else { continue };
            if place == self.path || place.strip_prefix(&self.path).is_some_and(|rest| rest.starts_with('/'))
            {
                let dir = hierarchy.mount.join(place.trim_start_matches('/'));
                match &hierarchy.controllers {
                    Some(_) => enter(&dir)?,
                    None => unified = Some(Unified::open(&dir)?),
                }
            }
        }
        Ok(unified)
    }

    /// Stops all processes where they are, or lets them go on, and waits until the kernel says so.
    pub(super) fn freeze(&self, frozen: bool) -> io::Result<()> {
        let Some((dir, v2)) = self.controller("freezer") else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no freezer cgroup"));
        };
        let (file, value, state, done) = match (v2, frozen) {
            (false, true) => ("freezer.state", "FROZEN", "freezer.state", "FROZEN"),
            (false, false) => ("freezer.state", "THAWED", "freezer.state", "THAWED"),
            (true, true) => ("cgroup.freeze", "1", "cgroup.events", "frozen 1"),
            (true, false) => ("cgroup.freeze", "0", "cgroup.events", "frozen 0"),
        };
        let end = Instant::now() + FREEZE_PATIENCE;
        loop {
            write_file(&dir.join(file), value.as_bytes())?;
            if fs::read_to_string(dir.join(state))?.contains(done) {
                return Ok(());
            }
            if Instant::now() > end {
                if frozen {
                    let back: &[u8] = if v2 { b"0" } else { b"THAWED" };
                    write_file(&dir.join(file), back)?;
                }
                return Err(io::Error::new(io::ErrorKind::TimedOut, "processes do not freeze"));
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// Signals every process in the cgroup and below; says whether there was any.
    pub(super) fn signal_all(&self, signal: i32) -> bool {
        let mut any = false;
        for hierarchy in &self.hierarchies {
            for dir in below(&self.dir(hierarchy)) {
                for pid in fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
                    // 0 is a process of another pid namespace, which kill would take for our own group.
                    if let Ok(pid @ 1..) = pid.parse::<i32>() {
                        any |= process::kill(pid, signal).is_ok();
                    }
                }
            }
            if any {
                break;
            }
        }
        any
    }

    /// How many processes the kernel killed here for lack of memory; 0 when it does not say.
    pub(super) fn oom_kills(&self) -> u64 {
        let Some((dir, v2)) = self.controller("memory") else { return 0 };
        let file = if v2 { "memory.events" } else { "memory.oom_control" };
        parse_oom_kills(&fs::read_to_string(dir.join(file)).unwrap_or_default())
    }

    /// A descriptor that becomes readable when the cgroup runs out of memory.
    pub(super) fn watch_oom(&self) -> Option<OwnedFd> {
        let (dir, v2) = self.controller("memory")?;
        if v2 {
            let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
            inotify::add_watch(&watch, dir.join("memory.events"), inotify::WatchFlags::MODIFY).ok()?;
            return Some(watch);
        }
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
        let control = fs::File::open(dir.join("memory.oom_control")).ok()?;
        let line = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
        write_file(&dir.join("cgroup.event_control"), line.as_bytes()).ok()?;
        Some(event)
    }

    /// Kills what is left and removes the cgroup from every hierarchy.
    pub(super) fn remove(&self) -> io::Result<()> {
        let end = Instant::now() + REMOVE_PATIENCE;
        let mut pause = Duration::from_micros(500);
        loop {
            let mut left = None;
            for hierarchy in &self.hierarchies {
                if let Err(error) = remove_tree(&self.dir(hierarchy)) {
                    left = Some(error);
                }
            }
            match left {
                None => return Ok(()),
                Some(error) if Instant::now() > end => return Err(error),
                Some(_) => {}
            }
            self.signal_all(9);
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

/// Removes what a shim that was killed has left of its container's cgroup, processes among it.
pub(crate) fn clear(path: &str) -> io::Result<()> {
    let cgroup = Cgroup::open(path)?;
    if cgroup.signal_all(9) {
        // On version 1 a frozen process cannot even die.
        let _ = cgroup.freeze(false);
    }
    cgroup.remove()
}

/// A cgroup of version 2 that somebody is to be in, opened while its path can be seen.
pub(super) struct Unified {
    dir: fs::File,
    procs: fs::File,
}

impl Unified {
    fn open(dir: &Path) -> io::Result<Self> {
        let procs = fs::OpenOptions::new().write(true).open(dir.join("cgroup.procs"))?;
        Ok(Self { dir: fs::File::open(dir)?, procs })
    }

    /// Forks into it; where the kernel does not do that from here, moves there first.
    pub(super) fn fork(mut self) -> io::Result<Fork> {
        process::fork_into(self.dir.as_fd()).or_else(|_| {
            self.procs.write_all(b"0")?;
            process::fork()
        })
    }
}

/// Moves the calling process, which has one thread, into a cgroup. On version 1 the thread moves itself through `tasks`: that
/// spares the kernel the lock that stops every fork of the machine, for which it waits some 10 ms (an RCU grace period).
pub(super) fn enter(dir: &Path) -> io::Result<()> {
    match write_file(&dir.join("tasks"), b"0") {
        Err(e) if e.kind() == io::ErrorKind::NotFound => write_file(&dir.join("cgroup.procs"), b"0"),
        done => done,
    }
}

fn parse_mounts(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (mut left, mut right) = (left.split(' ').skip(3), right.split(' '));
        // Only whole hierarchies: a bind mount of a part (as in a container's /sys) has another root.
        let (Some("/"), Some(mount), Some(kind)) = (left.next(), left.next(), right.next()) else { continue };
        let controllers: Option<Vec<String>> = match kind {
            "cgroup" => {
                let options = right.nth(1).unwrap_or("").split(',');
                Some(options.filter(|o| *o != "rw" && *o != "ro").map(str::to_owned).collect())
            }
            "cgroup2" => None,
            _ => continue,
        };
        if !found.iter().any(|h| h.controllers == controllers) {
            found.push(Hierarchy { mount: PathBuf::from(mount), controllers });
        }
    }
    found
}

fn parse_oom_kills(text: &str) -> u64 {
    text.lines().filter_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok()).sum()
}

/// A directory and all below it, deepest last.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut all = vec![dir.to_path_buf()];
    let mut at = 0;
    while let Some(dir) = all.get(at) {
        let children: Vec<_> = fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
            .map(|e| e.path())
            .collect();
        all.extend(children);
        at += 1;
    }
    all
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) => {}
    }
    for dir in below(dir).iter().rev() {
        match fs::remove_dir(dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_once_for_each_hierarchy() {
        let text = "\
31 23 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 31 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
34 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
36 31 0:28 / /elsewhere rw,relatime - cgroup cgroup rw,memory
37 31 0:28 /docker/x /part rw,relatime - cgroup cgroup rw,memory";
        let found: Vec<_> = parse_mounts(text)
            .into_iter()
            .map(|h| (h.mount.display().to_string(), h.controllers.map(|c| c.join("+"))))
            .collect();
        let v1 = |m: &str, c: &str| (format!("/sys/fs/cgroup/{m}"), Some(c.to_owned()));
        assert_eq!(
            found,
            [
                v1("memory", "memory"),
                v1("systemd", "name=systemd"),
                v1("cpu,cpuacct", "cpu+cpuacct"),
                ("/sys/fs/cgroup/unified".to_owned(), None)
            ]
        );
    }

    #[test]
    fn only_plain_paths_name_a_cgroup() {
        for path in ["", "/", "weft/x", "/weft/../x", "/weft//x", "/."] {
            assert!(Cgroup::open(path).expect("open").hierarchies.is_empty(), "{path}");
        }
    }

    #[test]
    fn kill_counters_of_both_versions() {
        assert_eq!(parse_oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), 3);
        assert_eq!(parse_oom_kills("low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n"), 1);
        assert_eq!(parse_oom_kills(""), 0);
    }
}
