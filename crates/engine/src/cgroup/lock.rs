//! The lock that moving a process into a cgroup takes, asked for ahead of time.
//!
//! A write to `cgroup.procs` stops all forks and exits of the machine for a moment (`cgroup_threadgroup_rwsem`). After a
//! pause in such writes the kernel first waits for an RCU grace period, about 10 ms, and holds nobody up meanwhile; for some
//! 20 ms after that, further writes do not wait (`kernel/rcu/sync.c`). libcontainer moves each container's first process so. A
//! move that changes nothing, made while the rest of a start is prepared, lets that one wait less or not at all.

use std::{fs, path::PathBuf, thread};

use super::hierarchy::{Hierarchies, place_in, write};

/// Begins the wait, on a thread of its own. A hint only: where it cannot be done nothing is lost but time.
pub(crate) fn expect_move() {
    let _ = thread::Builder::new().name("cgroup-lock".to_owned()).spawn(|| {
        let places = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        write(&own(&places, &mounts)?.join("cgroup.procs"), &std::process::id().to_string()).ok()
    });
}

/// The directory of the cgroup that the process is in, in one of the hierarchies.
fn own(places: &str, mountinfo: &str) -> Option<PathBuf> {
    let hierarchies = Hierarchies::parse(mountinfo);
    hierarchies.each().find_map(|(point, controllers)| {
        let place = place_in(places, controllers)?;
        Some(point.join(place.trim_start_matches('/')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_cgroup_is_found_in_every_version() {
        let v1 = "\
31 23 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory";
        let v2 = "31 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        assert_eq!(own("4:memory:/a/b\n0::/", v1), Some("/sys/fs/cgroup/memory/a/b".into()));
        assert_eq!(
            own("0::/system.slice/weft.service", v2),
            Some("/sys/fs/cgroup/system.slice/weft.service".into())
        );
        assert_eq!(own("4:cpu:/", v1), None);
    }
}
