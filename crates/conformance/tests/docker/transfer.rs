//! `docker cp` both ways, and `docker diff`.

use crate::dsl::{IMG, cases};

cases! {
    fn copying_in_what_is_no_archive(t) {
        let c = t.sleeper("a", [""; 0]);
        let out = t.docker_in(["cp", "-", &format!("{c}:/tmp")], "x\n").fails();
        assert!(out.stderr.contains("Error processing tar file(exit status 1): "), "{}", out.stderr);
        assert!(!out.stderr.contains("layer"), "{}", out.stderr);
    }
    fn file_in_and_out(t) {
        let c = t.sleeper("a", [""; 0]);
        let file = t.file("in", "payload");
        t.docker(["cp", &file, &format!("{c}:/tmp/got")]).ok();
        t.docker(["exec", &c, "cat", "/tmp/got"]).ok().is("payload");
        let out = t.dir().join("out").display().to_string();
        t.docker(["cp", &format!("{c}:/tmp/got"), &out]).ok();
        assert_eq!(std::fs::read_to_string(out).unwrap(), "payload");
    }
    fn beside_read_only_mounts(t) {
        let (dir, v) = (t.dir().display().to_string(), t.vol("v"));
        let file = t.file("in", "payload");
        let c = t.sleeper("a", ["-v", &format!("{dir}:/ro:ro"), "-v", &format!("{v}:/vol:ro")]);
        t.docker(["cp", &file, &format!("{c}:/tmp/got")]).ok();
        t.docker(["cp", &format!("{c}:/tmp/got"), "-"]).ok().has("payload");
        t.docker(["cp", &format!("{c}:/ro/in"), "-"]).ok().has("payload");
        t.docker(["cp", &file, &format!("{c}:/ro/new")]).exits(1).says("read-only");
    }
    fn name_files(t) {
        let c = t.sleeper("a", ["--hostname", "known"]);
        t.docker(["cp", &format!("{c}:/etc/hosts"), "-"]).ok().has("known");
        t.docker(["cp", &format!("{c}:/etc/hostname"), "-"]).ok().has("known");
        let file = t.file("hosts", "of ours");
        t.docker(["cp", &file, &format!("{c}:/etc/hosts")]).exits(1).says("busy");
        t.docker(["exec", &c, "cat", "/etc/hosts"]).ok().has("known");
    }
    fn directory(t) {
        let c = t.ctr("a");
        t.docker(["create", "--name", &c, IMG, "find", "/tmp/tree", "-type", "f"]).ok();
        let tree = t.dir().join("tree");
        std::fs::create_dir_all(tree.join("deep")).unwrap();
        std::fs::write(tree.join("deep/leaf"), "x").unwrap();
        t.docker(["cp", tree.to_str().unwrap(), &format!("{c}:/tmp")]).ok();
        t.docker(["start", "-a", &c]).ok().is("/tmp/tree/deep/leaf");
    }
    fn to_standard_output(t) {
        let c = t.ctr("a");
        t.docker(["create", "--name", &c, IMG]).ok();
        t.docker(["cp", &format!("{c}:/etc/passwd"), "-"]).ok().has("passwd").has("postgres");
    }
    fn from_a_stopped_container(t) {
        let c = t.ctr("a");
        t.docker(["run", "--name", &c, IMG, "sh", "-c", "echo late > /late"]).ok();
        let out = t.dir().join("late").display().to_string();
        t.docker(["cp", &format!("{c}:/late"), &out]).ok();
        assert_eq!(std::fs::read_to_string(out).unwrap(), "late\n");
    }
    fn into_a_volume(t) {
        let v = t.vol("v");
        let c = t.sleeper("a", ["-v", &format!("{v}:/d")]);
        let file = t.file("f", "in volume");
        t.docker(["cp", &file, &format!("{c}:/d/f")]).ok();
        t.docker(["run", "--rm", "-v", &format!("{v}:/d"), IMG, "cat", "/d/f"]).ok().is("in volume");
    }
    fn source_missing(t) {
        let c = t.ctr("a");
        t.docker(["create", "--name", &c, IMG]).ok();
        t.docker(["cp", &format!("{c}:/nosuch"), "/tmp/never"]).exits(1).says("Could not find the file /nosuch in container");
    }
    fn symlink_does_not_escape(t) {
        let c = t.sleeper("a", [""; 0]);
        t.docker(["exec", &c, "ln", "-s", "/etc", "/tmp/link"]).ok();
        let file = t.file("f", "inside");
        t.docker(["cp", &file, &format!("{c}:/tmp/link/weft-escaped")]).ok();
        assert!(!t.exists("/etc/weft-escaped"));
        t.docker(["exec", &c, "cat", "/etc/weft-escaped"]).ok().is("inside");
    }
    fn diff(t) {
        let c = t.ctr("a");
        t.docker(["run", "--name", &c, IMG, "sh", "-c", "touch /new; echo x >> /etc/group; rm /etc/passwd"]).ok();
        t.docker(["diff", &c]).ok().has("A /new").has("C /etc/group").has("D /etc/passwd");
    }
    fn diff_of_nothing(t) {
        let c = t.ctr("a");
        t.docker(["run", "--name", &c, IMG, "true"]).ok();
        t.docker(["diff", &c]).ok().is("");
    }
    fn owner_is_kept_with_a(t) {
        let c = t.sleeper("a", [""; 0]);
        let file = t.file("f", "x");
        std::os::unix::fs::chown(&file, Some(70), Some(70)).unwrap();
        t.docker(["cp", "-a", &file, &format!("{c}:/tmp/f")]).ok();
        t.docker(["exec", &c, "stat", "-c", "%u:%g", "/tmp/f"]).ok().is("70:70");
    }
}
