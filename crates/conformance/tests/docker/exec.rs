//! `docker exec`.

use crate::dsl::{IMG, cases};

cases! {
    fn runs(t) { let c = t.sleeper("a", [""; 0]); t.docker(["exec", &c, "echo", "in"]).ok().is("in"); }
    fn exit_code(t) { let c = t.sleeper("a", [""; 0]); t.docker(["exec", &c, "sh", "-c", "exit 33"]).exits(33); }
    fn stdin(t) { let c = t.sleeper("a", [""; 0]); t.docker_in(["exec", "-i", &c, "cat"], "x\ny\n").ok().is("x\ny"); }
    fn stdin_half_close(t) { let c = t.sleeper("a", [""; 0]); t.docker_in(["exec", "-i", &c, "sh", "-c", "cat; echo end"], "x\n").ok().is("x\nend"); }
    fn streams_are_apart(t) {
        let c = t.sleeper("a", [""; 0]);
        let out = t.docker(["exec", &c, "sh", "-c", "echo o; echo e >&2"]).ok();
        assert_eq!((out.stdout.trim(), out.stderr.trim()), ("o", "e"));
    }
    fn environment(t) {
        let c = t.sleeper("a", ["-e", "OUTER=1"]);
        t.docker(["exec", "-e", "INNER=2", &c, "sh", "-c", "echo $OUTER$INNER"]).ok().is("12");
    }
    fn workdir(t) { let c = t.sleeper("a", [""; 0]); t.docker(["exec", "-w", "/var", &c, "pwd"]).ok().is("/var"); }
    fn workdir_of_the_container(t) { let c = t.sleeper("a", ["-w", "/etc"]); t.docker(["exec", &c, "pwd"]).ok().is("/etc"); }
    fn user(t) { let c = t.sleeper("a", [""; 0]); t.docker(["exec", "-u", "postgres", &c, "id", "-u"]).ok().is("70"); }
    fn user_of_the_container(t) { let c = t.sleeper("a", ["-u", "70"]); t.docker(["exec", &c, "id", "-u"]).ok().is("70"); }
    fn detached(t) {
        let c = t.sleeper("a", [""; 0]);
        t.docker(["exec", "-d", &c, "touch", "/made"]).ok().is("");
        t.until("made", || t.docker(["exec", &c, "ls", "/"]).ok().text().contains("made"));
    }
    fn no_such_program(t) { let c = t.sleeper("a", [""; 0]); assert!(t.docker(["exec", &c, "nosuch"]).fails().both().contains("executable file not found")); }
    fn not_running(t) {
        let c = t.ctr("a");
        t.docker(["create", "--name", &c, IMG]).ok();
        t.docker(["exec", &c, "true"]).exits(1).says("is not running");
    }
    fn no_such_container(t) { t.docker(["exec", "nosuch-container", "true"]).exits(1).says("No such container: nosuch-container"); }
    fn same_namespaces(t) { let c = t.sleeper("a", [""; 0]); t.docker(["exec", &c, "cat", "/proc/1/comm"]).ok().is("sleep"); }
    fn same_limits(t) {
        let c = t.sleeper("a", ["--cap-drop", "ALL"]);
        t.docker(["exec", &c, "grep", "CapEff", "/proc/self/status"]).ok().has("0000000000000000");
    }
    fn privileged(t) [machine = "runc 1.1 cannot apply all capabilities without CAP_SYS_RESOURCE"] {
        let c = t.sleeper("a", [""; 0]);
        t.docker(["exec", "--privileged", &c, "ip", "link", "set", "lo", "mtu", "1400"]).ok();
    }
    fn large_output(t) { let c = t.sleeper("a", [""; 0]); assert_eq!(t.docker(["exec", &c, "sh", "-c", "yes | head -n 500000"]).ok().stdout.len(), 1_000_000); }
    fn survives_its_client(t) {
        let c = t.sleeper("a", [""; 0]);
        t.docker(["exec", "-d", &c, "sh", "-c", "sleep 0.3; touch /after"]).ok();
        t.until("after", || t.docker(["exec", &c, "ls", "/"]).ok().text().contains("after"));
    }
}
