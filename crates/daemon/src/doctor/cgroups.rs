//! Which cgroups there are, and which controllers limits can be set with.

use super::{Check, Finding, Without, read};

const GROUP: &str = "cgroups";

/// Controllers of either version, and what is lost without them.
const CONTROLLERS: &[(&str, &[&str], &str)] = &[
    ("memory", &["memory"], "--memory and --memory-swap have no effect; no memory figures"),
    ("cpu", &["cpu"], "--cpus and --cpu-shares have no effect"),
    ("cpuset", &["cpuset"], "--cpuset-cpus and --cpuset-mems have no effect"),
    ("pids", &["pids"], "--pids-limit has no effect: a fork bomb reaches the host"),
    ("io", &["io", "blkio"], "--blkio-weight and --device-*-bps have no effect"),
    ("freezer", &["freezer"], "pause does not work"),
    ("devices", &["devices"], "containers could not be kept from devices: the daemon does not start"),
];

pub(super) fn probe() -> Vec<Check> {
    let all = read("/proc/self/mountinfo");
    // Something else may be mounted above one.
    let reached = |line: &&str| {
        let point = line.split(' ').nth(4).unwrap_or("");
        std::path::Path::new(point).join("cgroup.procs").exists()
    };
    let visible: Vec<&str> = all.lines().filter(reached).collect();
    judge(&visible.join("\n"), |mount| words(&read(&format!("{mount}/cgroup.controllers"))))
}

/// What `mountinfo` gives; `offered` is asked for the controllers of version 2.
fn judge(mountinfo: &str, offered: impl Fn(&str) -> Vec<String>) -> Vec<Check> {
    let (unified, v1) = layout(mountinfo);
    let v2: Vec<String> = unified.iter().flat_map(|mount| offered(mount)).collect();
    let version = match (unified.is_some(), v1.is_empty()) {
        (true, true) => Ok("version 2"),
        (true, false) => Ok("hybrid: version 1 with a version 2 beside it"),
        (false, false) => Ok("version 1"),
        (false, true) => Err("no cgroup file system is mounted"),
    };
    let pure = unified.is_some() && v1.is_empty();
    let none = Without {
        finding: Finding::Fatal,
        loses: "the daemon does not start",
        remedy: "mount -t cgroup2 none /sys/fs/cgroup; in a network namespace, enter it by nsenter --net=FILE \
            instead of ip netns exec, which hides them",
    };
    let mut all = vec![Check::of(GROUP, "cgroup file system", version, none)];
    for (name, either, loses) in CONTROLLERS {
        let built_in = pure && ["freezer", "devices"].contains(name);
        let place = match either.iter().find(|c| v1.iter().any(|v| v == *c)) {
            Some(_) => Ok("version 1"),
            None if either.iter().any(|c| v2.iter().any(|v| v == c)) => Ok("version 2"),
            None if built_in => Ok("version 2, built in"),
            None => Err("not available"),
        };
        let without = Without {
            // As the engine has it: what can reach every device is no container.
            finding: if *name == "devices" { Finding::Fatal } else { Finding::Missing },
            loses,
            remedy: "boot with the controller on (cgroup_enable=…), or mount it",
        };
        all.push(Check::of(GROUP, format!("controller {name}"), place, without));
    }
    all
}

fn words(text: &str) -> Vec<String> {
    text.split([' ', ',']).filter(|w| !w.is_empty()).map(str::to_owned).collect()
}

/// Where version 2 is mounted, and the controllers that version 1 has.
fn layout(mountinfo: &str) -> (Option<String>, Vec<String>) {
    let (mut unified, mut v1) = (None, Vec::new());
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let point = left.split(' ').nth(4).unwrap_or("");
        let mut right = right.split(' ');
        match right.next() {
            Some("cgroup2") => unified = unified.or(Some(point.to_owned())),
            Some("cgroup") => v1.extend(right.nth(1).map(words).unwrap_or_default()),
            _ => {}
        }
    }
    (unified, v1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_cgroups_nothing_works() {
        let found = |mountinfo: &str, name: &str| {
            let all = judge(mountinfo, |_| vec!["memory".to_owned()]);
            all.into_iter().find(|c| c.name == name).unwrap()
        };
        let none = found("", "cgroup file system");
        assert_eq!(none.finding, Finding::Fatal);
        assert!(none.remedy.contains("nsenter --net="), "{}", none.remedy);
        assert_eq!(found("", "controller devices").finding, Finding::Fatal);
        let v2 = "31 29 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        for (name, finding) in [
            ("cgroup file system", Finding::Ok),
            ("controller devices", Finding::Ok),
            ("controller memory", Finding::Ok),
            ("controller pids", Finding::Missing),
        ] {
            assert_eq!(found(v2, name).finding, finding, "{name}");
        }
    }

    #[test]
    fn layouts() {
        let hybrid = "30 29 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            31 29 0:27 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n";
        let (unified, v1) = layout(hybrid);
        assert_eq!(unified.as_deref(), Some("/sys/fs/cgroup/unified"));
        assert!(v1.contains(&"cpu".to_owned()) && v1.contains(&"cpuacct".to_owned()));
        assert_eq!(layout(""), (None, Vec::new()));
    }
}
