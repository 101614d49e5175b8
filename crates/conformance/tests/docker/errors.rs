//! Exit codes and the texts users know.

use crate::dsl::{IMG, cases};

cases! {
    fn program_not_found_is_127(t) { t.docker(["run", "--rm", IMG, "nosuch-program"]).exits(127).says("executable file not found"); }
    fn program_not_executable_is_126(t) { t.docker(["run", "--rm", IMG, "/etc/passwd"]).exits(126).says("permission denied"); }
    fn directory_as_program_is_126(t) { t.docker(["run", "--rm", IMG, "/etc"]).exits(126); }
    fn daemon_error_is_125(t) { t.docker(["run", "--rm", "--network", "nosuch-network", IMG, "true"]).exits(125).says("network nosuch-network not found"); }
    fn name_in_use(t) {
        let name = t.ctr("a");
        t.docker(["create", "--name", &name, IMG]).ok();
        t.docker(["create", "--name", &name, IMG]).exits(1).says(&format!("The container name \"/{name}\" is already in use by container"));
    }
    fn invalid_name(t) { t.docker(["create", "--name", "a b", IMG]).exits(1).says("Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"); }
    fn invalid_reference(t) { t.docker(["run", "UPPER", "true"]).exits(125).says("invalid reference format"); }
    fn no_such_container(t) {
        for verb in ["start", "stop", "kill", "pause", "rm", "restart", "wait", "top"] {
            t.docker([verb, "nosuch-container"]).exits(1).says("No such container: nosuch-container");
        }
    }
    fn no_such_object(t) { t.docker(["inspect", "nosuch-object"]).exits(1).says("No such object: nosuch-object"); }
    fn no_such_image(t) {
        t.docker(["rmi", "nosuch-image"]).exits(1).says("No such image: nosuch-image");
        t.docker(["image", "inspect", "nosuch-image"]).exits(1).says("No such image: nosuch-image");
        t.docker(["tag", "nosuch-image", "x"]).exits(1).says("No such image: nosuch-image");
    }
    fn no_such_volume(t) { t.docker(["volume", "inspect", "nosuch-volume"]).exits(1).says("no such volume"); }
    fn volume_name_too_short(t) {
        t.docker(["volume", "create", "x"]).exits(1).says("volume name is too short, names should be at least two alphanumeric characters");
    }
    fn no_such_network(t) { t.docker(["network", "inspect", "nosuch-network"]).exits(1).says("nosuch-network not found"); }
    fn image_in_use(t) {
        let (name, img) = (t.ctr("a"), t.img("i"));
        let file = t.dir().join("one.tar");
        weft_testkit::busybox_archive(&weft_testkit::ImageSpec::tagged(&format!("{img}:latest")), &file).unwrap();
        t.docker(["load", "-i", file.to_str().unwrap()]).ok();
        t.docker(["create", "--name", &name, &img]).ok();
        t.docker(["rmi", &img]).exits(1).says("conflict: unable to remove repository reference");
    }
    fn relative_mount_target(t) { t.docker(["run", "--rm", "-v", "/tmp:relative", IMG, "true"]).exits(125).says("mount path must be absolute"); }
    fn bind_source_missing(t) {
        t.docker(["run", "--rm", "--mount", "type=bind,src=/nosuch/dir,dst=/x", IMG, "true"]).exits(125).says("bind source path does not exist: /nosuch/dir");
    }
    fn duplicate_mount_point(t) { t.docker(["run", "--rm", "-v", "/tmp:/x", "-v", "/var:/x", IMG, "true"]).exits(125).says("Duplicate mount point: /x"); }
    fn rename_to_used(t) {
        let (a, b) = (t.ctr("a"), t.ctr("b"));
        t.docker(["create", "--name", &a, IMG]).ok();
        t.docker(["create", "--name", &b, IMG]).ok();
        t.docker(["rename", &a, &b]).exits(1).says("already in use");
    }
    fn container_mode_of_nobody(t) { t.docker(["run", "--rm", "--network", "container:nosuch-container", IMG, "true"]).exits(125).says("nosuch-container"); }
    fn port_taken(t) {
        t.sleeper("a", ["-p", "18431:80"]);
        let b = t.ctr("b");
        t.docker(["run", "-d", "--name", &b, "-p", "18431:80", IMG, "true"]).exits(125).says("port is already allocated");
    }
    fn a_refused_start_is_told_and_removed(t) {
        t.sleeper("a", ["-p", "18432:80"]);
        let (b, c, net) = (t.ctr("b"), t.ctr("c"), t.net("n"));
        t.docker(["run", "--rm", "--name", &b, "-p", "18432:80", IMG, "true"]).exits(125).says("port is already allocated");
        t.docker(["run", "-d", "--rm", "--name", &b, "-p", "18432:80", IMG, "true"]).exits(125).says("port is already allocated");
        t.docker(["network", "create", "--subnet", "10.83.7.0/24", &net]).ok();
        t.sleeper("d", ["--network", &net, "--ip", "10.83.7.7"]);
        t.docker(["run", "--rm", "--name", &c, "--network", &net, "--ip", "10.83.7.7", IMG, "true"]).exits(125).says("Address already in use");
        t.docker(["run", "--rm", "--name", &c, "-p", "192.0.2.77:18433:80", IMG, "true"]).exits(125).says("cannot assign requested address");
        // A program of the host that is no container's; it ends by itself.
        let server = "use Socket; socket(S, PF_INET, SOCK_STREAM, 0); bind(S, pack_sockaddr_in(18434, INADDR_ANY)) or die; listen(S, 9); sleep 20";
        let listening = format!("perl -e '{server}' >/dev/null 2>&1 </dev/null & until echo > /dev/tcp/127.0.0.1/18434; do sleep 0.1; done 2>/dev/null");
        t.host(["timeout", "20", "bash", "-c", &listening]).ok();
        t.docker(["run", "--rm", "--name", &c, "-p", "18434:80", IMG, "true"]).exits(125).says("address already in use");
        for name in [&b, &c] {
            t.until("removed", || t.docker(["ps", "-aq", "--filter", &format!("name={name}")]).text().trim().is_empty());
        }
        t.docker(["create", "--name", &b, "-p", "18432:80", IMG, "true"]).ok();
        t.docker(["start", &b]).exits(1).says("port is already allocated");
        t.docker(["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", &b]).ok().has("created 128").has("port is already allocated");
    }
    fn bad_signal(t) { let c = t.sleeper("a", [""; 0]); t.docker(["kill", "-s", "NOSUCH", &c]).exits(1).says("invalid signal: NOSUCH"); }
    fn bad_restart_policy(t) { t.docker(["create", "--restart", "sometimes", IMG]).exits(1).says("invalid restart policy"); }
    fn sysctl_of_the_host(t) { t.docker(["run", "--rm", "--sysctl", "kernel.panic=1", IMG, "true"]).exits(125); }
    fn empty_command(t) { t.docker(["run", "--rm", "--entrypoint", "", IMG]).exits(125).says("no command specified"); }
    fn swarm_is_not_here(t) { t.docker(["service", "ls"]).exits(1).says("This node is not a swarm manager"); }
    fn nothing_left_of_a_failed_run(t) {
        let name = t.ctr("a");
        t.docker(["run", "--rm", "--name", &name, IMG, "nosuch-program"]).exits(127);
        t.until("removed", || t.docker(["ps", "-aq", "-f", &format!("name={name}")]).ok().text().is_empty());
    }
}
