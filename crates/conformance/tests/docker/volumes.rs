//! Volumes, binds, tmpfs, `--volumes-from`.

use crate::dsl::{IMG, cases};

cases! {
    fn named_keeps_data(t) {
        let v = t.vol("v");
        let mount = format!("{v}:/data");
        t.docker(["run", "--rm", "-v", &mount, IMG, "sh", "-c", "echo kept > /data/f"]).ok();
        t.docker(["run", "--rm", "-v", &mount, IMG, "cat", "/data/f"]).ok().is("kept");
        t.docker(["volume", "ls", "-q"]).ok().has(&v);
    }
    fn create_inspect_remove(t) {
        let v = t.vol("v");
        t.docker(["volume", "create", "--label", "a=b", &v]).ok().is(&v);
        t.docker(["volume", "inspect", "-f", "{{.Driver}} {{.Labels.a}} {{.Scope}}", &v]).ok().is("local b local");
        t.docker(["volume", "ls", "-q", "-f", "label=a=b"]).ok().has(&v);
        t.docker(["volume", "rm", &v]).ok().is(&v);
        t.docker(["volume", "inspect", &v]).exits(1);
    }
    fn refused_options(t) {
        let v = t.vol("v");
        t.docker(["volume", "create", "-o", "foo=1", &v]).exits(1).says(&format!("create {v}: invalid option: \"foo\""));
        t.docker(["volume", "create", "-o", "type=tmpfs", &v]).exits(1).says(&format!("create {v}: missing required option: \"device\""));
        t.docker(["volume", "inspect", &v]).exits(1);
    }
    fn a_device_that_is_not_there(t) {
        let v = t.vol("v");
        t.docker(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/nonexistent/x", &v]).ok();
        t.docker(["run", "--name", &t.ctr("a"), "-v", &format!("{v}:/d:nocopy"), IMG, "true"]).exits(127)
            .says("error while mounting volume '").says("failed to mount local volume: mount /nonexistent/x:")
            .says("no such file or directory");
    }
    fn create_twice(t) {
        let v = t.vol("v");
        t.docker(["volume", "create", &v]).ok();
        t.docker(["volume", "create", &v]).ok().is(&v);
    }
    fn in_use(t) {
        let v = t.vol("v");
        t.sleeper("a", ["-v", &format!("{v}:/d")]);
        t.docker(["volume", "rm", &v]).exits(1).says("volume is in use");
    }
    fn copy_up(t) {
        let v = t.vol("v");
        t.docker(["run", "--rm", "-v", &format!("{v}:/etc"), IMG, "ls", "/etc"]).ok().has("weft-image");
        let w = t.vol("w");
        t.docker(["run", "--rm", "-v", &format!("{w}:/etc:nocopy"), IMG, "ls", "/etc"]).ok().lacks("weft-image");
    }
    fn bind(t) {
        let dir = t.dir().display().to_string();
        t.file("in", "from outside");
        t.docker(["run", "--rm", "-v", &format!("{dir}:/d"), IMG, "sh", "-c", "cat /d/in; echo out > /d/out"]).ok().is("from outside");
        assert_eq!(std::fs::read_to_string(t.dir().join("out")).unwrap(), "out\n");
    }
    fn bind_read_only(t) {
        let dir = t.dir().display().to_string();
        t.docker(["run", "--rm", "-v", &format!("{dir}:/d:ro"), IMG, "touch", "/d/x"]).exits(1).says("read-only");
    }
    fn bind_of_a_file(t) {
        let file = t.file("one", "single");
        t.docker(["run", "--rm", "-v", &format!("{file}:/etc/one"), IMG, "cat", "/etc/one"]).ok().is("single");
    }
    fn bind_makes_its_source(t) {
        let path = t.dir().join("made/deep").display().to_string();
        t.docker(["run", "--rm", "-v", &format!("{path}:/d"), IMG, "true"]).ok();
        assert!(t.exists(&path));
    }
    fn mount_bind(t) {
        let dir = t.dir().display().to_string();
        t.file("f", "x");
        t.docker(["run", "--rm", "--mount", &format!("type=bind,src={dir},dst=/d,readonly"), IMG, "cat", "/d/f"]).ok().is("x");
    }
    fn mount_volume(t) {
        let v = t.vol("v");
        t.docker(["run", "--rm", "--mount", &format!("type=volume,src={v},dst=/d"), IMG, "touch", "/d/f"]).ok();
        t.docker(["run", "--rm", "--mount", &format!("type=volume,src={v},dst=/d,readonly"), IMG, "ls", "/d"]).ok().is("f");
    }
    fn mount_tmpfs(t) {
        t.docker(["run", "--rm", "--mount", "type=tmpfs,dst=/d,tmpfs-size=1m,tmpfs-mode=1770", IMG, "sh", "-c", "df -k /d | tail -1; stat -c %a /d"])
            .ok().has("1024").has("1770");
    }
    fn tmpfs_flag(t) { t.docker(["run", "--rm", "--tmpfs", "/d:size=64k", IMG, "grep", " /d ", "/proc/mounts"]).ok().has("tmpfs").has("size=64k"); }
    fn volumes_from(t) {
        let v = t.vol("v");
        let c = t.sleeper("a", ["-v", &format!("{v}:/d")]);
        t.docker(["exec", &c, "touch", "/d/f"]).ok();
        t.docker(["run", "--rm", "--volumes-from", &c, IMG, "ls", "/d"]).ok().is("f");
        t.docker(["run", "--rm", "--volumes-from", &format!("{c}:ro"), IMG, "touch", "/d/g"]).exits(1).says("read-only");
    }
    fn anonymous_goes_with_rm_v(t) {
        let c = t.ctr("a");
        t.docker(["create", "--name", &c, "-v", "/d", IMG]).ok();
        let v = t.inspect(&c, "{{(index .Mounts 0).Name}}");
        t.docker(["volume", "inspect", &v]).ok();
        t.docker(["rm", "-v", &c]).ok();
        t.docker(["volume", "inspect", &v]).exits(1);
    }
    fn mounts_in_inspect(t) {
        let v = t.vol("v");
        let c = t.sleeper("a", ["-v", &format!("{v}:/d:ro")]);
        assert_eq!(t.inspect(&c, "{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}}{{end}}"), format!("volume {v} /d false"));
    }
    fn driver_options(t) {
        let v = t.vol("v");
        t.docker(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=2m", &v]).ok();
        t.docker(["run", "--rm", "-v", &format!("{v}:/d"), IMG, "grep", " /d ", "/proc/mounts"]).ok().has("size=2048k");
    }
    fn unknown_driver(t) { t.docker(["volume", "create", "-d", "nosuch"]).exits(1).says("nosuch"); }
    fn a_name_too_long_is_refused_and_nothing_stays(t) {
        let name = "v".repeat(300);
        t.docker(["volume", "create", &name]).fails().says("too long");
        t.docker(["volume", "ls", "-q"]).lacks(&name);
    }
    fn invalid_name(t) { t.docker(["volume", "create", "a/b"]).exits(1).says("includes invalid characters"); }
    fn prune(t) [alone = "removes unused volumes"] {
        let (gone, kept) = (t.vol("gone"), t.vol("kept"));
        t.docker(["volume", "create", &gone]).ok();
        t.sleeper("a", ["-v", &format!("{kept}:/d")]);
        t.docker(["volume", "prune", "-f"]).ok();
        t.docker(["volume", "inspect", &kept]).ok();
    }
    fn subpath(t) [newer = "API 1.45"] {
        let v = t.vol("v");
        t.docker(["run", "--rm", "-v", &format!("{v}:/d"), IMG, "sh", "-c", "mkdir /d/s; echo x > /d/s/f"]).ok();
        t.docker(["run", "--rm", "--mount", &format!("type=volume,src={v},dst=/m,volume-subpath=s"), IMG, "cat", "/m/f"]).ok().is("x");
    }
}
