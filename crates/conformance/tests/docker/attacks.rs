//! The known ways out of a container, tried.
//!
//! Each test plants something (a link, a race, a file) that a hostile image or a hostile container could plant, and then
//! looks at a *victim*: a directory of the host with a secret in it, whose absolute path the attacker knows. Whether the
//! command is refused or stays inside is the daemon's choice; the victim must stay as it was, and its secret unread.

use std::path::{Path, PathBuf};

use crate::dsl::{IMG, Out, T, cases};

/// In the victim's file; in no output, ever.
const SECRET: &str = "host-secret";

/// A directory of the host that no container may reach.
struct Victim(PathBuf);

impl Victim {
    fn new(t: &T) -> Self {
        let dir = t.dir().join("victim");
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        std::fs::write(dir.join("secret"), SECRET).unwrap();
        std::fs::write(dir.join("passwd"), "evil:x:77:77::/:/bin/sh\n").unwrap();
        Self(dir)
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }

    /// The same place by way of the parent directory, from some depth.
    fn climb(&self) -> String {
        format!("../../../../../../../../..{}", self.path())
    }

    /// It is as it was made, and nothing is mounted on it.
    #[track_caller]
    fn unharmed(&self, t: &T) {
        let list = |dir: &Path| {
            let mut names: Vec<String> = std::fs::read_dir(dir)
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(list(&self.0), ["passwd", "secret", "sub"]);
        assert_eq!(list(&self.0.join("sub")), [""; 0]);
        assert_eq!(std::fs::read_to_string(self.0.join("secret")).unwrap(), SECRET);
        t.host(["cat", "/proc/mounts"]).ok().lacks(&self.path());
    }
}

#[track_caller]
fn silent(out: &Out) {
    assert!(!out.both().contains(SECRET), "the host's secret is out: {}", out.both());
}

/// An image of busybox in which some paths are links. Where they lead to is there inside of the image as well, so that what
/// follows them in the image's tree finds a place, and goes on to what follows them on the host.
fn image(t: &T, name: &str, links: &[(&str, &str)]) -> String {
    let image = t.img(name);
    let root = t.dir().join(format!("{name}-root"));
    for dir in ["bin", "tmp"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    let busybox =
        ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists()).unwrap();
    std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
    for applet in
        ["sh", "cat", "ls", "echo", "mkdir", "touch", "true", "sleep", "id", "head", "wc", "readlink", "tty"]
    {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    for (link, target) in links {
        let link = root.join(link.trim_start_matches('/'));
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, link).unwrap();
        if target.contains("/victim") {
            std::fs::create_dir_all(root.join(target.trim_start_matches('/'))).unwrap();
        }
    }
    let archive = t.dir().join(format!("{name}.tar")).display().to_string();
    t.host(["tar", "-C", root.to_str().unwrap(), "-cf", &archive, "."]).ok();
    t.docker(["import", &archive, &image]).ok();
    image
}

/// An image with what a shell script makes of busybox's.
fn committed(t: &T, name: &str, script: &str) -> String {
    let (image, made) = (t.img(name), t.ctr(&format!("made-{name}")));
    t.docker(["run", "--name", &made, IMG, "sh", "-c", script]).ok();
    t.docker(["commit", &made, &image]).ok();
    image
}

/// A container that swaps `path` of the volume at `/v` between a directory and a link, as fast as a shell can.
fn swapper(t: &T, volume: &str, path: &str, target: &str) -> String {
    let name = t.ctr("swapper");
    let script = format!(
        "cd /v; mkdir -p d; while :; do ln -s {target} {path} && rm {path}; mv d {path} && mv {path} d; done 2>/dev/null"
    );
    t.docker(["run", "-d", "--name", &name, "-v", &format!("{volume}:/v"), IMG, "sh", "-c", &script]).ok();
    name
}

/// A tar archive of raw headers: names and links that no honest archiver writes.
fn archive(entries: &[(&str, u8, &str, &str)]) -> String {
    let mut out = String::new();
    for (name, kind, link, text) in entries {
        let mut header = [0u8; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, name.as_bytes());
        put(100, b"0000644\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", text.len()).as_bytes());
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, &[*kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        put(329, b"0000376\0");
        put(337, b"0000000\0");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.push_str(std::str::from_utf8(&header).unwrap());
        out.push_str(text);
        out.push_str(&"\0".repeat(text.len().next_multiple_of(512) - text.len()));
    }
    out.push_str(&"\0".repeat(1024));
    out
}

/// The program that a container could reach through `/proc/PID/exe`.
fn runtime(t: &T) -> PathBuf {
    if t.subject_is_weft() {
        return weft_testkit::daemon::weft_binary().unwrap();
    }
    t.host(["sh", "-c", "command -v runc"]).ok().text().into()
}

fn sum(t: &T, file: &Path) -> String {
    t.host(["sha256sum", file.to_str().unwrap()]).ok().text()
}

/// Descriptors of `ls -l /proc/self/fd`: the standard ones and the one that `ls` reads the directory by.
#[track_caller]
fn only_standard(out: &Out) {
    let links: Vec<&str> = out.stdout.lines().filter(|line| line.contains(" -> ")).collect();
    assert!(links.len() >= 3, "{}", out.stdout);
    for line in links {
        let (number, target) = line.rsplit_once(" -> ").unwrap();
        let number: u32 = number.rsplit(' ').next().unwrap().parse().unwrap();
        let target = target.trim();
        let known = ["pipe:", "socket:", "/dev/null", "/dev/pts/", "/dev/console"];
        let standard = number < 3 && known.iter().any(|k| target.starts_with(k));
        let own = number == 3 && target.starts_with("/proc/") && target.ends_with("/fd");
        assert!(standard || own, "leaked: {line}\nof\n{}", out.stdout);
    }
}

cases! {
    // -- the runtime's own executable (CVE-2019-5736)

    fn runtime_executable_is_not_writable(t) {
        let file = runtime(t);
        let before = sum(t, &file);
        let c = t.ctr("writer");
        let write = "while :; do for e in /proc/[0-9]*/exe; do { echo pwned > $e; } 2>/dev/null && echo WROTE $e; done; done";
        t.docker(["run", "-d", "--name", &c, IMG, "sh", "-c", write]).ok();
        for _ in 0..10 {
            t.docker(["exec", &c, "/proc/self/exe", "--version"]);
            t.docker(["exec", &c, "true"]).ok();
        }
        t.docker(["run", "--rm", "--pid", &format!("container:{c}"), "--entrypoint", "/proc/self/exe", IMG, "--version"]);
        t.docker(["logs", &c]).ok().lacks("WROTE");
        assert_eq!(sum(t, &file), before);
    }
    fn runtime_executable_held_open(t) {
        // The program stays long enough to be opened, as the client of a server that never answers; what was opened for
        // reading is opened anew for writing when the process has ended, which "text file busy" no longer hinders.
        if !t.subject_is_weft() {
            return;
        }
        let file = runtime(t);
        let before = sum(t, &file);
        let c = t.ctr("holder");
        let hold = "nc -l -p 9999 & while ! [ -f /go ]; do sleep 0.1; done; \
            for p in /proc/[0-9]*; do case $(tr '\\0' ' ' < $p/cmdline) in *tcp://127.0.0.1:9999*) t=$p;; esac; done; \
            exec 9< $t/exe || echo NOT OPENED; { echo pwned > $t/exe; } && echo WROTE; kill -9 ${t#/proc/}; sleep 0.5; \
            { echo pwned > /proc/self/fd/9; } && echo WROTE; { echo pwned >> /proc/self/fd/9; } && echo WROTE; \
            mount -o remount,rw /proc/self/fd/9 && echo REMOUNTED; echo DONE; sleep 1000";
        t.docker(["run", "-d", "--name", &c, IMG, "sh", "-c", hold]).ok();
        let client = t.start(["exec", &c, "/proc/self/exe", "--host", "tcp://127.0.0.1:9999", "ps"]);
        t.until("the client runs", || t.docker(["top", &c]).stdout.contains("tcp://127.0.0.1:9999"));
        t.docker(["exec", &c, "touch", "/go"]).ok();
        client.end().fails();
        t.until("the attack ends", || t.docker(["logs", &c]).stdout.contains("DONE"));
        t.docker(["logs", &c]).ok().lacks("WROTE").lacks("NOT OPENED").lacks("REMOUNTED");
        assert_eq!(sum(t, &file), before);
    }

    // -- descriptors and working directories that leaked (CVE-2024-21626)

    fn no_descriptor_leaks_into_run(t) {
        only_standard(&t.docker(["run", "--rm", IMG, "ls", "-l", "/proc/self/fd"]).ok());
        only_standard(&t.docker(["run", "--rm", "--init", IMG, "ls", "-l", "/proc/self/fd"]).ok());
        only_standard(&t.tty(["run", "--rm", "-it", IMG, "ls", "-l", "/proc/self/fd"], "").ok());
    }
    fn no_descriptor_leaks_into_the_first_process(t) {
        let c = t.sleeper("a", [""; 0]);
        let out = t.docker(["exec", &c, "ls", "-l", "/proc/1/fd"]).ok();
        out.lines(4);
    }
    fn no_descriptor_leaks_into_exec(t) {
        let c = t.sleeper("a", [""; 0]);
        only_standard(&t.docker(["exec", &c, "ls", "-l", "/proc/self/fd"]).ok());
        only_standard(&t.docker_in(["exec", "-i", &c, "ls", "-l", "/proc/self/fd"], "x").ok());
        only_standard(&t.tty(["exec", "-it", &c, "ls", "-l", "/proc/self/fd"], "").ok());
        only_standard(&t.docker(["exec", "-u", "postgres", &c, "ls", "-l", "/proc/self/fd"]).ok());
    }
    fn working_directory_through_a_descriptor(t) {
        let victim = Victim::new(t);
        let c = t.sleeper("a", [""; 0]);
        let script = format!("cat {}/secret; ls -a ../../../../..", victim.climb());
        for number in 3..20 {
            let dir = format!("/proc/self/fd/{number}");
            for out in [
                t.docker(["run", "--rm", "-w", &dir, IMG, "sh", "-c", &script]),
                t.docker(["exec", "-w", &dir, &c, "sh", "-c", &script]),
            ] {
                silent(&out);
            }
        }
        victim.unharmed(t);
    }
    fn working_directory_through_a_link_to_a_descriptor(t) {
        let victim = Victim::new(t);
        let i = image(t, "i", &[("/f", "/proc/self/fd"), ("/seven", "/proc/self/fd/7"), ("/cwd", "/proc/self/cwd")]);
        let script = format!("cat {}/secret", victim.climb());
        for dir in ["/f/5", "/f/6", "/f/7", "/f/8", "/f/9", "/seven", "/cwd", "/proc/1/cwd", "/proc/thread-self/fd/6"] {
            silent(&t.docker(["run", "--rm", "-w", dir, &i, "sh", "-c", &script]));
        }
        victim.unharmed(t);
    }

    // -- mount targets that are links

    fn volume_on_a_link(t) {
        let victim = Victim::new(t);
        let (abs, up) = (victim.path(), victim.climb());
        let make = format!("ln -s {abs} /abs; ln -s {up} /up; mkdir -p /deep; ln -s {abs} /deep/link; mkdir -p {abs}/sub");
        let (i, hollow) = (committed(t, "i", &make), image(t, "hollow", &[("/abs", &abs)]));
        let v = t.vol("v");
        let file = t.file("f", "x");
        for target in ["/abs", "/abs/new"] {
            t.docker(["run", "--rm", "-v", &format!("{v}:{target}"), &hollow, "touch", &format!("{target}/mark")]);
            victim.unharmed(t);
        }
        for target in ["/abs", "/up", "/abs/new", "/up/new/er", "/deep/link/sub/x", "/abs/sub"] {
            let script = format!("touch {target}/mark; cat {target}/secret {target}/../secret");
            silent(&t.docker(["run", "--rm", "-v", &format!("{v}:{target}"), &i, "sh", "-c", &script]));
            silent(&t.docker(["run", "--rm", "--tmpfs", target, &i, "sh", "-c", &script]));
            victim.unharmed(t);
        }
        for target in ["/abs/file", "/up/sub/file", "/abs/secret"] {
            silent(&t.docker(["run", "--rm", "-v", &format!("{file}:{target}"), &i, "cat", target]));
            victim.unharmed(t);
        }
    }
    fn volume_takes_no_content_of_the_host(t) {
        let victim = Victim::new(t);
        let (abs, up) = (victim.path(), victim.climb());
        let i = committed(t, "i", &format!("ln -s {abs} /abs; ln -s {up} /up"));
        for target in ["/abs", "/up"] {
            let v = t.vol(&target[1..]);
            t.docker(["run", "--rm", "-v", &format!("{v}:{target}"), &i, "true"]);
            silent(&t.docker(["run", "--rm", "-v", &format!("{v}:/v"), IMG, "sh", "-c", "cat /v/*"]));
        }
        victim.unharmed(t);
    }
    fn mount_target_swapped_for_a_link(t) {
        let victim = Victim::new(t);
        let (v, w) = (t.vol("shared"), t.vol("inner"));
        swapper(t, &v, "t", &victim.path());
        let script = "touch /v/t/nested/mark; cat /v/t/secret /v/t/../secret";
        for round in 0..15 {
            let name = t.ctr(&format!("r{round}"));
            silent(&t.docker(["run", "--name", &name, "-v", &format!("{v}:/v"), "-v", &format!("{w}:/v/t/nested"), IMG, "sh", "-c", script]));
        }
        victim.unharmed(t);
    }
    fn subpath_is_a_link(t) [newer = "subpaths of volumes came with 26.0"] {
        let victim = Victim::new(t);
        let v = t.vol("v");
        let make = format!("ln -s {} /v/abs; ln -s {} /v/up; ln -s {}/secret /v/file", victim.path(), victim.climb(), victim.path());
        t.docker(["run", "--rm", "-v", &format!("{v}:/v"), IMG, "sh", "-c", &make]).ok();
        for sub in ["abs", "up", "file", "abs/sub", "../../../../../../../etc"] {
            let mount = format!("type=volume,src={v},dst=/d,volume-subpath={sub}");
            silent(&t.docker(["run", "--rm", "--mount", &mount, IMG, "sh", "-c", "cat /d /d/secret; touch /d/mark"]));
        }
        victim.unharmed(t);
    }

    // -- docker cp

    fn copies_through_links(t) {
        let victim = Victim::new(t);
        let (abs, up) = (victim.path(), victim.climb());
        let c = t.sleeper("a", [""; 0]);
        let make = format!("cd /tmp; ln -s {abs} abs; ln -s {up} up; ln -s {abs}/secret file; ln -s {abs}/new new; mkdir d; ln -s {abs} d/abs");
        t.docker(["exec", &c, "sh", "-c", &make]).ok();
        let file = t.file("f", "x");
        for stopped in [false, true] {
            if stopped {
                t.docker(["stop", "-t", "0", &c]).ok();
            }
            for path in ["/tmp/abs/f", "/tmp/up/f", "/tmp/abs/", "/tmp/file", "/tmp/new", "/tmp/d/abs/", "/tmp/abs/sub/f"] {
                t.docker(["cp", &file, &format!("{c}:{path}")]);
                t.docker(["cp", "-L", &file, &format!("{c}:{path}")]);
            }
            for path in ["/tmp/file", "/tmp/abs", "/tmp/abs/.", "/tmp/abs/secret", "/tmp/up/secret", "/tmp/d", &format!("/tmp/../../../..{abs}/secret")] {
                silent(&t.docker(["cp", &format!("{c}:{path}"), "-"]));
                silent(&t.docker(["cp", "-L", &format!("{c}:{path}"), "-"]));
            }
            victim.unharmed(t);
        }
    }
    fn archives_that_climb(t) {
        let victim = Victim::new(t);
        let (abs, up) = (victim.path(), victim.climb());
        let c = t.sleeper("a", [""; 0]);
        let (climb, absolute) = (format!("{up}/new"), format!("{abs}/new"));
        let secret = format!("{abs}/secret");
        for entries in [
            vec![(climb.as_str(), b'0', "", "x")],
            vec![(absolute.as_str(), b'0', "", "x")],
            vec![("l", b'2', abs.as_str(), ""), ("l/new", b'0', "", "x")],
            vec![("l", b'2', up.as_str(), ""), ("l/new", b'0', "", "x"), ("l/sub/new", b'5', "", "")],
            vec![("h", b'1', secret.as_str(), ""), ("h", b'0', "", "x")],
            vec![("s", b'2', secret.as_str(), ""), ("s", b'0', "", "x")],
            vec![("s", b'2', secret.as_str(), ""), ("h", b'1', "s", ""), ("h", b'0', "", "x")],
        ] {
            t.docker_in(["cp", "-", &format!("{c}:/tmp")], &archive(&entries));
            victim.unharmed(t);
            silent(&t.docker(["exec", &c, "sh", "-c", "cat /tmp/h /tmp/s"]));
        }
    }
    fn directory_swapped_during_copies(t) {
        let victim = Victim::new(t);
        let v = t.vol("v");
        let c = swapper(t, &v, "t", &victim.path());
        let file = t.file("new", "x");
        for _ in 0..15 {
            t.docker(["cp", &file, &format!("{c}:/v/t/new")]);
            t.docker_in(["cp", "-", &format!("{c}:/v/t")], &archive(&[("new", b'0', "", "x"), ("sub/new", b'0', "", "x")]));
            silent(&t.docker(["cp", &format!("{c}:/v/t/secret"), "-"]));
            silent(&t.docker(["cp", &format!("{c}:/v/t/."), "-"]));
            silent(&t.docker(["cp", "-L", &format!("{c}:/v/t"), "-"]));
        }
        victim.unharmed(t);
    }

    // -- /proc, /sys, /dev and the small files are not where they seem

    fn proc_is_a_link(t) {
        let victim = Victim::new(t);
        let i = image(t, "i", &[("/proc", &victim.path())]);
        let out = t.docker(["run", "--rm", &i, "cat", "/proc/secret"]).fails();
        silent(&out);
        if t.subject_is_weft() {
            // runc says so too, since 1.1.
            out.says("must be mounted on ordinary directory");
        }
        let inside = image(t, "inside", &[("/proc", "/tmp")]);
        t.docker(["run", "--rm", &inside, "cat", "/tmp/self/attr/current"]).fails();
        victim.unharmed(t);
    }
    fn proc_is_a_file(t) {
        let i = t.img("i");
        let file = t.dir().join("file.tar").display().to_string();
        std::fs::write(&file, archive(&[("proc", b'0', "", "x")])).unwrap();
        t.docker(["import", &file, &i]).ok();
        t.docker(["run", "--rm", &i, "true"]).fails();
    }
    fn nothing_is_mounted_on_proc(t) {
        let v = t.vol("v");
        t.docker(["run", "--rm", "-v", &format!("{v}:/proc"), IMG, "true"]).fails().says("proc");
        for target in ["/proc/self", "/proc/sys/kernel", "/proc/1/attr", "/tmp/../proc/irq"] {
            t.docker(["run", "--rm", "-v", &format!("{v}:{target}"), IMG, "true"]).fails().says("proc");
        }
        let i = image(t, "i", &[("/way", "/proc/self")]);
        t.docker(["run", "--rm", "-v", &format!("{v}:/way/attr"), &i, "true"]).fails();
    }
    fn dev_is_a_link(t) {
        let victim = Victim::new(t);
        let climbing = committed(t, "up", &format!("mkdir -p {}; cd /; mv dev old; ln -s {} dev", victim.path(), victim.climb()));
        for i in [image(t, "abs", &[("/dev", &victim.path())]), climbing] {
            silent(&t.docker(["run", "--rm", &i, "sh", "-c", "cat /dev/secret"]));
            silent(&t.docker(["run", "--rm", "-t", &i, "sh", "-c", "cat /dev/secret"]));
            silent(&t.docker(["run", "--rm", "--device", "/dev/full:/dev/sub/full", &i, "true"]));
            victim.unharmed(t);
        }
    }
    fn sys_and_etc_are_links(t) {
        let victim = Victim::new(t);
        for name in ["sys", "etc"] {
            let i = image(t, name, &[(name, &victim.path())]);
            silent(&t.docker(["run", "--rm", &i, "sh", "-c", &format!("cat /{name}/secret")]));
            victim.unharmed(t);
        }
        let hosts = format!("{}/hosts", victim.path());
        let i = image(t, "files", &[("/etc/hosts", &hosts), ("/etc/resolv.conf", &hosts), ("/etc/hostname", &hosts)]);
        silent(&t.docker(["run", "--rm", &i, "cat", "/etc/hosts"]));
        victim.unharmed(t);
    }
    fn users_are_the_images_own(t) {
        let victim = Victim::new(t);
        let passwd = format!("{}/passwd", victim.path());
        let i = image(t, "i", &[("/etc/passwd", &passwd), ("/etc/group", &passwd)]);
        t.docker(["run", "--rm", "-u", "evil", &i, "id"]).fails().says("unable to find user evil");
        let whole = image(t, "whole", &[("/etc", &victim.path())]);
        t.docker(["run", "--rm", "-u", "evil", &whole, "id"]).fails().says("unable to find user evil");
    }
    fn null_device_is_a_link(t) [newer = "runc before 1.2.8 falls for it"] {
        // Masked paths are hidden under /dev/null: where that leads elsewhere, they must not show it (CVE-2025-31133).
        let v = t.vol("dev");
        t.docker(["run", "--rm", "-v", &format!("{v}:/v"), IMG, "ln", "-s", "/proc/version", "/v/null"]).ok();
        let out = t.docker(["run", "--rm", "-v", &format!("{v}:/dev"), IMG, "cat", "/proc/keys", "/proc/timer_list"]);
        assert!(!out.both().contains("Linux version"), "{}", out.both());
    }
    fn null_device_swapped_for_a_link(t) {
        let v = t.vol("v");
        swapper(t, &v, "null", "/proc/version");
        for _ in 0..10 {
            let out = t.docker(["run", "--rm", "-v", &format!("{v}:/dev"), IMG, "cat", "/proc/keys", "/proc/timer_list"]);
            assert!(!out.both().contains("Linux version"), "{}", out.both());
        }
    }
    fn console_is_a_link(t) {
        // The terminal is mounted on /dev/console: where that leads elsewhere, it must not land there (CVE-2025-52565).
        let victim = Victim::new(t);
        let v = t.vol("dev");
        let make = format!("cd /v; ln -s /proc/version console; ln -s {} ptmx; mkdir pts; ln -s {} shm", victim.path(), victim.path());
        t.docker(["run", "--rm", "-v", &format!("{v}:/v"), IMG, "sh", "-c", &make]).ok();
        let out = t.tty(["run", "--rm", "-t", "-v", &format!("{v}:/dev"), IMG, "sh", "-c", "grep ' /proc/version ' /proc/mounts && echo REACHED"], "");
        assert!(!out.both().contains("REACHED"), "{}", out.both());
        victim.unharmed(t);
    }

    fn own_dev_is_left_as_it_is(t) {
        // The runtime makes nodes and links in its own /dev, and must make and remove none in what people mount there.
        let dir = t.dir().join("dev");
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        for name in ["ptmx", "fd", "null"] {
            std::fs::write(dir.join(name), name).unwrap();
        }
        let bind = format!("{}:/dev", dir.display());
        for _ in 0..2 {
            t.docker(["run", "--rm", "-v", &bind, IMG, "sh", "-c", "cat /dev/ptmx /dev/fd; echo made > /dev/sub/made"]).ok().is("ptmxfd");
            t.docker(["run", "--rm", "-v", &format!("{bind}:ro"), IMG, "touch", "/dev/new"]).fails();
        }
        let mut names: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["fd", "null", "ptmx", "sub"]);
        assert_eq!(std::fs::read_to_string(dir.join("sub/made")).unwrap(), "made\n");
    }
    fn hosts_dev(t) {
        let before = t.host(["ls", "/dev"]).ok().text();
        t.docker(["run", "--rm", "-v", "/dev:/dev", IMG, "ls", "/dev"]).ok().is(&before);
        t.docker(["run", "--rm", "-v", "/dev:/dev", IMG, "head", "-c", "1", "/dev/zero"]).ok();
        t.tty(["run", "--rm", "-it", "-v", "/dev:/dev", IMG, "echo", "seen"], "").ok().has("seen");
        t.host(["ls", "/dev"]).ok().is(&before);
    }

