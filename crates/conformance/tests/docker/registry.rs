//! Pull, push, login against a registry on loopback: 5000 is open, 5001 asks for `weft:secret`.

use crate::dsl::cases;
use crate::images::own;

cases! {
    fn push_and_pull(t) {
        let image = own(t, "a");
        let far = format!("127.0.0.1:5000/{image}:v1");
        let id = t.inspect(&image, "{{.Id}}");
        t.docker(["tag", &image, &far]).ok();
        t.docker(["push", &far]).ok().has("digest: sha256:");
        t.docker(["rmi", &far, &image]).ok();
        t.docker(["pull", &far]).ok().has("Status: Downloaded newer image").has("Digest: sha256:");
        assert_eq!(t.inspect(&far, "{{.Id}}"), id);
        t.docker(["pull", &far]).ok().has("Image is up to date");
        t.docker(["run", "--rm", &far, "echo", "far"]).ok().is("far");
        let digest = t.inspect(&far, "{{index .RepoDigests 0}}");
        t.docker(["rmi", &far]).ok();
        t.docker(["pull", &digest]).ok();
        t.docker(["rmi", &digest]).ok();
    }
    fn run_pulls(t) {
        let image = own(t, "a");
        let far = format!("127.0.0.1:5000/{image}");
        t.docker(["tag", &image, &far]).ok();
        t.docker(["push", "-q", &far]).ok().is(&format!("{far}:latest"));
        t.docker(["rmi", &far, &image]).ok();
        t.docker(["run", "--rm", &far, "echo", "pulled"]).ok().is("pulled").says("Unable to find image");
        t.docker(["rmi", &far]).ok();
    }
    fn pull_all_tags(t) {
        let image = own(t, "a");
        for tag in ["one", "two"] {
            let far = format!("127.0.0.1:5000/{image}:{tag}");
            t.docker(["tag", &image, &far]).ok();
            t.docker(["push", "-q", &far]).ok();
            t.docker(["rmi", &far]).ok();
        }
        let far = format!("127.0.0.1:5000/{image}");
        t.docker(["pull", "-a", "-q", &far]).ok();
        t.docker(["images", "--format", "{{.Tag}}", &far]).ok().has("one").has("two");
        t.docker(["rmi", &format!("{far}:one"), &format!("{far}:two")]).ok();
    }
    fn pull_of_nothing(t) { t.docker(["pull", "127.0.0.1:5000/nosuch:v1"]).exits(1).says("manifest for 127.0.0.1:5000/nosuch:v1 not found"); }
    fn push_of_nothing(t) { t.docker(["push", "127.0.0.1:5000/nosuch-local"]).exits(1).says("does not exist locally"); }
    fn no_registry(t) { t.docker(["pull", "127.0.0.1:5999/x"]).exits(1).says("connection refused"); }
    fn login(t) [alone = "the client's credentials are one file"] {
        let image = own(t, "a");
        let far = format!("127.0.0.1:5001/{image}");
        t.docker(["tag", &image, &far]).ok();
        t.docker(["push", &far]).exits(1).says("no basic auth credentials");
        t.docker_in(["login", "-u", "weft", "--password-stdin", "127.0.0.1:5001"], "wrong").exits(1).says("401 Unauthorized");
        t.docker_in(["login", "-u", "weft", "--password-stdin", "127.0.0.1:5001"], "secret").ok().has("Login Succeeded");
        t.docker(["push", &far]).ok();
        t.docker(["rmi", &far]).ok();
        t.docker(["pull", &far]).ok();
        t.docker(["logout", "127.0.0.1:5001"]).ok();
        t.docker(["rmi", &far]).ok();
        t.docker(["pull", &far]).exits(1).says("no basic auth credentials");
    }
}
