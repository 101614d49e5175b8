//! Terminals: `-t`, `-it`, resize at start, detach keys.

use crate::dsl::{IMG, cases};

cases! {
    fn t_alone_makes_a_terminal(t) { t.docker(["run", "--rm", "-t", IMG, "tty"]).ok().has("/dev/pts/0"); }
    fn no_terminal_by_default(t) { t.docker(["run", "--rm", IMG, "tty"]).exits(1).has("not a tty"); }
    fn lines_end_with_cr(t) { t.docker(["run", "--rm", "-t", IMG, "echo", "x"]).ok().has("x\r\n"); }
    fn term_is_set(t) { t.docker(["run", "--rm", "-t", IMG, "sh", "-c", "echo $TERM"]).ok().has("xterm"); }
    fn shell(t) {
        t.tty(["run", "--rm", "-it", IMG, "sh"], "echo $((40+2))\nexit 5\n").exits(5).has("42");
    }
    fn exec_shell(t) {
        let c = t.sleeper("a", [""; 0]);
        t.tty(["exec", "-it", &c, "sh"], "tty; echo $((40+2))\nexit 4\n").exits(4).has("/dev/pts/").has("42");
    }
    fn detach_keys(t) {
        let c = t.ctr("a");
        t.tty(["run", "-it", "--name", &c, "--detach-keys", "ctrl-x,x", IMG, "sh"], "echo here\n\u{18}x\n");
        assert_eq!(t.inspect(&c, "{{.State.Running}}"), "true");
    }
    fn attach_and_type(t) {
        let c = t.ctr("a");
        t.docker(["run", "-dit", "--name", &c, IMG, "sh"]).ok();
        t.tty(["attach", &c], "echo $((50+5))\nexit 3\n").exits(3).has("55");
    }
    fn it_without_a_terminal(t) {
        t.docker_in(["run", "--rm", "-it", IMG, "true"], "x").fails().says("not a TTY");
    }
    fn window_size(t) { t.tty(["run", "--rm", "-it", IMG, "sh", "-c", "sleep 1; stty size"], "").ok(); }
}
