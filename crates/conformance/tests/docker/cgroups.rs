//! What a container sees of cgroups, and that it cannot lift its own limits there: read-only in every hierarchy, nothing of
//! the host's, for the first process, for execs, with the host's cgroup namespace and with one of its own.

use crate::dsl::{IMG, T, cases};

/// Tries to write limits and to make cgroups in whatever is mounted, and says `WROTE` for what worked.
const ATTACK: &str = "
    cd /sys/fs/cgroup
    for d in . *; do
        [ -e $d/cgroup.procs ] || continue
        mkdir $d/evil 2>/dev/null && echo WROTE $d/evil
        for f in $d/*.limit_in_bytes $d/*.max $d/*.shares $d/cgroup.procs $d/tasks $d/notify_on_release $d/release_agent; do
            [ -e $f ] || continue
            { echo max > $f; } 2>/dev/null && echo WROTE $f
            { echo 1 > $f; } 2>/dev/null && echo WROTE $f
        done
    done
    echo tried";
/// The hierarchies that are mounted otherwise than they should be.
const LOOSE: &str = "grep ' /sys/fs/cgroup.* cgroup' /proc/self/mounts | grep -v ' ro,nosuid,nodev,noexec,'";

/// Whether the host has a hierarchy of version 1 here.
fn v1(name: &str) -> bool {
    std::path::Path::new("/sys/fs/cgroup").join(name).join("tasks").exists()
}

/// The container's places in the hierarchies that are mounted.
fn places(t: &T, container: &str, process: &str) -> Vec<String> {
    let text = t.docker(["exec", container, "cat", &format!("/proc/{process}/cgroup")]).ok().stdout;
    let unified = t.host(["grep", "-q", " cgroup2 ", "/proc/mounts"]).both().is_empty();
    let places: Vec<String> =
        text.lines().filter(|l| unified || !l.contains("::")).map(str::to_owned).collect();
    assert!(!places.is_empty(), "{text}");
    places
}

cases! {
    fn limits_are_not_the_containers_to_change(t) {
        for flags in [&[][..], &["--cgroupns", "host"], &["--cgroupns", "private"], &["--cap-add", "SYS_ADMIN"], &["-u", "70"], &["--read-only"]] {
            let mut args = vec!["run", "--rm", "--network", "none", "-m", "64m", "--pids-limit", "20"];
            args.extend(flags);
            args.extend([IMG, "sh", "-c", ATTACK]);
            t.docker(args).ok().is("tried");
        }
        t.docker(["run", "--rm", "--pids-limit", "20", IMG, "sh", "-c", "for f in /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max; do [ -e $f ] && echo max > $f; done"])
            .fails().says("read-only file system");
    }
    fn nor_an_execs(t) {
        for namespace in ["host", "private"] {
            let c = t.sleeper(namespace, ["--cgroupns", namespace, "-m", "64m"]);
            t.docker(["exec", &c, "sh", "-c", ATTACK]).ok().is("tried");
        }
    }
    fn nor_a_privileged_execs(t) [machine = "runc 1.1 cannot apply all capabilities without CAP_SYS_RESOURCE"] {
        let c = t.sleeper("a", ["-m", "64m"]);
        t.docker(["exec", "--privileged", &c, "sh", "-c", ATTACK]).ok().is("tried");
    }
    fn every_hierarchy_is_read_only(t) {
        for namespace in ["host", "private"] {
            t.docker(["run", "--rm", "--cgroupns", namespace, IMG, "sh", "-c", LOOSE]).exits(1).is("");
            if t.subject_is_weft() {
                // The directory that holds them too; runc leaves that one writable.
                t.docker(["run", "--rm", "--cgroupns", namespace, IMG, "mkdir", "/sys/fs/cgroup/evil"]).fails().says("read-only file system");
            }
        }
    }
    fn a_joined_process_namespace_changes_nothing(t) {
        let c = t.sleeper("a", [""; 0]);
        t.docker(["run", "--rm", "--pid", &format!("container:{c}"), "-m", "64m", IMG, "sh", "-c", ATTACK]).ok().is("tried");
        t.docker(["run", "--rm", "--pid", "host", "-m", "64m", IMG, "sh", "-c", ATTACK]).ok().is("tried");
    }
    fn the_container_and_its_execs_are_in_every_hierarchy(t) {
        for (namespace, end) in [("host", "{{.Id}}"), ("private", ":/")] {
            let c = t.sleeper(namespace, ["--cgroupns", namespace]);
            let end = t.inspect(&c, end);
            for process in ["1", "self"] {
                for line in places(t, &c, process) {
                    assert!(line.ends_with(&end), "{namespace} {process}: {line}");
                }
            }
        }
    }
    fn the_hosts_cgroups_are_not_seen(t) {
        // Each hierarchy is shown from the container's own cgroup on: no cgroup lies below it.
        for namespace in ["host", "private"] {
            t.docker(["run", "--rm", "--cgroupns", namespace, IMG, "sh", "-c", "find /sys/fs/cgroup/*/ -mindepth 1 -type d"]).ok().is("");
        }
        if v1("systemd") {
            let c = t.sleeper("a", [""; 0]);
            t.docker(["exec", &c, "sh", "-c", "cat /sys/fs/cgroup/systemd/cgroup.procs"]).ok().has("1\n");
        }
    }
    fn nothing_is_left_of_them(t) {
        let c = t.sleeper("a", ["--cgroupns", "private"]);
        let id = t.inspect(&c, "{{.Id}}");
        t.docker(["exec", &c, "true"]).ok();
        let find = format!("find /sys/fs/cgroup -type d -name '*{id}*'");
        t.host(["sh", "-c", &find]).ok().has(&id);
        t.docker(["rm", "-f", &c]).ok();
        t.host(["sh", "-c", &find]).ok().is("");
    }
    fn privileged_ones_may(t) [machine = "runc 1.1 cannot apply all capabilities without CAP_SYS_RESOURCE"] {
        let script = "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do [ -e $d/cgroup.procs ] && { mkdir $d/sub && rmdir $d/sub || exit 1; }; done; echo made";
        t.docker(["run", "--rm", "--privileged", IMG, "sh", "-c", script]).ok().is("made");
    }
}
