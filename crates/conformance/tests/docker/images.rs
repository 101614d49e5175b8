//! Images: list, tag, remove, inspect, history, save, load, import, commit.

use crate::dsl::{IMG, T, cases};
use weft_testkit::{ImageSpec, busybox_archive};

/// Loads an image of its own for the test; returns its name.
pub fn own(t: &T, name: &str) -> String {
    let image = t.img(name);
    let file = t.dir().join(format!("{name}.tar"));
    busybox_archive(&ImageSpec::tagged(&format!("{image}:latest")), &file).unwrap();
    t.docker(["load", "-q", "-i", file.to_str().unwrap()]).ok().is(&format!("Loaded image: {image}:latest"));
    image
}

cases! {
    fn listed(t) {
        let image = own(t, "a");
        t.docker(["images", "--format", "{{.Repository}}:{{.Tag}}", &image]).ok().is(&format!("{image}:latest"));
        t.docker(["images", "-q", "--no-trunc", &image]).ok().has("sha256:");
        t.docker(["images"]).ok().has("REPOSITORY").has(&image);
    }
    fn filters(t) {
        let image = own(t, "a");
        t.docker(["images", "-f", &format!("reference={image}"), "-q"]).ok().lines(1);
        t.docker(["images", "-f", "label=nosuch-label", "-q"]).ok().is("");
        let other = own(t, "b");
        let (stem, _) = image.split_at(image.len() - 1);
        for (class, expected) in [("[ab]", 2), ("[^a]", 1), ("[b-z]", 1), ("[c-z]", 0), ("\\b", 1), ("?", 2)] {
            t.docker(["images", "--format", "{{.Repository}}", &format!("{stem}{class}")]).ok().lines(expected);
        }
        t.docker(["images", &format!("{other}[")]).fails().says("syntax error in pattern");
    }
    fn tag_and_untag(t) {
        let (image, other) = (own(t, "a"), t.img("b"));
        t.docker(["tag", &image, &format!("{other}:v1")]).ok();
        assert_eq!(t.inspect(&format!("{other}:v1"), "{{.Id}}"), t.inspect(&image, "{{.Id}}"));
        t.docker(["rmi", &format!("{other}:v1")]).ok().is(&format!("Untagged: {other}:v1"));
        t.docker(["image", "inspect", &image]).ok();
    }
    fn rmi_deletes(t) {
        let image = own(t, "a");
        t.docker(["rmi", &image]).ok().has(&format!("Untagged: {image}:latest")).has("Deleted: sha256:");
        t.docker(["image", "inspect", &image]).exits(1);
    }
    fn rmi_by_id_with_two_names(t) {
        let (image, other) = (own(t, "a"), t.img("b"));
        t.docker(["tag", &image, &other]).ok();
        let id = t.inspect(&image, "{{.Id}}");
        t.docker(["rmi", &id]).exits(1).says("image is referenced in multiple repositories");
        t.docker(["rmi", "-f", &id]).ok();
    }
    fn inspect(t) {
        assert_eq!(t.inspect(IMG, "{{.Os}} {{.Config.Cmd}} {{.RootFS.Type}} {{len .RootFS.Layers}}"), "linux [sh] layers 1");
    }
    fn history(t) { t.docker(["history", "--format", "{{.CreatedBy}}", IMG]).ok().has("weft-testkit"); }
    fn save_and_load(t) {
        let image = own(t, "a");
        let id = t.inspect(&image, "{{.Id}}");
        let file = t.dir().join("saved.tar").display().to_string();
        t.docker(["save", "-o", &file, &image]).ok();
        t.docker(["rmi", &image]).ok();
        t.docker(["load", "-i", &file]).ok().has(&format!("Loaded image: {image}:latest"));
        assert_eq!(t.inspect(&image, "{{.Id}}"), id);
        t.docker(["run", "--rm", &image, "echo", "again"]).ok().is("again");
    }
    fn save_many(t) {
        let (a, b) = (own(t, "a"), own(t, "b"));
        let file = t.dir().join("two.tar").display().to_string();
        t.docker(["save", "-o", &file, &a, &b]).ok();
        t.docker(["rmi", &a, &b]).ok();
        t.docker(["load", "-i", &file]).ok().has(&a).has(&b);
    }
    fn load_rubbish(t) {
        let file = t.file("rubbish.tar", "this is no archive");
        t.docker(["load", "-i", &file]).exits(1);
    }
    fn commit(t) {
        let (c, image) = (t.ctr("a"), t.img("b"));
        t.docker(["run", "--name", &c, IMG, "sh", "-c", "echo kept > /kept"]).ok();
        t.docker(["commit", "-m", "why", "-a", "me", "-c", "ENV A=committed", "-c", "CMD [\"cat\",\"/kept\"]", &c, &image]).ok().has("sha256:");
        t.docker(["run", "--rm", &image]).ok().is("kept");
        t.docker(["run", "--rm", &image, "sh", "-c", "echo $A"]).ok().is("committed");
        assert_eq!(t.inspect(&image, "{{.Comment}} {{.Author}} {{len .RootFS.Layers}}"), "why me 2");
    }
    fn commit_keeps_deletions(t) {
        let (c, image) = (t.ctr("a"), t.img("b"));
        t.docker(["run", "--name", &c, IMG, "rm", "/etc/weft-image"]).ok();
        t.docker(["commit", &c, &image]).ok();
        t.docker(["run", "--rm", &image, "ls", "/etc"]).ok().has("passwd").lacks("weft-image");
    }
    fn export_and_import(t) {
        let (c, image) = (t.ctr("a"), t.img("b"));
        t.docker(["run", "--name", &c, IMG, "sh", "-c", "echo x > /mine"]).ok();
        let file = t.dir().join("fs.tar").display().to_string();
        t.docker(["export", "-o", &file, &c]).ok();
        t.docker(["import", "-c", "CMD [\"cat\",\"/mine\"]", "-m", "note", &file, &image]).ok().has("sha256:");
        t.docker(["run", "--rm", &image]).ok().is("x");
    }
    fn run_by_id(t) {
        let image = own(t, "a");
        let id = t.inspect(&image, "{{.Id}}");
        t.docker(["run", "--rm", &id, "echo", "a"]).ok().is("a");
        t.docker(["run", "--rm", &id[7..19], "echo", "b"]).ok().is("b");
    }
    fn image_config_is_used(t) {
        let image = t.img("a");
        let file = t.dir().join("conf.tar");
        let mut spec = ImageSpec::tagged(&format!("{image}:latest"));
        let config = serde_json::json!({
            "Entrypoint": ["echo", "entry"], "Cmd": ["default"], "User": "postgres", "WorkingDir": "/var/opt",
            "Env": ["PATH=/bin", "FROM_IMAGE=1"], "Labels": {"l": "v"}, "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/vol": {}},
        });
        spec.config = config.as_object().cloned().unwrap();
        busybox_archive(&spec, &file).unwrap();
        t.docker(["load", "-q", "-i", file.to_str().unwrap()]).ok();
        t.docker(["run", "--rm", &image]).ok().is("entry default");
        t.docker(["run", "--rm", &image, "given"]).ok().is("entry given");
        t.docker(["run", "--rm", "--entrypoint", "sh", &image, "-c", "id -un; pwd; echo $FROM_IMAGE"]).ok().is("postgres\n/var/opt\n1");
        let c = t.ctr("c");
        t.docker(["create", "--name", &c, &image]).ok();
        assert_eq!(t.inspect(&c, "{{.Config.Labels.l}} {{.Config.ExposedPorts}} {{len .Mounts}}"), "v map[80/tcp:{}] 1");
    }
    fn image_prune(t) [alone = "removes every dangling image"] {
        let c = t.ctr("a");
        t.docker(["create", "--name", &c, IMG]).ok();
        let id = t.docker(["commit", &c]).ok().text();
        t.docker(["images", "-q", "--no-trunc", "-f", "dangling=true"]).ok().has(&id);
        t.docker(["image", "prune", "-f"]).ok().has(&id[7..]);
        t.docker(["image", "inspect", &id]).exits(1);
    }
}
