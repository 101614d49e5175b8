//! Limits, capabilities and namespaces: what a container may do and what it is held to.

use crate::dsl::{IMG, cases};

const CAPS: &str = "grep CapEff /proc/self/status | cut -f2";

cases! {
    fn memory_limit(t) {
        let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
        t.docker(["run", "--rm", "--memory", "64m", IMG, "sh", "-c", script]).ok().is("67108864");
    }
    fn memory_limit_kills(t) {
        let name = t.ctr("a");
        let eat = "x=a; while :; do x=$x$x; done";
        t.docker(["run", "--name", &name, "--memory", "16m", IMG, "sh", "-c", eat]).exits(137);
        assert_eq!(t.inspect(&name, "{{.State.OOMKilled}}"), "true");
    }
    fn cpus(t) {
        let script = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cut -d' ' -f1 /sys/fs/cgroup/cpu.max";
        t.docker(["run", "--rm", "--cpus", "0.5", IMG, "sh", "-c", script]).ok().is("50000");
    }
    fn cpuset(t) {
        t.docker(["run", "--rm", "--cpuset-cpus", "0", IMG, "grep", "Cpus_allowed_list", "/proc/self/status"]).ok().has("\t0\n");
    }
    fn cpuset_impossible(t) { t.docker(["run", "--rm", "--cpuset-cpus", "4000", IMG, "true"]).exits(125).says("available"); }
    fn too_many_cpus(t) { t.docker(["run", "--rm", "--cpus", "4000", IMG, "true"]).exits(125).says("range of CPUs"); }
    fn memory_too_small(t) { t.docker(["run", "--rm", "--memory", "1m", IMG, "true"]).exits(125).says("minimum memory limit"); }
    fn pids_limit(t) {
        let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; echo none-refused";
        let out = t.docker(["run", "--rm", "--pids-limit", "4", IMG, "sh", "-c", script]);
        assert!(out.both().contains("can't fork"), "{}", out.both());
    }
    fn ulimit(t) { t.docker(["run", "--rm", "--ulimit", "nofile=123:456", IMG, "sh", "-c", "ulimit -n; ulimit -Hn"]).ok().is("123\n456"); }
    fn sysctl(t) {
        t.docker(["run", "--rm", "--sysctl", "net.ipv4.ip_forward=0", IMG, "cat", "/proc/sys/net/ipv4/ip_forward"]).ok().is("0");
    }
    fn default_capabilities(t) { t.docker(["run", "--rm", IMG, "sh", "-c", CAPS]).ok().is("00000000a80425fb"); }
    fn cap_drop_all(t) { t.docker(["run", "--rm", "--cap-drop", "ALL", IMG, "sh", "-c", CAPS]).ok().is("0000000000000000"); }
    fn cap_drop_one(t) { t.docker(["run", "--rm", "--cap-drop", "CHOWN", IMG, "chown", "1", "/tmp"]).exits(1).says("not permitted"); }
    fn cap_add(t) { t.docker(["run", "--rm", "--cap-add", "NET_ADMIN", IMG, "ip", "link", "set", "lo", "mtu", "1400"]).ok(); }
    fn no_cap_no_change(t) { t.docker(["run", "--rm", IMG, "ip", "link", "set", "lo", "mtu", "1400"]).fails(); }
    fn cap_unknown(t) { t.docker(["run", "--rm", "--cap-add", "NOSUCH", IMG, "true"]).exits(125).says("invalid cap"); }
    fn privileged(t) [machine = "runc 1.1 cannot apply all capabilities without CAP_SYS_RESOURCE"] {
        t.docker(["run", "--rm", "--privileged", IMG, "mount", "-t", "tmpfs", "x", "/tmp"]).ok();
    }
    fn no_new_privileges(t) {
        t.docker(["run", "--rm", "--security-opt", "no-new-privileges", IMG, "grep", "NoNewPrivs", "/proc/self/status"]).ok().has("1");
    }
    fn seccomp_is_on(t) { t.docker(["run", "--rm", IMG, "grep", "^Seccomp:", "/proc/self/status"]).ok().has("2"); }
    fn seccomp_off(t) {
        t.docker(["run", "--rm", "--security-opt", "seccomp=unconfined", IMG, "grep", "^Seccomp:", "/proc/self/status"]).ok().has("0");
    }
    fn seccomp_own_profile(t) {
        let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#;
        let file = t.file("profile.json", profile);
        t.docker(["run", "--rm", "--security-opt", &format!("seccomp={file}"), IMG, "mkdir", "/x"]).exits(1).says("not permitted");
    }
    fn masked_paths(t) { t.docker(["run", "--rm", IMG, "ls", "/sys/firmware"]).ok().is(""); }
    fn read_only_paths(t) { t.docker(["run", "--rm", IMG, "sh", "-c", "echo 1 > /proc/sys/kernel/panic"]).fails().says("read-only"); }
    fn no_device_access(t) {
        t.docker(["run", "--rm", IMG, "sh", "-c", "mknod /tmp/d b 254 0 && head -c 1 /tmp/d"]).fails().says("not permitted");
    }
    fn mount_is_refused(t) { t.docker(["run", "--rm", IMG, "mount", "-t", "tmpfs", "x", "/tmp"]).fails(); }
    fn own_pid_namespace(t) { t.docker(["run", "--rm", IMG, "sh", "-c", "echo $$"]).ok().is("1"); }
    fn host_pid_namespace(t) { t.docker(["run", "--rm", "--pid", "host", IMG, "sh", "-c", "test $$ != 1"]).ok(); }
    fn pid_of_another(t) {
        let name = t.sleeper("a", [""; 0]);
        t.docker(["run", "--rm", "--pid", &format!("container:{name}"), IMG, "ps"]).ok().has("sleep 1000");
    }
    fn ipc_shared(t) {
        let name = t.sleeper("a", ["--ipc", "shareable"]);
        t.docker(["exec", &name, "touch", "/dev/shm/mark"]).ok();
        t.docker(["run", "--rm", "--ipc", &format!("container:{name}"), IMG, "ls", "/dev/shm"]).ok().is("mark");
    }
    fn uts_host(t) {
        let host = t.host(["hostname"]).ok().text();
        t.docker(["run", "--rm", "--uts", "host", IMG, "hostname"]).ok().is(&host);
    }
    fn update_limits(t) {
        let name = t.sleeper("a", ["--memory", "64m"]);
        t.docker(["update", "--memory", "32m", "--memory-swap", "64m", &name]).ok();
        assert_eq!(t.inspect(&name, "{{.HostConfig.Memory}}"), "33554432");
        let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
        t.docker(["exec", &name, "sh", "-c", script]).ok().is("33554432");
    }
    fn rlimit_beyond_our_own(t) [machine = "raising a hard limit needs CAP_SYS_RESOURCE; Weft grants what it can"] {
        t.docker(["run", "--rm", "--ulimit", "nofile=2000000:2000000", IMG, "true"]).ok();
    }
}
