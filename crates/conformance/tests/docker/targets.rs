//! Where mounts, working directories and devices go when the way there leads through links of the image, some of them to
//! what is not there yet; and what is said where a file and a directory meet.

use crate::dsl::{IMG, T, cases};

/// An image with links that lead to nothing, one of them upwards.
fn linked(t: &T) -> String {
    let (image, made) = (t.img("linked"), t.ctr("made"));
    let links = "rm -rf /var/run /run; mkdir -p /var; ln -s /srv/data /data; ln -s ../run /var/run; \
        ln -s ../../../../../tmp/far/x /climb; ln -s /data/deeper /chain; ln -s /round /round";
    t.docker(["run", "--name", &made, IMG, "sh", "-c", links]).ok();
    t.docker(["commit", &made, &image]).ok();
    image
}

const HINT: &str = "Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and \
    is the expected type";

cases! {
    fn binds_through_dangling_links(t) {
        let i = linked(t);
        let (dir, file) = (t.dir().display().to_string(), t.file("f", "seen"));
        for (target, real) in [("/data", "/srv/data"), ("/climb", "/tmp/far/x"), ("/chain/more", "/srv/data/deeper/more")] {
            t.docker(["run", "--rm", "-v", &format!("{dir}:{target}"), &i, "cat", &format!("{real}/f")]).ok().is("seen");
        }
        t.docker(["run", "--rm", "-v", &format!("{file}:/var/run/docker.sock"), &i, "cat", "/run/docker.sock"]).ok().is("seen");
        t.docker(["run", "--rm", "-v", &format!("{file}:/data"), &i, "cat", "/srv/data"]).ok().is("seen");
        t.docker(["run", "--rm", "-v", &format!("{dir}:/round/x"), &i, "true"]).fails().says("symbolic links");
    }
    fn volumes_and_tmpfs_through_dangling_links(t) {
        let i = linked(t);
        let v = t.vol("v");
        t.docker(["run", "--rm", "-v", &format!("{v}:/data"), &i, "sh", "-c", "echo kept > /srv/data/f"]).ok();
        t.docker(["run", "--rm", "-v", &format!("{v}:/climb"), &i, "cat", "/tmp/far/x/f"]).ok().is("kept");
        t.docker(["run", "--rm", "--tmpfs", "/var/run", &i, "grep", "-c", " /run tmpfs", "/proc/mounts"]).ok().is("1");
        // One mount in another, both by way of links.
        let file = t.file("f", "inner");
        t.docker(["run", "--rm", "--tmpfs", "/var/run", "-v", &format!("{file}:/var/run/sub/f"), &i, "cat", "/run/sub/f"]).ok().is("inner");
    }
    fn working_directories_through_dangling_links(t) {
        let i = linked(t);
        for (dir, real) in [("/data/x", "/srv/data/x"), ("/climb", "/tmp/far/x"), ("/chain/../y", "/y"), ("/var/run/a/b", "/run/a/b")] {
            t.docker(["run", "--rm", "-w", dir, &i, "pwd"]).ok().is(real);
        }
        t.docker(["run", "--rm", "-w", "/etc/passwd", &i, "true"]).fails().says("Cannot mkdir: /etc/passwd is not a directory");
        t.docker(["run", "--rm", "-w", "/etc/passwd/x", &i, "true"]).fails().says("not a directory");
    }
    fn a_file_on_a_directory_and_the_reverse(t) {
        let (dir, file) = (t.dir().display().to_string(), t.file("f", "x"));
        t.docker(["run", "--rm", "-v", &format!("{file}:/etc"), IMG, "true"]).exits(125)
            .says(&format!("error mounting \"{file}\" to rootfs at \"/etc\"")).says("not a directory").says(HINT);
        t.docker(["run", "--rm", "-v", &format!("{dir}:/etc/passwd"), IMG, "true"]).exits(125)
            .says(&format!("error mounting \"{dir}\" to rootfs at \"/etc/passwd\"")).says(HINT);
        t.docker(["run", "--rm", "--tmpfs", "/etc/passwd", IMG, "true"]).exits(125).says("error mounting \"tmpfs\" to rootfs at \"/etc/passwd\"").says(HINT);
        let v = t.vol("v");
        t.docker(["run", "--rm", "-v", &format!("{v}:/etc/passwd/x"), IMG, "true"]).exits(125).says("/etc/passwd").says("not a directory");
        // The container says so afterwards too, and can be removed.
        let c = t.ctr("a");
        t.docker(["run", "--name", &c, "-v", &format!("{file}:/etc"), IMG, "true"]).fails();
        assert_eq!(t.inspect(&c, "{{.State.Status}} {{.State.ExitCode}}"), "created 127");
        t.docker(["rm", &c]).ok();
    }
    fn what_the_kernel_refuses_is_told(t) {
        let dir = t.dir().display().to_string();
        t.docker(["run", "--rm", "-v", &format!("{dir}:/sys/nosuch"), IMG, "true"]).exits(125).says("read-only file system").says("nosuch");
    }
    fn options_that_the_kernel_does_not_take(t) {
        t.docker(["run", "--rm", "--tmpfs", "/x:size=zz", IMG, "true"]).exits(125)
            .says("error mounting \"tmpfs\" to rootfs at \"/x\"").says("size=zz").says("invalid argument");
        t.docker(["run", "--rm", "--tmpfs", "/x:size=64k,mode=700,uid=7", IMG, "stat", "-c", "%a %u", "/x"]).ok().is("700 7");
    }
    fn devices_outside_of_dev(t) {
        let i = linked(t);
        let node = |flags: &[&str], target: &str| {
            let device = format!("/dev/null:{target}");
            let mut args = vec!["run", "--rm", "--device", &device];
            args.extend(flags);
            args.extend([&i, "sh", "-c", "stat -c '%F %t:%T' $0; echo x > $0", target]);
            t.docker(args).ok().is("character special file 1:3");
        };
        node(&[], "/etc/zz");
        node(&[], "/new/dir/null");
        node(&[], "/data/null");
        node(&["--read-only"], "/etc/zz");
        let v = t.vol("v");
        node(&["-v", &format!("{v}:/v")], "/v/null");
        t.docker(["run", "--rm", "-v", &format!("{v}:/v"), IMG, "test", "-c", "/v/null"]).ok();
        node(&["--tmpfs", "/m:dev"], "/m/sub/null");
    }
    fn what_is_there_stays_where_a_device_was_to_go(t) {
        t.docker(["run", "--rm", "--device", "/dev/null:/etc/passwd", IMG, "grep", "-c", "^root:", "/etc/passwd"]).ok().is("1");
        t.docker(["run", "--rm", "--device", "/dev/null:/dev/shm", IMG, "test", "-d", "/dev/shm"]).ok();
        let c = t.ctr("a");
        t.docker(["create", "--name", &c, "--device", "/dev/null:/etc/zz", IMG, "test", "-c", "/etc/zz"]).ok();
        for _ in 0..2 {
            t.docker(["start", "-a", &c]).ok();
        }
    }
    fn small_texts_and_modes(t) {
        t.docker(["run", "--rm", "--group-add", "nope", IMG, "true"]).fails().says("Unable to find group nope");
        t.docker(["run", "--rm", IMG, "stat", "-c", "%a", "/.dockerenv"]).ok().is("755");
    }
}
