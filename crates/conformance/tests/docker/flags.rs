//! `docker run --help` line by line: each option is seen to do something inside, or is refused in Docker's words.
//! Those with a group of their own (networks, volumes, logs, isolation) are there; here are the others.

use crate::dsl::{IMG, Out, T, cases};

fn run(t: &T, flags: &[&str], command: &[&str]) -> Out {
    t.docker([&["run", "--rm"], flags, &[IMG], command].concat())
}

/// `create`, which must be refused with `words` and leave nothing.
#[track_caller]
fn refused(t: &T, flags: &[&str], words: &str) {
    let c = t.ctr("refused");
    t.docker([&["create", "--name", &c], flags, &[IMG, "true"]].concat()).fails().says(words);
    t.docker(["inspect", "--type", "container", &c]).exits(1);
}

/// A whole disk of this machine, as far as it has one.
fn disk(t: &T) -> Option<String> {
    let name = t.host(["sh", "-c", "ls /sys/block | grep -v -e loop -e ram -e zram | head -n1"]).ok().text();
    (!name.is_empty()).then(|| format!("/dev/{name}"))
}

/// The hierarchy of version 1 where a controller's files are, if the host has it.
fn v1(controller: &str) -> bool {
    std::path::Path::new("/sys/fs/cgroup").join(controller).join("tasks").exists()
}

