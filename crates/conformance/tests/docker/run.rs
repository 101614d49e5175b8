//! `docker run` and its flags: what the process sees, and what `inspect` says of it.

use crate::dsl::{IMG, cases};

cases! {
    fn prints(t) { t.docker(["run", "--rm", IMG, "echo", "hi"]).ok().is("hi"); }
    fn streams_are_apart(t) {
        let out = t.docker(["run", "--rm", IMG, "sh", "-c", "echo out; echo err >&2"]).ok();
        assert_eq!((out.stdout.trim(), out.stderr.trim()), ("out", "err"));
    }
    fn exit_code_is_the_process(t) { t.docker(["run", "--rm", IMG, "sh", "-c", "exit 42"]).exits(42); }
    fn killed_by_a_signal(t) { t.docker(["run", "--rm", "--init", IMG, "sh", "-c", "kill -9 $$"]).exits(137); }
    fn detached_prints_the_id(t) {
        let name = t.ctr("a");
        let id = t.docker(["run", "-d", "--name", &name, IMG, "sleep", "100"]).ok().text();
        assert_eq!(id.len(), 64, "{id}");
        assert_eq!(t.inspect(&name, "{{.Id}}"), id);
    }
    fn rm_removes(t) {
        let name = t.ctr("a");
        t.docker(["run", "--rm", "--name", &name, IMG, "true"]).ok();
        t.until("removed", || t.docker(["ps", "-aq", "-f", &format!("name={name}")]).ok().text().is_empty());
    }
    fn cidfile(t) {
        let path = t.dir().join("cid").display().to_string();
        let name = t.ctr("a");
        t.docker(["run", "--name", &name, "--cidfile", &path, IMG, "true"]).ok();
        assert_eq!(std::fs::read_to_string(path).unwrap(), t.inspect(&name, "{{.Id}}"));
    }
    fn stdin(t) { t.docker_in(["run", "--rm", "-i", IMG, "cat"], "one\ntwo\n").ok().is("one\ntwo"); }
    fn stdin_is_empty_without_i(t) { t.docker_in(["run", "--rm", IMG, "cat"], "one\n").ok().is(""); }
    fn large_stdin(t) {
        let input = "0123456789abcdef\n".repeat(60_000);
        t.docker_in(["run", "--rm", "-i", IMG, "wc", "-c"], &input).ok().is(&input.len().to_string());
    }
    fn environment(t) {
        t.docker(["run", "--rm", "-e", "A=1", "-e", "B=two words", IMG, "sh", "-c", "echo $A-$B"]).ok().is("1-two words");
    }
    fn env_file(t) {
        let file = t.file("env", "# comment\nA=file\nB=x\n");
        t.docker(["run", "--rm", "--env-file", &file, "-e", "B=flag", IMG, "sh", "-c", "echo $A$B"]).ok().is("fileflag");
    }
    fn default_environment(t) {
        t.docker(["run", "--rm", "-h", "box", IMG, "env"]).ok().has("PATH=/usr/local/sbin").has("HOSTNAME=box").has("HOME=/root");
    }
    fn workdir_is_made(t) { t.docker(["run", "--rm", "-w", "/made/here", IMG, "pwd"]).ok().is("/made/here"); }
    fn user_by_name(t) { t.docker(["run", "--rm", "-u", "postgres", IMG, "id"]).ok().has("uid=70(postgres) gid=70(postgres)"); }
    fn user_by_number(t) { t.docker(["run", "--rm", "-u", "1234:5678", IMG, "sh", "-c", "id -u; id -g"]).ok().is("1234\n5678"); }
    fn group_add(t) { t.docker(["run", "--rm", "-u", "70", "--group-add", "4242", IMG, "id", "-G"]).ok().has("4242"); }
    fn unknown_user(t) {
        t.docker(["run", "--rm", "-u", "nosuch", IMG, "true"]).exits(125).says("unable to find user nosuch");
    }
    fn entrypoint(t) { t.docker(["run", "--rm", "--entrypoint", "echo", IMG, "a", "b"]).ok().is("a b"); }
    fn entrypoint_emptied(t) { t.docker(["run", "--rm", "--entrypoint", "", IMG, "echo", "x"]).ok().is("x"); }
    fn hostname(t) { t.docker(["run", "--rm", "-h", "box", "--domainname", "weave", IMG, "hostname"]).ok().has("box"); }
    fn hostname_default_is_the_short_id(t) {
        let name = t.sleeper("a", [""; 0]);
        assert_eq!(t.docker(["exec", &name, "hostname"]).ok().text(), t.inspect(&name, "{{.Id}}")[..12]);
    }
    fn add_host(t) {
        t.docker(["run", "--rm", "--add-host", "peer:10.9.8.7", IMG, "cat", "/etc/hosts"]).ok().has("10.9.8.7\tpeer");
    }
    fn dns_flags(t) {
        t.docker(["run", "--rm", "--dns", "10.1.2.3", "--dns-search", "weft.test", "--dns-option", "ndots:3", IMG, "cat", "/etc/resolv.conf"])
            .ok().has("nameserver 10.1.2.3").has("search weft.test").has("ndots:3");
    }
    fn labels(t) {
        let name = t.ctr("a");
        let file = t.file("labels", "from=file\n");
        t.docker(["create", "--name", &name, "-l", "a=b", "--label-file", &file, IMG]).ok();
        assert_eq!(t.inspect(&name, "{{index .Config.Labels \"a\"}}{{index .Config.Labels \"from\"}}"), "bfile");
    }
    fn init_is_first(t) { t.docker(["run", "--rm", "--init", IMG, "cat", "/proc/1/comm"]).ok().lacks("cat"); }
    fn first_process_is_the_command(t) { t.docker(["run", "--rm", IMG, "cat", "/proc/1/comm"]).ok().is("cat"); }
    fn read_only_root(t) {
        t.docker(["run", "--rm", "--read-only", IMG, "touch", "/x"]).exits(1).says("read-only file system");
    }
    fn read_only_with_tmpfs(t) {
        t.docker(["run", "--rm", "--read-only", "--tmpfs", "/tmp", IMG, "touch", "/tmp/x"]).ok();
    }
    fn stop_signal(t) {
        let name = t.ctr("a");
        let script = "trap 'echo got; exit 7' USR1; while :; do sleep 0.05; done";
        t.docker(["run", "-d", "--name", &name, "--stop-signal", "USR1", IMG, "sh", "-c", script]).ok();
        t.docker(["stop", &name]).ok();
        assert_eq!(t.inspect(&name, "{{.State.ExitCode}} {{.Config.StopSignal}}"), "7 USR1");
        t.docker(["logs", &name]).ok().is("got");
    }
    fn restart_on_failure_counts(t) {
        let name = t.ctr("a");
        t.docker(["run", "-d", "--name", &name, "--restart", "on-failure:2", IMG, "false"]).ok();
        t.until("two restarts", || t.inspect(&name, "{{.RestartCount}} {{.State.Running}}") == "2 false");
    }
    fn restart_always_comes_back(t) {
        let name = t.ctr("a");
        t.docker(["run", "-d", "--name", &name, "--restart", "always", IMG, "sleep", "0.2"]).ok();
        t.until("restarted", || t.inspect(&name, "{{.RestartCount}}") != "0");
        t.docker(["stop", "-t", "1", &name]).ok();
        assert_eq!(t.inspect(&name, "{{.State.Running}}"), "false");
    }
    fn restart_excludes_rm(t) {
        t.docker(["run", "--rm", "--restart", "always", IMG, "true"]).exits(125).says("conflicting options");
    }
    fn health_turns_healthy(t) {
        let name = t.sleeper("a", ["--health-cmd", "true", "--health-interval", "200ms", "--health-retries", "1"]);
        t.until("healthy", || t.inspect(&name, "{{.State.Health.Status}}") == "healthy");
        t.docker(["ps", "-f", "health=healthy", "--format", "{{.Names}} {{.Status}}"]).ok().has(&name).has("(healthy)");
        t.docker(["stop", "-t", "0", &name]).ok();
        assert_eq!(t.inspect(&name, "{{.State.Health.Status}}"), "unhealthy", "what is not checked is not healthy");
    }
    fn health_turns_unhealthy(t) {
        let name = t.sleeper("a", ["--health-cmd", "echo ill; exit 1", "--health-interval", "200ms", "--health-retries", "2"]);
        t.until("unhealthy", || t.inspect(&name, "{{.State.Health.Status}}") == "unhealthy");
        assert_eq!(t.inspect(&name, "{{(index .State.Health.Log 0).Output}}"), "ill");
    }
    fn device(t) { t.docker(["run", "--rm", "--device", "/dev/null:/dev/mine:rw", IMG, "ls", "/dev/mine"]).ok().is("/dev/mine"); }
    fn device_missing(t) {
        t.docker(["run", "--rm", "--device", "/dev/nosuch", IMG, "true"]).exits(127).says("no such file or directory");
    }
    fn shm_size(t) { t.docker(["run", "--rm", "--shm-size", "8m", IMG, "df", "-k", "/dev/shm"]).ok().has("8192"); }
    fn oom_score(t) { t.docker(["run", "--rm", "--oom-score-adj", "500", IMG, "cat", "/proc/self/oom_score_adj"]).ok().is("500"); }
    fn network_none_has_only_lo(t) {
        t.docker(["run", "--rm", "--network", "none", IMG, "ip", "-o", "link"]).ok().has("lo").lacks("eth0");
    }
    fn command_from_the_image(t) { t.docker_in(["run", "--rm", "-i", IMG], "echo from-sh\n").ok().is("from-sh"); }
    fn many_at_once(t) {
        let names: Vec<String> = (0..8).map(|n| t.ctr(&n.to_string())).collect();
        let running: Vec<_> = names.iter().map(|name| t.start(["run", "--name", name, IMG, "hostname"])).collect();
        let mut hosts: Vec<String> = running.into_iter().map(|one| one.end().ok().text()).collect();
        hosts.sort();
        hosts.dedup();
        assert_eq!(hosts.len(), 8);
    }
    fn attach_streams_chosen(t) {
        let out = t.docker(["run", "--rm", "-a", "stderr", IMG, "sh", "-c", "echo out; echo err >&2"]).ok();
        assert_eq!((out.stdout.trim(), out.stderr.trim()), ("", "err"));
    }
    fn pull_never(t) {
        t.docker(["run", "--rm", "--pull", "never", "nosuch-image", "true"]).exits(125).says("No such image: nosuch-image");
    }
    fn annotations(t) [newer = "API 1.43"] {
        let name = t.ctr("a");
        t.docker(["create", "--name", &name, "--annotation", "a=b", IMG]).ok();
        assert_eq!(t.inspect(&name, "{{.HostConfig.Annotations}}"), "map[a:b]");
    }
}
