//! Options of `create` that are easily accepted and forgotten: each is seen to do something, or is refused by name.

use crate::dsl::{IMG, cases};

cases! {
    fn runtime_runc(t) { t.docker(["run", "--rm", "--runtime", "runc", IMG, "echo", "by runc"]).ok().is("by runc"); }
    fn runtime_unknown_is_refused_at_create(t) {
        let c = t.ctr("a");
        t.docker(["create", "--name", &c, "--runtime", "nosuch", IMG, "true"]).fails().says("runtime").says("nosuch");
        t.docker(["inspect", &c]).fails().says("no such");
    }
    fn gpus_without_a_driver(t) {
        let c = t.ctr("a");
        t.docker(["run", "--name", &c, "--gpus", "all", IMG, "true"]).fails().says("could not select device driver \"\" with capabilities: [[gpu]]");
    }
    fn storage_opt_needs_quotas(t) {
        t.docker(["create", "--storage-opt", "size=1G", IMG, "true"]).fails().says("--storage-opt is supported only for overlay over xfs with 'pquota' mount option");
    }
    fn swap_is_twice_the_memory(t) {
        let c = t.ctr("a");
        t.docker(["create", "--name", &c, "-m", "20m", IMG, "true"]).ok();
        t.docker(["inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}", &c]).ok().is("20971520 41943040");
        t.docker(["update", "-m", "64m", &c]).fails().says("update the memoryswap at the same time");
    }
    fn memory_above_no_swap_limit(t) {
        let c = t.ctr("a");
        t.docker(["create", "--name", &c, IMG, "true"]).ok();
        let limited = t.docker(["info", "-f", "{{.SwapLimit}}"]).ok().text() == "true";
        let out = t.docker(["update", "--memory", "64m", &c]);
        if limited {
            out.fails().says("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time");
        } else {
            out.ok();
        }
        t.docker(["update", "--memory", "64m", "--memory-swap", "128m", &c]).ok();
        assert_eq!(t.inspect(&c, "{{.HostConfig.Memory}}"), "67108864");
    }
    fn cgroup_parent(t) {
        let c = t.ctr("a");
        t.docker(["run", "--name", &c, "--cgroup-parent", "/weft-conformance-parent", IMG, "cat", "/proc/self/cgroup"]).ok().has(":/weft-conformance-parent/");
        t.host(["sh", "-c", "rmdir /sys/fs/cgroup/*/weft-conformance-parent /sys/fs/cgroup/weft-conformance-parent 2>/dev/null; true"]).ok();
    }
    fn cgroup_parent_that_climbs(t) {
        let find = "find /sys/fs/cgroup -type d -path '*weft-conformance-climb*' | grep -v 'weft-conformance-climb$'";
        for parent in ["/../../weft-conformance-climb", "/x/../weft-conformance-climb/./"] {
            t.docker(["run", "--rm", "--cgroup-parent", parent, IMG, "cat", "/proc/self/cgroup"]).ok().has(":/weft-conformance-climb/");
            t.host(["sh", "-c", find]).is("");
            let c = t.sleeper("a", ["--cgroup-parent", parent, "-m", "64m"]);
            t.docker(["stats", "--no-stream", "--format", "{{.MemUsage}}", &c]).ok().has("64MiB");
            t.docker(["exec", &c, "cat", "/proc/self/cgroup"]).ok().has(":/weft-conformance-climb/");
            t.docker(["rm", "-f", &c]).ok();
            t.host(["sh", "-c", find]).is("");
        }
        t.host(["sh", "-c", "rmdir /sys/fs/cgroup/*/weft-conformance-climb /sys/fs/cgroup/weft-conformance-climb 2>/dev/null; true"]).ok();
    }
    fn cgroupns(t) {
        t.docker(["run", "--rm", "--cgroupns", "private", IMG, "cat", "/proc/self/cgroup"]).ok().has(":/\n").lacks("/weft");
        t.docker(["run", "--rm", "--cgroupns", "nosuch", IMG, "true"]).fails().says("cgroup");
    }
    fn device_cgroup_rule(t) {
        t.docker(["run", "--rm", "--device-cgroup-rule", "c 42:* rmw", IMG, "sh", "-c", "cat /sys/fs/cgroup/devices/devices.list"]).ok().has("c 42:* rwm");
        t.docker(["run", "--rm", "--device-cgroup-rule", "nonsense", IMG, "true"]).fails().says("invalid");
    }
    fn device_read_bps(t) {
        let disk = t.host(["sh", "-c", "ls /sys/block | grep -v -e loop -e ram | head -n1"]).ok().text();
        if disk.is_empty() { return; }
        let limit = format!("/dev/{disk}:1mb");
        t.docker(["run", "--rm", "--device-read-bps", &limit, IMG, "cat", "/sys/fs/cgroup/blkio/blkio.throttle.read_bps_device"]).ok().has(" 1048576");
        t.docker(["run", "--rm", "--device-write-iops", &limit.replace("1mb", "77"), IMG, "cat", "/sys/fs/cgroup/blkio/blkio.throttle.write_iops_device"]).ok().has(" 77");
        t.docker(["run", "--rm", "--device-read-bps", "/dev/nosuch:1mb", IMG, "true"]).fails();
    }
    fn link_local_address(t) {
        let n = t.net("n");
        t.docker(["network", "create", "--subnet", "10.77.31.0/24", &n]).ok();
        t.docker(["run", "--rm", "--network", &n, "--link-local-ip", "169.254.7.7", IMG, "ip", "-4", "addr"]).ok().has("169.254.7.7/16").has("10.77.31.");
    }
    fn volumes_from_a_chain(t) {
        let (a, b, c, v) = (t.ctr("a"), t.ctr("b"), t.ctr("c"), t.vol("v"));
        t.docker(["run", "--name", &a, "-v", &format!("{v}:/data"), IMG, "sh", "-c", "echo kept > /data/f"]).ok();
        t.docker(["create", "--name", &b, "--volumes-from", &a, IMG, "true"]).ok();
        t.docker(["run", "--name", &c, "--volumes-from", &format!("{b}:ro"), IMG, "sh", "-c", "cat /data/f; touch /data/g"]).fails().has("kept").says("read-only");
    }
    fn mounts_reach_the_host_when_shared(t) {
        let dir = t.dir().join("shared");
        std::fs::create_dir_all(dir.join("x")).unwrap();
        let dir = dir.display().to_string();
        let c = t.ctr("a");
        t.host(["sh", "-c", &format!("mount --bind {dir} {dir} && mount --make-shared {dir}")]).ok();
        t.docker(["run", "--name", &c, "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "-v", &format!("{dir}:/m:rshared"), IMG, "mount", "-t", "tmpfs", "told", "/m/x"]).ok();
        // Once or twice: the directory's own parent may pass the mount on as well.
        let seen = t.host(["grep", "-c", &format!("{dir}/x"), "/proc/self/mountinfo"]);
        t.host(["sh", "-c", &format!("umount -R {dir}")]).ok();
        seen.ok();
    }
    fn shared_needs_a_shared_source(t) {
        let dir = t.dir().join("private");
        std::fs::create_dir_all(&dir).unwrap();
        let dir = dir.display().to_string();
        let c = t.ctr("a");
        t.host(["sh", "-c", &format!("mount --bind {dir} {dir} && mount --make-private {dir}")]).ok();
        let out = t.docker(["run", "--name", &c, "-v", &format!("{dir}:/m:rshared"), IMG, "true"]);
        t.host(["umount", &dir]).ok();
        out.fails().says("but it is not a shared mount");
    }
    fn read_only_reaches_down(t) [newer = "recursive read-only mounts came with 25.0"] {
        let dir = t.dir().join("deep");
        std::fs::create_dir_all(dir.join("x")).unwrap();
        let dir = dir.display().to_string();
        t.host(["mount", "-t", "tmpfs", "below", &format!("{dir}/x")]).ok();
        let run = |recursive: &str| {
            let mount = format!("type=bind,source={dir},target=/m,readonly,bind-propagation=rprivate,bind-recursive={recursive}");
            t.docker(["run", "--rm", "--mount", &mount, IMG, "touch", "/m/x/f"])
        };
        let (all, top) = (run("readonly"), run("writable"));
        t.host(["umount", &format!("{dir}/x")]).ok();
        all.fails().says("read-only");
        top.ok();
    }
    fn image_mount(t) [newer = "image mounts came with 28.0"] {
        t.docker(["run", "--rm", "--mount", &format!("type=image,source={IMG},target=/i"), IMG, "sh", "-c", "ls /i/bin | head -n1; touch /i/f"]).fails().says("read-only");
        t.docker(["run", "--rm", "--mount", &format!("type=image,source={IMG},target=/i,image-subpath=etc"), IMG, "ls", "/i"]).ok().has("passwd");
        t.docker(["run", "--rm", "--mount", "type=image,source=nosuch-image,target=/i", IMG, "true"]).fails().says("no such image: nosuch-image");
    }
    fn interface_name_and_sysctls(t) [newer = "endpoint options came with 27.1 and 28.0"] {
        let n = t.net("n");
        t.docker(["network", "create", &n]).ok();
        let with = |option: &str| format!("name={n},driver-opt=com.docker.network.endpoint.{option}");
        t.docker(["run", "--rm", "--network", &with("ifname=wan7"), IMG, "ls", "/sys/class/net"]).ok().has("wan7").lacks("eth0");
        t.docker(["run", "--rm", "--network", &with("sysctls=net.ipv4.conf.IFNAME.log_martians=1"), IMG, "cat", "/proc/sys/net/ipv4/conf/eth0/log_martians"]).ok().is("1");
        t.docker(["run", "--rm", "--network", &with("sysctls=net.ipv4.conf.eth0.log_martians=1"), IMG, "true"]).fails().says("unrecognised network interface sysctl");
        let c = t.ctr("c");
        // What the kernel has not is the request's fault, and nothing is made (dockerd says so at the start, and leaves a container).
        let lacking = with("sysctls=net.ipv4.conf.IFNAME.nosuch=1");
        t.docker(["run", "--name", &c, "--network", &lacking, IMG, "true"]).fails().says("net/ipv4/conf/").says("/nosuch is not a sysctl file");
        t.docker(["run", "-d", "--name", &c, IMG, "sleep", "60"]).ok();
        let connect = |value: &str| t.docker(["network", "connect", "--driver-opt", &format!("com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.{value}"), &n, &c]);
        connect("nosuch=1").fails().says("/nosuch is not a sysctl file");
        connect("forwarding=x").fails().says("unable to write to '/proc/sys/net/ipv4/conf/eth1/forwarding'");
        t.docker(["exec", &c, "ls", "/sys/class/net"]).ok().lacks("eth1");
        connect("forwarding=0").ok();
    }
    fn interface_prefix(t) {
        let n = t.net("n");
        t.docker(["network", "create", "-o", "com.docker.network.container_iface_prefix=lan", &n]).ok();
        t.docker(["run", "--rm", "--network", &n, IMG, "ls", "/sys/class/net"]).ok().has("lan0").lacks("eth0");
    }
    fn link_names(t) {
        let (a, b) = (t.ctr("a"), t.ctr("b"));
        t.docker(["run", "-d", "--name", &a, IMG, "sleep", "60"]).ok();
        t.docker(["run", "-d", "--name", &b, "--link", &format!("{a}:db"), IMG, "sleep", "60"]).ok();
        let linked = format!("{b}/db");
        let names = || t.docker(["ps", "--no-trunc", "--format", "{{.Names}}", "-f", &format!("name=^/{a}$")]).ok();
        names().has(&linked);
        t.docker(["inspect", "-f", "{{.Name}}", &linked]).ok().is(&format!("/{a}"));
        t.docker(["rm", "--link", &linked]).ok();
        names().is(&a);
        t.docker(["rm", "--link", &b]).fails().says("cannot remove the default link name of the container");
        t.docker(["rm", "--link", &linked]).fails().says("no such container");
    }
    fn filters_of_ps(t) {
        let (a, b) = (t.ctr("web-1"), t.ctr("db-22"));
        for c in [&a, &b] { t.docker(["run", "-d", "--name", c, "--expose", "7777", "-l", "of=filters", IMG, "sleep", "60"]).ok(); }
        let ps = |filter: &str| t.docker(["ps", "-a", "-f", "label=of=filters", "-f", filter, "--format", "{{.Names}}"]);
        ps("name=web-[0-9]+$").ok().is(&a);
        ps("name=-(web|db)-\\d\\d$").ok().is(&b);
        ps("expose=7770-7780").ok().lines(2);
        ps("expose=7777/udp").ok().lines(0);
        ps("is-task=true").ok().lines(0);
        ps("status=running").ok().lines(2);
        for bad in ["status=foo", "nosuch=1", "is-task=x"] { ps(bad).fails().says("invalid filter"); }
        ps("publish=99999").fails().says("error while looking up for publish 99999");
        ps("before=nosuch").fails().says("no such container");
    }
    fn syslog_can_be_read_back(t) {
        let (c, d) = (t.ctr("a"), t.ctr("b"));
        // Nobody listens at that port: packets are lost, the copy is not.
        let syslog = ["--log-driver", "syslog", "--log-opt", "syslog-address=udp://127.0.0.1:9"];
        let run = |c: &str, more: &[&str]| {
            let print = [IMG, "sh", "-c", "echo out; echo err >&2"];
            t.docker([&["run", "--name", c][..], &syslog[..], more, &print[..]].concat())
        };
        run(&c, &["--log-opt", "cache-max-size=1m"]).ok();
        let both = t.docker(["logs", &c]).ok();
        assert_eq!((both.text().as_str(), both.both().contains("err")), ("out", true));
        run(&d, &["--log-opt", "cache-disabled=true"]).ok();
        t.docker(["logs", &d]).fails().says("configured logging driver does not support reading");
    }
    fn lossy_logs_lose_nothing_while_there_is_room(t) {
        let c = t.ctr("a");
        t.docker(["run", "--name", &c, "--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=4m", IMG, "sh", "-c", "for i in 1 2 3; do echo line-$i; done"]).ok();
        t.docker(["logs", &c]).ok().is("line-1\nline-2\nline-3");
        t.docker(["create", "--log-opt", "mode=nosuch", IMG, "true"]).fails().says("logging mode not supported: nosuch");
        t.docker(["create", "--log-opt", "max-buffer-size=1m", IMG, "true"]).fails().says("max-buffer-size option is only supported with 'mode=non-blocking'");
    }
    fn journald_without_a_journal(t) {
        if std::path::Path::new("/run/systemd/journal/socket").exists() { return; }
        let c = t.ctr("a");
        t.docker(["run", "--name", &c, "--log-driver", "journald", IMG, "true"]).fails().says("journald is not enabled on this host");
    }
    fn syslog_addresses_are_checked(t) {
        t.docker(["create", "--log-driver", "syslog", "--log-opt", "syslog-address=nosuch://x", IMG, "true"]).fails().says("nosuch");
        t.docker(["create", "--log-driver", "syslog", "--log-opt", "syslog-facility=nosuch", IMG, "true"]).fails().says("invalid syslog facility");
        t.docker(["create", "--log-driver", "nosuch", IMG, "true"]).fails().says("nosuch");
    }
    fn a_followed_log_is_whole_across_rotations(t) [newer = "dockerd 20.10 shows a line twice at each rotation"] {
        let c = t.ctr("a");
        t.docker(["run", "-d", "--name", &c, "--log-opt", "max-size=2k", "--log-opt", "max-file=3", IMG, "sh", "-c", "sleep 1; i=0; while [ $i -lt 200 ]; do echo line-$i; i=$((i+1)); usleep 3000; done"]).ok();
        let out = t.docker(["logs", "-f", &c]).ok().text();
        let wanted: Vec<String> = (0..200).map(|i| format!("line-{i}")).collect();
        assert_eq!(out.lines().collect::<Vec<_>>(), wanted);
    }
}
