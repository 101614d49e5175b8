//! Flags of the other verbs (`docker CMD --help`), filters and formats: each seen to do something, or refused by name.

use crate::dsl::{IMG, T, cases};

/// Actions of one container's events, in order, as a replay tells them.
fn replay(t: &T, filters: &[&str]) -> Vec<String> {
    let until = t.soon(0);
    let mut args = vec!["events", "--since", "10m", "--until", &until, "--format", "{{.Type}} {{.Action}}"];
    filters.iter().for_each(|filter| args.extend(["-f", filter]));
    t.docker(args).ok().text().lines().map(|line| line.trim().to_owned()).collect()
}

cases! {
    fn events_of_files_and_processes(t) {
        let c = t.sleeper("a", [""; 0]);
        let file = t.file("in", "x");
        t.docker(["cp", &file, &format!("{c}:/tmp/in")]).ok();
        t.docker(["cp", &format!("{c}:/tmp/in"), &file]).ok();
        t.docker(["top", &c]).ok();
        t.docker(["exec", &c, "true"]).ok();
        t.docker(["rename", &c, &t.ctr("b")]).ok();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let id = t.inspect(&t.ctr("b"), "{{.Id}}");
        let seen = replay(t, &[&format!("container={id}"), "type=container"]);
        for action in ["create", "start", "extract-to-dir", "archive-path", "top", "exec_create: true", "exec_start: true", "exec_die", "rename"] {
            assert!(seen.contains(&format!("container {action}")), "{action}: {seen:?}");
        }
    }
    fn events_of_networks_and_volumes(t) {
        let (c, n, v) = (t.sleeper("a", [""; 0]), t.net("n"), t.vol("v"));
        t.docker(["network", "create", &n]).ok();
        t.docker(["network", "connect", &n, &c]).ok();
        t.docker(["network", "disconnect", &n, &c]).ok();
        t.docker(["run", "--rm", "-v", &format!("{v}:/v"), IMG, "true"]).ok();
        t.docker(["volume", "rm", &v]).ok();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let mut seen = replay(t, &[&format!("network={n}")]);
        // 20.10 tells a disconnection twice.
        seen.dedup();
        assert_eq!(seen, ["network create", "network connect", "network disconnect"]);
        assert_eq!(replay(t, &[&format!("volume={v}")]), ["volume create", "volume mount", "volume unmount", "volume destroy"]);
    }
    fn events_of_images(t) {
        let (c, i) = (t.sleeper("a", [""; 0]), t.img("i"));
        t.docker(["tag", IMG, &format!("{i}:one")]).ok();
        t.docker(["save", "-o", "/dev/null", &format!("{i}:one")]).fails();
        t.docker(["commit", &c, &format!("{i}:two")]).ok();
        t.docker(["rmi", &format!("{i}:one")]).ok();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let tags = replay(t, &[&format!("image={i}"), "type=image"]);
        assert!(tags.contains(&"image tag".to_owned()), "{tags:?}");
        assert_eq!(replay(t, &[&format!("container={c}"), "event=commit"]), ["container commit"]);
    }
    fn events_filters_meet(t) {
        let c = t.sleeper("a", ["-l", "of=meeting"]);
        t.docker(["kill", &c]).ok();
        std::thread::sleep(std::time::Duration::from_millis(1500));
        assert_eq!(replay(t, &["label=of=meeting", "event=kill", "event=die", "type=container"]), ["container kill", "container die"]);
        assert_eq!(replay(t, &["label=of=meeting", "event=die", "image=busybox"]), ["container die"]);
        assert_eq!(replay(t, &["label=of=meeting", "type=network"]), [""; 0]);
        assert_eq!(replay(t, &["label=of=other"]), [""; 0]);
        t.docker(["events", "--since", "x", "--until", "0s"]).fails().says("x");
    }
    fn ps_by_what_is_used(t) {
        let (n, v) = (t.net("n"), t.vol("v"));
        t.docker(["network", "create", &n]).ok();
        let a = t.sleeper("a", ["--network", &n, "-v", &format!("{v}:/data"), "-p", "18977:80", "-l", "of=ps-used"]);
        let b = t.sleeper("b", ["-l", "of=ps-used"]);
        let id = t.inspect(&a, "{{.Id}}");
        let ps = |filter: &str| t.docker(["ps", "-a", "-f", "label=of=ps-used", "-f", filter, "--format", "{{.Names}}"]).ok().text();
        for filter in [format!("network={n}"), format!("volume={v}"), "volume=/data".into(), "publish=18977".into(), format!("id={}", &id[..12]), format!("before={b}")] {
            assert_eq!(ps(&filter), a, "{filter}");
        }
        assert_eq!(ps(&format!("since={a}")), b);
        assert_eq!(ps("health=none").lines().count(), 2);
        assert_eq!(ps("health=healthy"), "");
        assert_eq!(ps("status=exited"), "");
        assert_eq!(ps(&format!("ancestor={IMG}")).lines().count(), 2);
        t.docker(["ps", "-f", "health=nosuch"]).fails().says("health");
        t.docker(["ps", "-f", "exited=x"]).fails().says("strconv.Atoi: parsing \"x\": invalid syntax");
    }
    fn ps_of_the_last(t) [alone = "another's container would be the last"] {
        let (a, b) = (t.ctr("a"), t.ctr("b"));
        for c in [&a, &b] { t.docker(["create", "--name", c, IMG]).ok(); }
        t.docker(["ps", "-l", "--format", "{{.Names}}"]).ok().is(&b);
        t.docker(["ps", "-n", "2", "--format", "{{.Names}}"]).ok().is(&format!("{b}\n{a}"));
        t.docker(["ps", "-a", "-n", "1", "--no-trunc", "--format", "json"]).ok().has("\"State\":\"created\"");
    }
    fn stats_formats(t) {
        let c = t.sleeper("a", ["--memory", "32m"]);
        let id = t.inspect(&c, "{{.Id}}");
        let stats = |format: &str| t.docker(["stats", "--no-stream", "--format", format, &c]).ok();
        stats("{{.Container}}|{{.ID}}|{{.Name}}|{{.PIDs}}").is(&format!("{c}|{}|{c}|1", &id[..12]));
        stats("{{.MemUsage}}|{{.NetIO}}|{{.BlockIO}}|{{.CPUPerc}}|{{.MemPerc}}").has(" / 32MiB|").has("%");
        stats("table {{.Name}}\t{{.PIDs}}").has("NAME").has("PIDS").lines(2);
        stats("json").has(&format!("\"Name\":\"{c}\""));
        t.docker(["stats", "--no-stream", "nosuch"]).fails().says("No such container: nosuch");
        t.docker(["stats", "--no-stream", "--no-trunc", "--format", "{{.ID}}", &c]).ok().is(&id);
    }
    fn attach_flags(t) {
        let c = t.ctr("a");
        t.docker(["run", "-dit", "--name", &c, IMG, "sh"]).ok();
        t.tty(["attach", "--detach-keys", "ctrl-a,d", &c], "echo $((40+2))\n\u{1}d\n").has("42");
        assert_eq!(t.inspect(&c, "{{.State.Running}}"), "true");
        t.docker(["exec", "--detach-keys", "zz", &c, "true"]).fails().says("(zz) provided");
        t.docker(["attach", "nosuch"]).fails().says("No such container: nosuch");
    }
    fn exec_flags(t) {
        let c = t.sleeper("a", [""; 0]);
        let file = t.file("env", "FROM=file\n");
        t.docker(["exec", "--env-file", &file, "-e", "OWN=1", &c, "sh", "-c", "echo $FROM$OWN"]).ok().is("file1");
        t.docker(["exec", "-w", "/nosuch", &c, "true"]).exits(126);
        let out = t.docker(["exec", "-u", "nosuch", &c, "true"]).fails();
        assert!(out.both().contains("unable to find user nosuch"), "{}", out.both());
        t.docker(["exec", "-t", &c, "tty"]).ok().has("/dev/pts/");
        t.docker(["exec", "-d", &c, "nosuch"]).fails().says("executable file not found");
    }
    fn update_flags(t) {
        let c = t.sleeper("a", ["--memory", "64m"]);
        t.docker(["update", "--cpus", "0.5", "--cpu-shares", "300", "--pids-limit", "21", "--memory-reservation", "20m", "--cpuset-cpus", "0", &c]).ok();
        assert_eq!(t.inspect(&c, "{{with .HostConfig}}{{.NanoCpus}} {{.CpuShares}} {{.PidsLimit}} {{.MemoryReservation}} {{.CpusetCpus}}{{end}}"), "500000000 300 21 20971520 0");
        let script = "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max";
        t.docker(["exec", &c, "sh", "-c", script]).ok().is("21");
        t.docker(["update", "--memory", "1m", &c]).fails().says("minimum memory limit");
        t.docker(["update", "--cpuset-cpus", "4000", &c]).fails().says("cpus");
        t.docker(["update", "--memory", "9m", "nosuch"]).fails().says("No such container: nosuch");
    }
    fn a_discarded_limit_is_forgotten(t) [newer = "20.10 still sets kernel memory"] {
        let c = t.sleeper("a", ["--kernel-memory", "10m"]);
        for update in [["--restart", "always"], ["--kernel-memory", "11m"], ["--restart", "no"]] {
            let out = t.docker(["update", update[0], update[1], &c]).ok();
            let warned = out.both().matches("kernel memory").count();
            assert_eq!(warned, usize::from(update[0] == "--kernel-memory"), "{update:?}: {}", out.both());
            assert_eq!(t.inspect(&c, "{{.HostConfig.KernelMemory}}"), "0", "{update:?}");
        }
    }
    fn stop_and_restart_with_a_signal(t) [newer = "API 1.42"] {
        let c = t.ctr("a");
        let script = "trap 'echo got; exit 4' USR2; while :; do sleep 0.05; done";
        t.docker(["run", "-d", "--name", &c, IMG, "sh", "-c", script]).ok();
        t.docker(["restart", "-s", "USR2", &c]).ok();
        t.until("up", || t.inspect(&c, "{{.State.Running}}") == "true");
        t.docker(["stop", "-s", "USR2", &c]).ok();
        assert_eq!(t.inspect(&c, "{{.State.ExitCode}}"), "4");
        t.docker(["stop", "-s", "NOSUCH", &c]).fails().says("invalid signal: NOSUCH");
    }
    fn rename_refusals(t) {
        let (a, b) = (t.sleeper("a", [""; 0]), t.sleeper("b", [""; 0]));
        t.docker(["rename", &a, &b]).fails().says("is already in use by container");
        t.docker(["rename", &a, "a b"]).fails().says("only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
        t.docker(["rename", &a, &a]).fails().says("Renaming a container with the same name as its current name");
    }
    fn cp_refusals(t) {
        let c = t.sleeper("a", [""; 0]);
        let file = t.file("in", "x");
        t.docker(["cp", &format!("{c}:/nosuch"), "-"]).fails().says("Could not find the file /nosuch in container");
        t.docker(["cp", "nosuch:/x", "-"]).fails().says("No such container: nosuch");
        t.docker(["cp", &file, &format!("{c}:/nosuch/x")]).fails().says("/nosuch");
    }
    fn commit_flags(t) {
        let (c, i) = (t.sleeper("a", [""; 0]), t.img("i"));
        t.docker(["commit", "-c", "CMD [\"a\", \"b\"]", "-c", "ENV A=b", "-c", "LABEL of=commit", "-c", "EXPOSE 81", "-m", "why", "-a", "who", &c, &i]).ok();
        assert_eq!(t.docker(["inspect", "-f", "{{.Config.Cmd}} {{.Author}} {{.Comment}} {{.Config.Labels.of}} {{.Config.ExposedPorts}}", &i]).ok().text(), "[a b] who why commit map[81/tcp:{}]");
        t.docker(["history", "--format", "{{.Comment}}", &i]).ok().has("why");
        t.docker(["commit", "-c", "NOSUCH x", &c, &i]).fails().says("nosuch");
        t.docker(["commit", &c, "BAD:REF"]).fails().says("must be lowercase");
    }
    fn networks_that_stay_apart(t) {
        let c = t.sleeper("a", [""; 0]);
        t.docker(["network", "connect", "host", &c]).fails().says("container cannot be disconnected from host network or connected to host network");
        t.docker(["network", "connect", "none", &c]).fails().says("container cannot be connected to multiple networks with one of the networks in private (none) mode");
        t.docker(["network", "create", "host"]).fails().says("operation is not permitted on predefined host network");
        t.docker(["volume", "create", "-d", "nosuch", "some"]).fails().says("create some: error looking up volume plugin nosuch: plugin \"nosuch\" not found");
    }
    fn inspect_reads_every_part(t) {
        let c = t.sleeper("a", ["--health-cmd", "true"]);
        for field in ["Id", "Created", "Path", "Args", "State", "Image", "ResolvConfPath", "HostnamePath", "HostsPath", "LogPath", "Name", "RestartCount", "Driver", "Platform", "MountLabel", "ProcessLabel", "AppArmorProfile", "ExecIDs", "HostConfig", "GraphDriver", "Mounts", "Config", "NetworkSettings"] {
            // A field that is not there makes the template fail.
            t.docker(["inspect", "-f", &format!("{{{{json .{field}}}}}"), &c]).ok();
        }
        for field in ["Status", "Running", "Paused", "Restarting", "OOMKilled", "Dead", "Pid", "ExitCode", "Error", "StartedAt", "FinishedAt", "Health.Status", "Health.FailingStreak", "Health.Log"] {
            t.docker(["inspect", "-f", &format!("{{{{json .State.{field}}}}}"), &c]).ok().lacks("no value");
        }
        for file in ["ResolvConfPath", "HostnamePath", "HostsPath"] {
            let path = t.inspect(&c, &format!("{{{{.{file}}}}}"));
            assert!(std::path::Path::new(&path).exists(), "{file}: {path}");
        }
    }
}
