//! Against real cgroups of this machine, made below `/weft-test-…` and removed, and against recorded texts of
//! the layouts this machine does not have.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
};

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use super::{hierarchy::Hierarchies, update, usage, *};

/// A cgroup with a process in it; both end with the value.
struct Cell {
    cgroup: Cgroup,
    dirs: Vec<PathBuf>,
    child: Child,
}

fn cell(name: &str) -> Cell {
    let hierarchies = Hierarchies::detect().unwrap();
    let cgroup = hierarchies.cgroup(&format!("/weft-test-{name}-{}", std::process::id())).unwrap();
    let mut dirs: Vec<_> = match cgroup.v2() {
        Some(dir) => vec![dir],
        None => ["cpu", "cpuacct", "memory", "pids", "freezer", "blkio"]
            .iter()
            .filter_map(|c| cgroup.v1(c))
            .collect(),
    };
    dirs.dedup();
    let child = Command::new("/bin/sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    let cell = Cell { cgroup, dirs, child };
    for dir in &cell.dirs {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("cgroup.procs"), cell.child.id().to_string()).unwrap();
    }
    cell
}

impl Drop for Cell {
    fn drop(&mut self) {
        self.cgroup.thaw().ok();
        self.child.kill().ok();
        self.child.wait().ok();
        for dir in &self.dirs {
            for _ in 0..100 {
                if fs::remove_dir(dir).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

fn file(cell: &Cell, controller: &str, name: &str) -> String {
    let dir = cell.cgroup.v2().or_else(|| cell.cgroup.v1(controller)).unwrap();
    fs::read_to_string(dir.join(name)).unwrap().trim().to_owned()
}

#[test]
fn usage_of_a_busy_process() {
    let cell = cell("usage");
    let before = cell.cgroup.usage().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let after = cell.cgroup.usage().unwrap();
    assert!(after.cpu.total > before.cpu.total, "{after:?}");
    assert_eq!(after.pids.current, 1);
    assert_eq!(after.memory.limit, u64::MAX);
    assert!(!after.memory.stat.is_empty());
    assert_eq!(cell.cgroup.pids().unwrap(), [cell.child.id()]);
}

#[test]
fn freezing_stops_it_and_thawing_lets_it_go_on() {
    let cell = cell("freeze");
    assert!(!cell.cgroup.is_frozen().unwrap());
    cell.cgroup.freeze().unwrap();
    assert!(cell.cgroup.is_frozen().unwrap());
    let used = || cell.cgroup.usage().unwrap().cpu.total;
    let frozen = used();
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(used(), frozen);
    cell.cgroup.thaw().unwrap();
    assert!(!cell.cgroup.is_frozen().unwrap());
    for _ in 0..200 {
        if used() > frozen {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("it does not go on");
}

#[test]
fn limits_change_in_both_directions() {
    let cell = cell("update");
    for (memory, swap, pids, shares, quota) in [
        (64i64 << 20, 128i64 << 20, 50i64, 512u64, 50_000i64),
        (256 << 20, 512 << 20, 70, 1024, 100_000),
        (32 << 20, 32 << 20, -1, 2, -1),
    ] {
        let mut m = LinuxMemory::default();
        m.set_limit(Some(memory)).set_swap(Some(swap));
        let mut c = LinuxCpu::default();
        c.set_shares(Some(shares)).set_quota(Some(quota)).set_period(Some(100_000));
        let mut p = LinuxPids::default();
        p.set_limit(pids);
        let mut all = LinuxResources::default();
        all.set_memory(Some(m)).set_cpu(Some(c)).set_pids(Some(p));
        cell.cgroup.update(&all).unwrap();
        let usage = cell.cgroup.usage().unwrap();
        assert_eq!(usage.memory.limit, memory.unsigned_abs());
        assert_eq!(usage.pids.limit, u64::try_from(pids).unwrap_or(0));
        if cell.cgroup.v2().is_none() {
            assert_eq!(file(&cell, "cpu", "cpu.shares"), shares.to_string());
            assert_eq!(file(&cell, "cpu", "cpu.cfs_quota_us"), quota.to_string());
        }
    }
}

#[test]
fn a_cgroup_that_is_gone_says_so() {
    let hierarchies = Hierarchies::detect().unwrap();
    let gone = hierarchies.cgroup("/weft-test-gone/x").unwrap();
    assert!(matches!(gone.usage(), Err(CgroupError::Gone { .. })));
    assert!(matches!(gone.freeze(), Err(CgroupError::Gone { .. })));
    assert!(matches!(gone.pids(), Err(CgroupError::Gone { .. })));
    assert!(matches!(gone.update(&LinuxResources::default()), Err(CgroupError::Gone { .. })));
}

#[test]
fn paths_that_could_reach_others_are_refused() {
    let hierarchies = Hierarchies::detect().unwrap();
    for path in ["", "/", "weft/x", "/weft/../x", "/weft//x", "/./x", "/weft/"] {
        assert!(matches!(hierarchies.cgroup(path), Err(CgroupError::Path(_))), "{path:?}");
    }
}

const V2: &str = "35 30 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
const HYBRID: &str = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      33 31 0:31 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
                      34 31 0:31 /part /mnt/freezer rw - cgroup cgroup rw,freezer\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

#[test]
fn layouts() {
    let of = |text| Arc::new(Hierarchies::parse(text)).cgroup("/weft/x").unwrap();
    let path = |p: &str| Some(Path::new(p).to_owned());
    assert_eq!(of(V2).v2(), path("/sys/fs/cgroup/weft/x"));
    assert_eq!(of(V2).v1("cpu"), None);
    assert_eq!(of(HYBRID).v2(), None);
    assert_eq!(of(HYBRID).v1("cpuacct"), path("/sys/fs/cgroup/cpu,cpuacct/weft/x"));
    assert_eq!(of(HYBRID).v1("freezer"), path("/sys/fs/cgroup/freezer/weft/x"));
    assert_eq!(of(HYBRID).v1("memory"), None);
}

#[test]
fn version_2_texts_and_conversions() {
    let lines =
        usage::block_v2("8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0\nbroken\n", "rbytes", "wbytes");
    let shown: Vec<_> =
        lines.iter().map(|b| format!("{}:{} {} {}", b.major, b.minor, b.op, b.value)).collect();
    assert_eq!(shown, ["8:0 read 10", "8:0 write 20"]);
    for (shares, weight) in [(2, 1), (1024, 39), (262_144, 10_000), (0, 1)] {
        assert_eq!(update::weight_of_shares(shares), weight, "{shares}");
    }
    assert_eq!([10, 500, 1000].map(update::io_weight), [1, 4950, 10_000]);
}

#[test]
fn what_libcontainer_leaves_out() {
    let text = "\
32 31 0:28 / /c/memory rw - cgroup cgroup rw,memory
33 31 0:29 / /c/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 31 0:30 / /c/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:31 / /c/misc rw - cgroup cgroup rw,misc
36 31 0:31 / /again/misc rw - cgroup cgroup rw,misc
";
    let points = |text: &str| -> Vec<String> {
        let all = Hierarchies::parse(text);
        all.left_out().iter().map(|(point, _)| point.display().to_string()).collect()
    };
    let v2 = "37 31 0:32 / /c/unified rw - cgroup2 cgroup2 rw\n";
    assert_eq!(points(text), ["/c/systemd", "/c/misc"]);
    assert_eq!(points(&format!("{text}{v2}")), ["/c/systemd", "/c/misc", "/c/unified"]);
    assert_eq!(points(v2), [""; 0], "version 2 alone is libcontainer's");
}

#[test]
fn a_parent_cgroup_cannot_lead_elsewhere() {
    let id = weft_model::ContainerId::from_bytes([0xab; 32]);
    for (parent, expected) in [
        ("/mine", "/mine"),
        ("mine/x/", "/mine/x"),
        ("../../etc", "/etc"),
        ("/../../y", "/y"),
        ("/a/./../b//c", "/b/c"),
        ("/", ""),
    ] {
        let path = path_of(parent, id);
        assert_eq!(path, format!("{expected}/{id}"), "{parent}");
        assert!(Arc::new(Hierarchies::parse("")).cgroup(&path).is_ok(), "{parent}");
    }
}

#[test]
fn places_are_found_by_controller() {
    let text = "9:name=systemd:/a\n4:memory:/weft/x\n1:cpu,cpuacct:/weft/x/y\n0::/";
    let names = |s: &str| s.split('+').map(str::to_owned).collect::<Vec<_>>();
    for (controllers, expected) in [
        (Some(names("memory")), Some("/weft/x")),
        (Some(names("cpu+cpuacct")), Some("/weft/x/y")),
        (Some(names("pids")), None),
        (None, Some("/")),
    ] {
        assert_eq!(place_in(text, controllers.as_deref()), expected);
    }
}
