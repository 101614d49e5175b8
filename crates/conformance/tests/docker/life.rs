//! The life of a container: create, start, stop, restart, kill, pause, wait, rename, update, rm, ps, top.

use crate::dsl::{IMG, cases};

cases! {
    fn create_then_start(t) {
        let name = t.ctr("a");
        t.docker(["create", "--name", &name, IMG, "echo", "late"]).ok();
        assert_eq!(t.inspect(&name, "{{.State.Status}} {{.State.Pid}}"), "created 0");
        t.docker(["start", "-a", &name]).ok().is("late");
        assert_eq!(t.inspect(&name, "{{.State.Status}} {{.State.ExitCode}}"), "exited 0");
    }
    fn start_attached_gives_the_exit_code(t) {
        let name = t.ctr("a");
        t.docker(["create", "--name", &name, IMG, "sh", "-c", "exit 9"]).ok();
        t.docker(["start", "-a", &name]).exits(9);
    }
    fn start_attached_with_stdin(t) {
        let name = t.ctr("a");
        t.docker(["create", "-i", "--name", &name, IMG, "cat"]).ok();
        t.docker_in(["start", "-a", "-i", &name], "typed\n").ok().is("typed");
    }
    fn start_twice_is_fine(t) { let name = t.sleeper("a", [""; 0]); t.docker(["start", &name]).ok().is(&name); }
    fn files_stay_over_a_restart(t) {
        let name = t.sleeper("a", [""; 0]);
        t.docker(["exec", &name, "touch", "/kept"]).ok();
        let before = t.inspect(&name, "{{.State.StartedAt}}");
        t.docker(["restart", "-t", "0", &name]).ok();
        t.docker(["exec", &name, "ls", "/kept"]).ok();
        assert_ne!(t.inspect(&name, "{{.State.StartedAt}}"), before);
    }
    fn stop_kills_after_the_timeout(t) {
        let name = t.sleeper("a", [""; 0]);
        t.docker(["stop", "-t", "1", &name]).ok().is(&name);
        assert_eq!(t.inspect(&name, "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    }
    fn stop_when_stopped(t) {
        let name = t.ctr("a");
        t.docker(["run", "--name", &name, IMG, "true"]).ok();
        t.docker(["stop", &name]).ok();
    }
    fn kill_with_a_signal(t) {
        let name = t.ctr("a");
        let script = "trap 'echo hup' HUP; echo up; while :; do sleep 0.05; done";
        t.docker(["run", "-d", "--name", &name, IMG, "sh", "-c", script]).ok();
        t.until("up", || t.docker(["logs", &name]).ok().text() == "up");
        t.docker(["kill", "-s", "HUP", &name]).ok();
        t.until("hup", || t.docker(["logs", &name]).ok().text().contains("hup"));
        t.docker(["kill", &name]).ok();
        t.until("dead", || t.inspect(&name, "{{.State.ExitCode}}{{.State.Running}}") == "137false");
    }
    fn kill_when_stopped(t) {
        let name = t.ctr("a");
        t.docker(["run", "--name", &name, IMG, "true"]).ok();
        t.docker(["kill", &name]).exits(1).says("is not running");
    }
    fn pause_and_unpause(t) {
        let name = t.sleeper("a", [""; 0]);
        t.docker(["pause", &name]).ok();
        assert_eq!(t.inspect(&name, "{{.State.Status}}"), "paused");
        t.docker(["exec", &name, "true"]).exits(1).says("is paused");
        t.docker(["pause", &name]).exits(1).says("already paused");
        t.docker(["unpause", &name]).ok();
        t.docker(["exec", &name, "true"]).ok();
        t.docker(["unpause", &name]).exits(1).says("is not paused");
    }
    fn wait_gives_the_code(t) {
        let name = t.ctr("a");
        t.docker(["run", "-d", "--name", &name, IMG, "sh", "-c", "sleep 0.5; exit 5"]).ok();
        t.docker(["wait", &name]).ok().is("5");
        t.docker(["wait", &name]).ok().is("5");
    }
    fn rename(t) {
        let (old, new) = (t.ctr("a"), t.ctr("b"));
        t.docker(["create", "--name", &old, IMG]).ok();
        t.docker(["rename", &old, &new]).ok();
        assert_eq!(t.inspect(&new, "{{.Name}}"), format!("/{new}"));
        t.docker(["inspect", &old]).exits(1).says("no such object");
    }
    fn rm_running_is_refused(t) {
        let name = t.sleeper("a", [""; 0]);
        t.docker(["rm", &name]).exits(1).says("running");
        t.docker(["rm", "-f", &name]).ok().is(&name);
        t.docker(["inspect", &name]).exits(1);
    }
    fn rm_by_short_id(t) {
        let name = t.ctr("a");
        let id = t.docker(["create", "--name", &name, IMG]).ok().text();
        t.docker(["rm", &id[..12]]).ok().is(&id[..12]);
    }
    fn ps_lists_the_running(t) {
        let (up, down) = (t.sleeper("up", [""; 0]), t.ctr("down"));
        t.docker(["run", "--name", &down, IMG, "true"]).ok();
        t.docker(["ps", "--format", "{{.Names}}"]).ok().has(&up).lacks(&down);
        t.docker(["ps", "-a", "--format", "{{.Names}}"]).ok().has(&up).has(&down);
    }
    fn ps_columns(t) {
        let name = t.sleeper("a", ["-l", "shown=yes"]);
        let filter = format!("name={name}");
        t.docker(["ps", "-f", &filter, "--no-trunc", "--format", "{{.Image}}|{{.Command}}|{{.Status}}|{{.Labels}}|{{.Networks}}"])
            .ok().has("busybox|\"sleep 1000\"|Up ").has("|shown=yes|bridge");
        t.docker(["ps", "-f", &filter]).ok().has("CONTAINER ID").has("NAMES").lines(2);
    }
    fn ps_filters(t) {
        let name = t.ctr("a");
        t.docker(["run", "--name", &name, "-l", "who=ps-filters", IMG, "sh", "-c", "exit 3"]).exits(3);
        for filter in ["exited=3", "status=exited", "ancestor=busybox", "label=who=ps-filters"] {
            t.docker(["ps", "-a", "-f", filter, "-f", "label=who", "--format", "{{.Names}}"]).ok().has(&name);
        }
        t.docker(["ps", "-a", "-f", "exited=4", "-f", &format!("name={name}"), "-q"]).ok().is("");
        t.docker(["ps", "-f", "nosuch=1"]).exits(1).says("invalid filter");
    }
    fn ps_size(t) {
        let name = t.ctr("a");
        t.docker(["run", "--name", &name, IMG, "sh", "-c", "head -c 5000 /dev/zero > /f"]).ok();
        t.docker(["ps", "-a", "-s", "-f", &format!("name={name}"), "--format", "{{.Size}}"]).ok().has("5kB").has("virtual");
    }
    fn top(t) {
        let name = t.sleeper("a", [""; 0]);
        t.docker(["top", &name]).ok().has("PID").has("sleep 1000");
        t.docker(["top", &name, "-o", "pid,comm"]).ok().has("sleep").lines(2);
    }
    fn top_of_threads(t) {
        let name = t.sleeper("a", [""; 0]);
        let pid = t.inspect(&name, "{{.State.Pid}}");
        let row = t.docker(["top", &name, "-eLo", "pid,lwp,comm"]).ok().has("LWP").lines(2).text();
        let words: Vec<&str> = row.lines().last().unwrap().split_whitespace().collect();
        assert_eq!((words[0] == words[1], words[2], pid.is_empty()), (true, "sleep", false));
        t.docker(["top", &name, "-eLf"]).ok().has("NLWP").has("LWP").has("sleep 1000");
        t.docker(["top", &name, "-o", "nosuch"]).fails().says("unknown user-defined format specifier \"nosuch\"");
        t.docker(["top", &name, "-o", "comm"]).fails().says("Couldn't find PID field in ps output");
    }
    fn update_restart_policy(t) {
        let name = t.sleeper("a", [""; 0]);
        t.docker(["update", "--restart", "unless-stopped", &name]).ok();
        assert_eq!(t.inspect(&name, "{{.HostConfig.RestartPolicy.Name}}"), "unless-stopped");
    }
    fn attach_follows(t) {
        let name = t.ctr("a");
        t.docker(["run", "-d", "--name", &name, IMG, "sh", "-c", "sleep 2; echo seen; exit 6"]).ok();
        t.docker(["attach", "--no-stdin", &name]).exits(6).has("seen");
    }
    fn attach_with_stdin(t) {
        let name = t.ctr("a");
        t.docker(["run", "-d", "-i", "--name", &name, IMG, "sh", "-c", "read x; echo got-$x; sleep 0.5"]).ok();
        // 20.10 sometimes drops output after the end of input, so the log is asked.
        t.docker_in(["attach", &name], "word\n").ok();
        t.until("answered", || t.docker(["logs", &name]).ok().text() == "got-word");
    }
    fn attach_when_stopped(t) {
        let name = t.ctr("a");
        t.docker(["create", "--name", &name, IMG]).ok();
        t.docker(["attach", &name]).exits(1).says("stopped container");
    }
    fn stats_once(t) {
        let name = t.sleeper("a", ["--memory", "64m"]);
        t.docker(["stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}", &name]).ok().has(&name).has("/ 64MiB").has(" 1");
    }
    fn inspect_has_the_state(t) {
        let name = t.sleeper("a", [""; 0]);
        assert_eq!(t.inspect(&name, "{{.State.Running}} {{.State.Paused}} {{.State.Restarting}} {{.Path}} {{.Args}}"), "true false false sleep [1000]");
        let pid: i32 = t.inspect(&name, "{{.State.Pid}}").parse().unwrap();
        assert!(pid > 1);
    }
    fn inspect_size(t) {
        let name = t.ctr("a");
        t.docker(["create", "--name", &name, IMG]).ok();
        t.docker(["inspect", "-s", "-f", "{{.SizeRootFs}}", &name]).ok();
    }
    fn many_in_one_command(t) {
        let (a, b) = (t.sleeper("a", [""; 0]), t.sleeper("b", [""; 0]));
        t.docker(["stop", "-t", "0", &a, &b]).ok().lines(2);
        t.docker(["rm", &a, &b]).ok().lines(2);
    }
    fn container_prune(t) [alone = "removes every stopped container"] {
        let (gone, kept) = (t.ctr("gone"), t.sleeper("kept", [""; 0]));
        t.docker(["run", "--name", &gone, IMG, "true"]).ok();
        t.docker(["container", "prune", "-f"]).ok().has("Deleted Containers:");
        t.docker(["inspect", &gone]).exits(1);
        t.docker(["inspect", &kept]).ok();
    }
}