    // -- devices

    fn devices_and_directories_through_links(t) {
        let victim = Victim::new(t);
        let (abs, up) = (victim.path(), victim.climb());
        let make = format!("ln -s {abs} /abs; ln -s {up} /up; ln -s {abs}/new /new");
        let i = committed(t, "i", &make);
        for target in ["/abs/null", "/up/sub/null", "/new", "/new/null", "/abs/secret"] {
            let device = format!("/dev/null:{target}");
            t.docker(["run", "--rm", "--device", &device, &i, "true"]);
            silent(&t.docker(["run", "--rm", "-w", target, &i, "sh", "-c", "cat secret ../secret"]));
            victim.unharmed(t);
        }
        // Links in a volume, which another container swaps meanwhile.
        let v = t.vol("v");
        swapper(t, &v, "t", &abs);
        for _ in 0..15 {
            t.docker(["run", "--rm", "-v", &format!("{v}:/v"), "--device", "/dev/null:/v/t/null", "--device", "/dev/null:/v/t/new/null", IMG, "true"]);
            victim.unharmed(t);
        }
    }
    fn device_nodes_are_dead(t) {
        let (major, minor) = (254, 0);
        let c = t.sleeper("a", [""; 0]);
        let read = format!("rm -f /tmp/d; mknod /tmp/d b {major} {minor} && head -c 1 /tmp/d && echo READ");
        t.docker(["exec", &c, "sh", "-c", &read]).fails().says("not permitted").lacks("READ");
        t.docker(["exec", "--privileged", &c, "sh", "-c", &read]).fails().lacks("READ");
        let write = "rm -f /tmp/k; mknod /tmp/k c 1 11 && echo x > /tmp/k".to_owned();
        t.docker(["exec", &c, "sh", "-c", &write]).fails().says("not permitted");
        // One that comes with the image, or is copied in, is as dead.
        t.docker_in(["cp", "-", &format!("{c}:/tmp")], &archive(&[("node", b'4', "", "")]));
        t.docker(["exec", &c, "sh", "-c", "[ -b /tmp/node ] && head -c 1 /tmp/node && echo READ"]).fails().lacks("READ");
    }
    fn allowed_device_is_no_door_to_others(t) {
        let script = "mknod /tmp/d b 254 0 && head -c 1 /tmp/d && echo READ";
        t.docker(["run", "--rm", "--device", "/dev/full", IMG, "sh", "-c", script]).fails().lacks("READ");
        t.docker(["run", "--rm", "--cap-add", "SYS_ADMIN", "--cap-add", "MKNOD", "--security-opt", "seccomp=unconfined", IMG, "sh", "-c", script]).fails().lacks("READ");
    }
}