cases! {
    fn domainname(t) { run(t, &["-h", "box", "--domainname", "weave"], &["sh", "-c", "hostname; cat /proc/sys/kernel/domainname; grep box /etc/hosts"]).ok().has("box\nweave\n").has("\tbox.weave box"); }
    fn hostname_of_the_host(t) { refused(t, &["--uts", "host", "-h", "name"], "conflicting options: hostname and the UTS mode"); }
    fn uts_unknown(t) { refused(t, &["--uts", "nosuch"], "--uts: invalid UTS mode"); }
    fn userns_unknown(t) { refused(t, &["--userns", "nosuch"], "--userns: invalid USER mode"); }
    fn userns_host(t) { run(t, &["--userns", "host"], &["readlink", "/proc/self/ns/user"]).ok().has(&t.host(["readlink", "/proc/self/ns/user"]).ok().text()); }
    fn workdir_relative(t) { refused(t, &["-w", "relative"], "the working directory 'relative' is invalid, it needs to be an absolute path"); }
    fn stop_signal_unknown(t) { refused(t, &["--stop-signal", "NOSUCH"], "invalid signal: NOSUCH"); }
    fn stop_timeout(t) {
        let c = t.ctr("a");
        t.docker(["run", "-d", "--name", &c, "--stop-timeout", "1", IMG, "sleep", "100"]).ok();
        let begun = std::time::Instant::now();
        t.docker(["stop", &c]).ok();
        assert!((1..6).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        assert_eq!(t.inspect(&c, "{{.Config.StopTimeout}} {{.State.ExitCode}}"), "1 137");
    }
    fn link_to_nobody(t) { refused(t, &["--link", "nosuch:db"], "could not get container for nosuch"); }
    fn link_sets_names_and_variables(t) {
        let db = t.sleeper("db", ["-e", "WORD=yes", "--expose", "5432"]);
        run(t, &["--link", &format!("{db}:db")], &["sh", "-c", "grep -c db /etc/hosts; env"]).ok().has("DB_PORT=tcp://").has("DB_ENV_WORD=yes").has("DB_PORT_5432_TCP_PORT=5432");
    }
    fn container_network_conflicts(t) {
        let other = t.sleeper("other", [""; 0]);
        let network = format!("container:{other}");
        for (flags, words) in [
            (["-h", "x"], "conflicting options: hostname and the network mode"),
            (["--dns", "10.1.1.1"], "conflicting options: dns and the network mode"),
            (["--add-host", "a:10.1.1.1"], "conflicting options: custom host-to-IP mapping and the network mode"),
            (["-p", "80:80"], "conflicting options: port publishing and the container type network mode"),
            (["--expose", "80"], "conflicting options: port exposing and the container type network mode"),
            (["--link", &other], "container type network can't be used with links"),
        ] {
            refused(t, &[&["--network", network.as_str()], &flags[..]].concat(), words);
        }
        refused(t, &["--network", "host", "--link", &other], "host type networking can't be used with links");
    }
    fn cpu_shares(t) {
        let file = if v1("cpu") { "/sys/fs/cgroup/cpu/cpu.shares" } else { return };
        run(t, &["-c", "300"], &["cat", file]).ok().is("300");
    }
    fn cpu_period_and_quota(t) {
        let script = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us 2>/dev/null || tr ' ' '\\n' < /sys/fs/cgroup/cpu.max";
        run(t, &["--cpu-period", "50000", "--cpu-quota", "20000"], &["sh", "-c", script]).ok().is("20000\n50000");
        refused(t, &["--cpu-period", "10"], "CPU cfs period can not be less than 1ms");
        refused(t, &["--cpu-quota", "10"], "CPU cfs quota can not be less than 1ms");
        refused(t, &["--cpus", "0.5", "--cpu-quota", "5000"], "Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    fn cpuset_mems(t) {
        run(t, &["--cpuset-mems", "0"], &["grep", "Mems_allowed_list", "/proc/self/status"]).ok().has("\t0\n");
        refused(t, &["--cpuset-mems", "900"], "900");
    }
    fn memory_reservation(t) {
        refused(t, &["-m", "50m", "--memory-reservation", "90m"], "Minimum memory limit can not be less than memory reservation limit");
        if v1("memory") { run(t, &["-m", "50m", "--memory-reservation", "20m"], &["cat", "/sys/fs/cgroup/memory/memory.soft_limit_in_bytes"]).ok().is("20971520"); }
    }
    fn memory_swap(t) {
        refused(t, &["--memory-swap", "50m"], "You should always set the Memory limit when using Memoryswap limit");
        refused(t, &["-m", "50m", "--memory-swap", "20m"], "Minimum memoryswap limit should be larger than memory limit");
        refused(t, &["--memory-swappiness", "130"], "valid memory swappiness range is 0-100");
        if v1("memory") { run(t, &["--memory-swappiness", "30"], &["cat", "/sys/fs/cgroup/memory/memory.swappiness"]).ok().is("30"); }
    }
    fn oom_kill_disable(t) {
        if v1("memory") { run(t, &["-m", "20m", "--oom-kill-disable"], &["cat", "/sys/fs/cgroup/memory/memory.oom_control"]).ok().has("oom_kill_disable 1"); }
    }
    fn oom_score_out_of_range(t) { refused(t, &["--oom-score-adj", "2000"], "range for oom score adj is [-1000, 1000]"); }
    fn pids_limit_is_set(t) {
        let script = "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max";
        run(t, &["--pids-limit", "33"], &["sh", "-c", script]).ok().is("33");
        run(t, &["--pids-limit", "-1"], &["sh", "-c", script]).ok().is("max");
    }
    fn blkio_weight_range(t) [newer = "20.10 discards the option where it knows no weights"] {
        refused(t, &["--blkio-weight", "5"], "Range of blkio weight is from 10 to 1000");
    }
    fn throttles(t) {
        let Some(disk) = disk(t).filter(|_| v1("blkio")) else { return };
        for (flag, given, file, seen) in [
            ("--device-read-bps", "1mb", "read_bps_device", "1048576"),
            ("--device-write-bps", "2mb", "write_bps_device", "2097152"),
            ("--device-read-iops", "55", "read_iops_device", "55"),
            ("--device-write-iops", "66", "write_iops_device", "66"),
        ] {
            run(t, &[flag, &format!("{disk}:{given}")], &["cat", &format!("/sys/fs/cgroup/blkio/blkio.throttle.{file}")]).ok().has(&format!(" {seen}"));
        }
    }
    fn windows_only(t) { refused(t, &["--isolation", "hyperv"], "invalid isolation: \"hyperv\" - linux only supports 'default'"); }
    fn ulimits(t) {
        run(t, &["--ulimit", "core=1024:2048", "--ulimit", "nproc=77"], &["cat", "/proc/self/limits"]).ok().has("Max core file size        1024                 2048 ").has("Max processes             77 ");
        refused(t, &["--ulimit", "nofile=5:3"], "ulimit soft limit must be less than or equal to hard limit");
        t.docker(["create", "--ulimit", "nosuch=5", IMG]).fails().says("invalid ulimit type: nosuch");
    }
    fn sysctls_of_namespaces(t) {
        run(t, &["--sysctl", "kernel.msgmax=9000"], &["cat", "/proc/sys/kernel/msgmax"]).ok().is("9000");
        run(t, &["--network", "host", "--sysctl", "net.core.somaxconn=77"], &["true"]).exits(125).says("not allowed in host network namespace");
        run(t, &["--ipc", "host", "--sysctl", "kernel.msgmax=9000"], &["true"]).exits(125).says("ipc namespace");
    }
    fn ipc_modes(t) {
        run(t, &["--ipc", "none"], &["grep", "-c", " /dev/shm ", "/proc/mounts"]).exits(1).is("0");
        refused(t, &["--ipc", "container:nosuch"], "No such container: nosuch");
        let private = t.sleeper("p", ["--ipc", "private"]);
        let join = format!("container:{private}");
        run(t, &["--ipc", &join], &["true"]).exits(125).says("hint: use IpcMode:shareable for the donor container");
    }
    fn ipc_unknown(t) [newer = "20.10 refuses it at the start"] { refused(t, &["--ipc", "nosuch"], "invalid IPC mode: nosuch"); }
    fn pid_of_nobody(t) { run(t, &["--pid", "container:nosuch"], &["true"]).exits(125).says("No such container: nosuch"); }
    fn groups(t) {
        run(t, &["--group-add", "postgres", "--group-add", "77"], &["id", "-G"]).ok().has("70").has("77");
        run(t, &["--group-add", "nosuch"], &["true"]).exits(125).says("unable to find group nosuch");
        run(t, &["-u", "70:nosuch"], &["true"]).exits(125).says("unable to find group nosuch");
        run(t, &["-u", "99999999999"], &["true"]).exits(125).says("uids and gids must be in range 0-2147483647");
    }
    fn health_options(t) {
        let c = t.ctr("a");
        t.docker(["create", "--name", &c, "--health-cmd", "probe", "--health-interval", "3s", "--health-timeout", "4s", "--health-retries", "5", "--health-start-period", "6s", IMG]).ok();
        assert_eq!(t.inspect(&c, "{{.Config.Healthcheck}}"), "{[CMD-SHELL probe] 3s 4s 6s 0s 5}");
        let c = t.ctr("b");
        t.docker(["create", "--name", &c, "--no-healthcheck", IMG]).ok();
        assert_eq!(t.inspect(&c, "{{.Config.Healthcheck.Test}}"), "[NONE]");
        refused(t, &["--health-cmd", "x", "--health-interval", "1us"], "Interval in Healthcheck cannot be less than 1ms");
        refused(t, &["--health-cmd", "x", "--health-timeout", "1us"], "Timeout in Healthcheck cannot be less than 1ms");
    }
    fn health_start_interval(t) [newer = "API 1.44"] {
        let c = t.sleeper("a", ["--health-cmd", "true", "--health-interval", "1h", "--health-start-period", "1h", "--health-start-interval", "100ms"]);
        t.until("healthy", || t.inspect(&c, "{{.State.Health.Status}}") == "healthy");
    }
    fn devices_and_their_access(t) {
        if let Some(disk) = disk(t).filter(|_| v1("devices")) {
            run(t, &["--device", &format!("{disk}:/dev/x:r")], &["sh", "-c", "ls /dev/x; grep ^b /sys/fs/cgroup/devices/devices.list"]).ok().has("/dev/x").has(" r\n");
        }
        t.docker(["create", "--device", "/dev/null:/dev/x:q", IMG]).fails().says("bad mode specified: q");
    }
    fn volume_driver_of_all(t) {
        let v = t.vol("v");
        run(t, &["--volume-driver", "local", "-v", &format!("{v}:/d")], &["touch", "/d/f"]).ok();
        assert_eq!(t.docker(["volume", "inspect", "-f", "{{.Driver}}", &v]).ok().text(), "local");
        run(t, &["--volume-driver", "nosuch", "-v", "other:/d"], &["true"]).fails();
        t.docker(["volume", "inspect", "other"]).fails().says("no such volume");
    }
    fn volumes_from_nobody(t) {
        refused(t, &["--volumes-from", "nosuch"], "No such container: nosuch");
        let c = t.sleeper("a", ["-v", "/d"]);
        refused(t, &["--volumes-from", &format!("{c}:zz")], "invalid mode: zz");
    }
    fn restart_policies(t) {
        refused(t, &["--restart", "always:5"], "maximum retry count");
        let c = t.ctr("a");
        t.docker(["create", "--name", &c, "--restart", "on-failure:4", IMG]).ok();
        assert_eq!(t.inspect(&c, "{{.HostConfig.RestartPolicy}}"), "{on-failure 4}");
    }
    fn addresses_need_a_network_of_ones_own(t) {
        run(t, &["--ip", "172.17.0.99"], &["true"]).exits(125).says("user specified IP address is supported on user defined networks only");
    }
    fn ip6(t) {
        let n = t.net("n");
        t.docker(["network", "create", "--ipv6", "--subnet", "10.77.41.0/24", "--subnet", "fd77:41::/64", &n]).ok();
        run(t, &["--network", &n, "--ip", "10.77.41.9", "--ip6", "fd77:41::9"], &["ip", "addr", "show", "eth0"]).ok().has("10.77.41.9/24").has("fd77:41::9/64");
        run(t, &["--network", &n, "--ip", "10.99.1.1"], &["true"]).exits(125);
    }
    fn mac_address(t) [newer = "the client speaks of networks here, API 1.44"] {
        run(t, &["--mac-address", "02:42:11:22:33:44"], &["cat", "/sys/class/net/eth0/address"]).ok().is("02:42:11:22:33:44");
    }
    fn cidfile_that_is_there(t) {
        let file = t.file("cid", "x");
        run(t, &["--cidfile", &file], &["true"]).fails().says("container ID file found");
    }
    fn variables_without_a_name(t) { run(t, &["-e", "=x"], &["true"]).fails().says("invalid environment variable: =x"); }
    fn platform_that_is_not_here(t) {
        run(t, &["--pull", "never", "--platform", "linux/s390x"], &["true"]).exits(125).says("platform");
    }
    fn capabilities_meet(t) {
        run(t, &["--cap-add", "SYS_TIME"], &["grep", "CapEff", "/proc/self/status"]).ok().has("00000000aa0425fb");
    }
    fn system_paths(t) {
        run(t, &["--security-opt", "systempaths=unconfined"], &["grep", "-c", " /proc/", "/proc/mounts"]).exits(1).is("0");
        refused(t, &["--security-opt", "nosuch=1"], "invalid --security-opt 2: \"nosuch=1\"");
    }
    fn exposed_ports(t) {
        let c = t.ctr("a");
        t.docker(["create", "--name", &c, "--expose", "90-91/udp", "--expose", "80", IMG]).ok();
        assert_eq!(t.inspect(&c, "{{range $p, $x := .Config.ExposedPorts}}{{$p}} {{end}}"), "80/tcp 90/udp 91/udp");
        t.docker(["create", "--expose", "70000", IMG]).fails().says("invalid");
    }
    fn publish_all(t) {
        let c = t.sleeper("a", ["-P", "--expose", "8123"]);
        t.docker(["port", &c]).ok().has("8123/tcp -> 0.0.0.0:");
        t.docker(["port", &c, "8123/tcp"]).ok().has("0.0.0.0:");
        t.docker(["port", &c, "9"]).fails().says("no public port '9");
    }
}
