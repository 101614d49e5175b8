//! info, version, df, events, prune.

use crate::dsl::{IMG, cases};

cases! {
    fn version(t) {
        t.docker(["version", "--format", "{{.Server.Os}} {{.Server.APIVersion}}"]).ok().has("linux 1.");
        t.docker(["version"]).ok().has("Server:").has("Engine");
    }
    fn info(t) { t.docker(["info", "--format", "{{.OSType}} {{.NCPU}} {{.Driver}} {{.ID}}"]).ok().has("linux ").has("overlay"); }
    fn info_text(t) { t.docker(["info"]).ok().has("Containers:").has("Storage Driver:").has("Cgroup Version:").has("Swarm: inactive"); }
    fn df(t) [alone = "another test's removal can come between two of its reads"] {
        t.docker(["system", "df"]).ok().has("Images").has("Containers").has("Local Volumes").has("Build Cache");
        t.docker(["system", "df", "-v"]).ok().has("busybox");
    }
    fn events_replay(t) {
        let c = t.ctr("a");
        t.docker(["run", "--name", &c, IMG, "true"]).ok();
        let filter = format!("container={c}");
        let seen = t.docker(["events", "--since", "10m", "--until", &t.soon(1), "-f", &filter, "--format", "{{.Action}}"]).ok().text();
        let seen: Vec<&str> = seen.lines().filter(|word| ["create", "start", "die"].contains(word)).collect();
        assert_eq!(seen, ["create", "start", "die"]);
    }
    fn events_live(t) {
        let watching = t.start(["events", "--until", &t.soon(4), "-f", "type=volume", "-f", "event=create", "--format", "{{.Type}} {{.Action}} {{.Actor.ID}}"]);
        std::thread::sleep(std::time::Duration::from_secs(1));
        let v = t.vol("v");
        t.docker(["volume", "create", &v]).ok();
        watching.end().ok().has(&format!("volume create {v}"));
    }
    fn events_carry_attributes(t) {
        let c = t.ctr("a");
        t.docker(["run", "--name", &c, "-l", "who=events", IMG, "sh", "-c", "exit 3"]).exits(3);
        let out = t.docker(["events", "--since", "10m", "--until", &t.soon(1), "-f", "event=die", "-f", "label=who=events", "--format", "{{json .}}"]).ok();
        out.has("\"exitCode\":\"3\"").has("\"image\":\"busybox\"").has(&format!("\"name\":\"{c}\""));
    }
    fn events_of_a_run(t) {
        let (c, n, v) = (t.ctr("a"), t.net("n"), t.vol("v"));
        t.docker(["network", "create", &n]).ok();
        t.docker(["run", "--name", &c, "--network", &n, "-v", &format!("{v}:/v"), IMG, "true"]).ok();
        let id = t.docker(["inspect", "-f", "{{.Id}}", &c]).ok().text();
        let all = t.docker(["events", "--since", "10m", "--until", &t.soon(1), "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.container}} {{.Actor.ID}}"]).ok().text();
        let mine: Vec<&str> = all
            .lines()
            .filter(|l| l.contains(&id))
            .filter_map(|l| l.split(&id).next())
            .map(str::trim)
            .map(|l| l.trim_end_matches("<no value>").trim())
            .filter(|l| !l.ends_with("attach") && !l.ends_with("create"))
            .collect();
        let wanted = ["network connect", "volume mount", "container start", "container die", "network disconnect", "volume unmount"];
        assert_eq!(mine, wanted);
    }
    fn stats_at_once(t) {
        let c = t.ctr("a");
        t.docker(["run", "-d", "--name", &c, IMG, "sh", "-c", "while :; do :; done"]).ok();
        std::thread::sleep(std::time::Duration::from_secs(2));
        let share = t.docker(["stats", "--no-stream", "--format", "{{.CPUPerc}}", &c]).ok().text();
        let share: f64 = share.trim_end_matches('%').parse().unwrap();
        assert!(share > 5.0, "a busy loop takes {share} % of a CPU");
    }
    fn events_of_networks(t) {
        let n = t.net("n");
        t.docker(["network", "create", &n]).ok();
        t.docker(["network", "rm", &n]).ok();
        t.docker(["events", "--since", "10m", "--until", &t.soon(1), "-f", "type=network", "-f", &format!("network={n}"), "--format", "{{.Action}}"]).ok().is("create\ndestroy");
    }
    fn inspect_many_kinds(t) {
        let v = t.vol("v");
        t.docker(["volume", "create", &v]).ok();
        t.docker(["inspect", "--type", "volume", "-f", "{{.Name}}", &v]).ok().is(&v);
        t.docker(["inspect", "--type", "network", "-f", "{{.Driver}}", "bridge"]).ok().is("bridge");
        t.docker(["inspect", "--type", "image", "-f", "{{.Os}}", IMG]).ok().is("linux");
    }
    fn system_prune(t) [alone = "removes everything unused"] {
        let (c, n) = (t.ctr("a"), t.net("n"));
        t.docker(["run", "--name", &c, IMG, "true"]).ok();
        t.docker(["network", "create", &n]).ok();
        t.docker(["system", "prune", "-f"]).ok().has("Total reclaimed space");
        t.docker(["inspect", &c]).exits(1);
        t.docker(["network", "inspect", &n]).exits(1);
        t.docker(["image", "inspect", IMG]).ok();
    }
    fn prunes_keep_what_the_filter_does_not_name(t) [alone = "removes things of every test"] {
        let label = |kept: bool| if kept { "prune.filter=kept" } else { "prune.filter=gone" };
        let filter = "label=prune.filter=gone";
        let things = |kept: bool| {
            let name = if kept { "kept" } else { "gone" };
            (t.ctr(name), t.net(name), t.vol(name))
        };
        for kept in [true, false] {
            let (c, n, v) = things(kept);
            t.docker(["create", "--name", &c, "--label", label(kept), IMG, "true"]).ok();
            t.docker(["network", "create", "--label", label(kept), &n]).ok();
            t.docker(["volume", "create", "--label", label(kept), &v]).ok();
        }
        t.docker(["container", "prune", "-f", "--filter", filter]).ok().has("Total reclaimed space");
        t.docker(["network", "prune", "-f", "--filter", filter]).ok();
        t.docker(["volume", "prune", "-a", "-f", "--filter", filter]).ok();
        let ((c, n, v), (gone_c, gone_n, gone_v)) = (things(true), things(false));
        for (kind, kept, gone) in [("container", &c, &gone_c), ("network", &n, &gone_n), ("volume", &v, &gone_v)] {
            t.docker([kind, "inspect", kept]).ok();
            t.docker([kind, "inspect", gone]).exits(1);
        }
        t.docker(["container", "prune", "-f", "--filter", "until=1h"]).ok();
        t.docker(["container", "inspect", &c]).ok();
        t.docker(["system", "prune", "-f", "--filter", "label!=prune.filter"]).ok();
        t.docker(["container", "inspect", &c]).ok();
        t.docker(["image", "prune", "-f", "--filter", "nosuch=1"]).exits(1).says("invalid filter");
    }
    fn plugins_are_none(t) { t.docker(["plugin", "ls", "-q"]).ok().is(""); }
}
