//! `docker logs` and log drivers.

use crate::dsl::{IMG, T, cases};

fn spoken(t: &T, script: &str, flags: &[&str]) -> String {
    let name = t.ctr("a");
    let mut args = vec!["run", "--name", &name];
    args.extend(flags);
    args.extend([IMG, "sh", "-c", script]);
    t.docker(args).ok();
    name
}

cases! {
    fn both_streams(t) {
        let c = spoken(t, "echo o; echo e >&2", &[]);
        let out = t.docker(["logs", &c]).ok();
        assert_eq!((out.stdout.trim(), out.stderr.trim()), ("o", "e"));
    }
    fn tail(t) {
        let c = spoken(t, "seq 1 100", &[]);
        t.docker(["logs", "--tail", "3", &c]).ok().is("98\n99\n100");
        t.docker(["logs", "-n", "0", &c]).ok().is("");
        t.docker(["logs", "--tail", "all", &c]).ok().lines(100);
    }
    fn timestamps(t) {
        let c = spoken(t, "echo x", &[]);
        let text = t.docker(["logs", "-t", &c]).ok().text();
        let (stamp, line) = text.split_once(' ').unwrap();
        assert!(stamp.ends_with('Z') && stamp.contains('T') && line == "x", "{text}");
    }
    fn since_and_until(t) {
        let c = spoken(t, "echo early; sleep 2; echo late", &[]);
        let text = t.docker(["logs", "-t", &c]).ok().text();
        let late = text.lines().nth(1).unwrap().split(' ').next().unwrap().to_owned();
        t.docker(["logs", "--since", &late, &c]).ok().is("late");
        t.docker(["logs", "--until", &late[..19], &c]).ok();
        let early = text.split(' ').next().unwrap().to_owned();
        t.docker(["logs", "--until", &early, &c]).ok().is("early");
    }
    fn follow_ends_with_the_container(t) {
        let c = t.ctr("a");
        t.docker(["run", "-d", "--name", &c, IMG, "sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.2; done"]).ok();
        t.docker(["logs", "-f", &c]).ok().is("1\n2\n3\n4\n5");
    }
    fn partial_lines_join(t) {
        let c = spoken(t, "head -c 40000 /dev/zero | tr '\\0' a; echo", &[]);
        assert_eq!(t.docker(["logs", &c]).ok().text().len(), 40_000);
    }
    fn no_newline_at_the_end(t) { let c = spoken(t, "printf abc", &[]); assert_eq!(t.docker(["logs", &c]).ok().stdout, "abc"); }
    fn driver_none(t) {
        let c = spoken(t, "echo x", &["--log-driver", "none"]);
        t.docker(["logs", &c]).exits(1).says("does not support reading");
    }
    fn driver_local(t) {
        let c = spoken(t, "seq 1 50", &["--log-driver", "local"]);
        t.docker(["logs", "--tail", "2", &c]).ok().is("49\n50");
    }
    fn rotation_keeps_the_newest(t) {
        let c = spoken(t, "seq 1 20000", &["--log-opt", "max-size=50k", "--log-opt", "max-file=2"]);
        let out = t.docker(["logs", &c]).ok().has("20000");
        assert!(out.stdout.lines().count() < 20_000);
    }
    fn driver_unknown(t) { t.docker(["run", "--rm", "--log-driver", "nosuch", IMG, "true"]).exits(125).says("nosuch"); }
    fn driver_out_of_order(t) {
        // Nobody listens at port 1. No runtime was asked, so none is blamed.
        let address = "syslog-address=tcp://127.0.0.1:1";
        let out = t.docker(["run", "--rm", "--log-driver", "syslog", "--log-opt", address, IMG, "true"]).fails();
        let text = out.both();
        assert!(text.contains("failed to initialize logging driver: ") && !text.contains("runtime"), "{text}");
        assert!(!text.contains("shim task") && !text.contains("unknown"), "{text}");
    }
    fn option_unknown(t) {
        t.docker(["run", "--rm", "--log-opt", "nosuch=1", IMG, "true"]).exits(125).says("unknown log opt 'nosuch'");
    }
    fn over_a_restart(t) {
        let c = spoken(t, "echo again", &[]);
        t.docker(["start", "-a", &c]).ok();
        t.docker(["logs", &c]).ok().is("again\nagain");
    }
    fn details(t) {
        let c = spoken(t, "echo x", &["-l", "who=me", "--log-opt", "labels=who"]);
        t.docker(["logs", "--details", &c]).ok().is("who=me x");
    }
    fn no_such_container(t) { t.docker(["logs", "nosuch-container"]).exits(1).says("No such container: nosuch-container"); }
}
