//! Whole configurations: a model in, fragments of JSON out. Each case changes one thing of a plain container.

use oci_spec::runtime::Capability;
use serde_json::{Value, json};
use weft_base::Name;
use weft_model::{
    BlkioRate, CgroupNs, Confinement, ContainerId, ContainerSpec, DeviceRequest, DeviceSpec, Digest,
    DnsConfig, ExecId, ExecSpec, ImageBinding, IpcMode, LogConfig, Namespace, NetworkMode, ProcessSpec,
    Propagation, Resources, RestartPolicy, RunRequest, SeccompChoice, TmpfsOptions, Ulimit, UserNs,
};

use super::*;

pub(crate) fn spec() -> ContainerSpec {
    ContainerSpec {
        id: ContainerId::from_bytes([0xab; 32]),
        name: Name::new("web").unwrap(),
        image: ImageBinding {
            reference: "busybox".into(),
            id: format!("sha256:{}", "cd".repeat(32)).parse::<Digest>().unwrap(),
        },
        process: ProcessSpec {
            entrypoint: Some(vec!["/bin/sh".into()]),
            command: Some(vec!["-c".into(), "true".into()]),
            env: vec!["A=1".into()],
            ..ProcessSpec::default()
        },
        hostname: "abababababab".into(),
        domainname: String::new(),
        confine: Confinement::default(),
        resources: Resources::default(),
        mounts: vec![],
        volumes_from: vec![],
        network: NetworkMode::Attached,
        attachments: vec![],
        exposed: vec![],
        publish: vec![],
        publish_all: false,
        dns: DnsConfig::default(),
        extra_hosts: vec![],
        links: vec![],
        limit: Default::default(),
        log: LogConfig { driver: "json-file".into(), options: [].into() },
        restart: RestartPolicy::default(),
        auto_remove: false,
        health: None,
        stop_signal: String::new(),
        stop_timeout: None,
        runtime: String::new(),
        init: None,
        annotations: [].into(),
        echo: [].into(),
        run: RunRequest::default(),
    }
}

/// A host on version 1 whose daemon lacks one capability.
fn host() -> HostFacts {
    HostFacts {
        capabilities: caps::ALL.into_iter().filter(|c| *c != Capability::SysResource).collect(),
        cgroup: CgroupVersion::V1,
        controllers: ["memory", "cpu", "cpuset", "pids", "blkio", "devices", "freezer"]
            .map(Into::into)
            .into(),
        swap_limit: true,
        swappiness: true,
        oom_kill_disable: true,
        blkio_throttle: true,
        cpu_cfs: true,
        cpus: 2,
        cpu_list: "0-1".into(),
        mem_list: "0".into(),
        kernel: (6, 18),
        default_sysctls: vec![
            ("net.ipv4.ping_group_range".into(), "0 2147483647".into()),
            ("net.ipv4.ip_unprivileged_port_start".into(), "0".into()),
        ],
        cgroup_namespaces: true,
        ..HostFacts::default()
    }
}

fn facts() -> BundleFacts {
    let user = ResolvedUser { uid: 0, gid: 0, groups: vec![0, 10], home: "/root".into() };
    let mut facts = BundleFacts::new("/r".into(), user, host(), "/weft/abab".into());
    facts.netns = Some("/run/netns/x".into());
    facts
}

fn built(change: impl FnOnce(&mut ContainerSpec, &mut BundleFacts)) -> (Value, Vec<String>) {
    let (mut spec, mut facts) = (spec(), facts());
    change(&mut spec, &mut facts);
    let built = bundle(&spec, &facts).unwrap();
    (serde_json::to_value(&built.spec).unwrap(), built.warnings)
}

fn refused(change: impl FnOnce(&mut ContainerSpec, &mut BundleFacts)) -> String {
    let (mut spec, mut facts) = (spec(), facts());
    change(&mut spec, &mut facts);
    bundle(&spec, &facts).unwrap_err().to_string()
}

fn mount<'a>(config: &'a Value, target: &str) -> &'a Value {
    let found = config["mounts"].as_array().unwrap().iter().find(|m| m["destination"] == target);
    found.unwrap_or(&Value::Null)
}

fn namespace<'a>(config: &'a Value, kind: &str) -> &'a Value {
    let all = config["linux"]["namespaces"].as_array().unwrap();
    all.iter().find(|n| n["type"] == kind).unwrap_or(&Value::Null)
}

fn names(list: &Value) -> Vec<String> {
    let mut all: Vec<_> = list.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect();
    all.sort();
    all
}

#[test]
fn a_plain_container_is_as_docker_makes_it() {
    let (c, warnings) = built(|_, _| {});
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(c["process"]["args"], json!(["/bin/sh", "-c", "true"]));
    assert_eq!(c["process"]["cwd"], "/");
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(c["process"]["env"], json!([path, "HOSTNAME=abababababab", "A=1", "HOME=/root"]));
    assert_eq!(c["process"]["user"], json!({"uid": 0, "gid": 0, "additionalGids": [0, 10]}));
    assert_eq!(c["process"].get("noNewPrivileges"), None);
    assert_eq!(c["process"]["terminal"], false);
    assert_eq!(c["process"]["rlimits"], json!([]));
    assert_eq!(c["process"]["oomScoreAdj"], 0);
    for set in ["bounding", "permitted", "effective"] {
        assert_eq!(names(&c["process"]["capabilities"][set]).len(), 14, "{set}");
    }
    assert_eq!(c["process"]["capabilities"]["inheritable"], json!([]));
    assert_eq!(c["root"], json!({"path": "/r", "readonly": false}));
    assert_eq!(c["hostname"], "abababababab");
    assert_eq!(c["linux"]["cgroupsPath"], "/weft/abab");
    assert_eq!(c["linux"]["maskedPaths"].as_array().unwrap().len(), 12);
    assert_eq!(names(&c["linux"]["readonlyPaths"])[0], "/proc/bus");
    assert_eq!(c["linux"]["sysctl"]["net.ipv4.ping_group_range"], "0 2147483647");
    assert_eq!(namespace(&c, "network")["path"], "/run/netns/x");
    for kind in ["mount", "uts", "pid", "ipc"] {
        assert_eq!(namespace(&c, kind), &json!({ "type": kind }), "{kind}");
    }
    for kind in ["cgroup", "user"] {
        assert!(namespace(&c, kind).is_null(), "{kind}");
    }
    let targets: Vec<_> = c["mounts"].as_array().unwrap().iter().map(|m| m["destination"].clone()).collect();
    let expected = ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"];
    assert_eq!(targets, expected);
    let shm = json!(["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]);
    assert_eq!(mount(&c, "/dev/shm")["options"], shm);
    let devices = c["linux"]["resources"]["devices"].as_array().unwrap();
    assert_eq!(devices[0], json!({"allow": false, "type": "a", "access": "rwm"}));
    assert_eq!(devices.len(), 8);
    assert_eq!(c["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
}

#[test]
fn the_process() {
    let (c, _) = built(|s, _| {
        s.process.tty = true;
        s.process.console_size = Some((24, 80));
        s.process.working_dir = "/srv".into();
        s.process.env = vec!["HOME=/x".into(), "TERM=vt100".into(), "PATH".into()];
        s.confine.no_new_privileges = true;
    });
    assert_eq!(c["process"]["env"], json!(["HOSTNAME=abababababab", "TERM=vt100", "HOME=/x"]));
    assert_eq!(c["process"]["consoleSize"], json!({"height": 24, "width": 80}));
    assert_eq!(c["process"]["noNewPrivileges"], true);
    assert_eq!(c["process"]["cwd"], "/srv");
    assert_eq!(refused(|s, _| s.process = ProcessSpec::default()), "no command specified");
}

#[test]
fn an_init_of_its_own() {
    let with = |init: Option<bool>, default: bool, pid: Namespace| {
        built(|s, f| {
            (s.init, s.confine.pid) = (init, pid);
            (f.init, f.init_by_default, f.pid_of) = (Some("/run/init".into()), default, Some(1));
        })
        .0
    };
    let c = with(Some(true), false, Namespace::Private);
    assert_eq!(c["process"]["args"], json!(["/sbin/docker-init", "--", "/bin/sh", "-c", "true"]));
    let init = mount(&c, "/sbin/docker-init");
    assert_eq!(
        (init["source"].clone(), init["options"].clone()),
        (json!("/run/init"), json!(["bind", "ro"]))
    );
    assert_eq!(with(None, true, Namespace::Private)["process"]["args"][0], "/sbin/docker-init");
    assert_eq!(with(Some(false), true, Namespace::Private)["process"]["args"][0], "/bin/sh");
    assert_eq!(with(Some(true), true, Namespace::Host)["process"]["args"][0], "/bin/sh");
}

#[test]
fn capabilities_and_warnings() {
    let (c, warnings) = built(|s, _| {
        s.confine.cap_drop = vec!["all".into()];
        s.confine.cap_add = vec!["net_admin".into(), "CAP_SYS_RESOURCE".into()];
    });
    assert_eq!(c["process"]["capabilities"]["bounding"], json!(["CAP_NET_ADMIN"]));
    assert_eq!(warnings, ["capability CAP_SYS_RESOURCE was not granted: the daemon does not have it"]);
    assert_eq!(refused(|s, _| s.confine.cap_add = vec!["x".into()]), "unknown capability: \"CAP_X\"");
}

#[test]
fn privileged() {
    let (c, warnings) = built(|s, _| s.confine.privileged = true);
    assert_eq!(warnings, Vec::<String>::new(), "nothing was asked for by name");
    assert_eq!(names(&c["process"]["capabilities"]["effective"]).len(), 40);
    assert_eq!(c["linux"].get("seccomp"), None);
    assert_eq!(c["linux"]["maskedPaths"], json!([]));
    assert_eq!(c["linux"]["readonlyPaths"], json!([]));
    assert_eq!(mount(&c, "/sys")["options"], json!(["nosuid", "noexec", "nodev"]));
    assert_eq!(mount(&c, "/sys/fs/cgroup")["options"], json!(["nosuid", "noexec", "nodev"]));
    let all = json!([{"allow": true, "type": "a", "access": "rwm"}]);
    assert_eq!(c["linux"]["resources"]["devices"], all);
    let (c, _) = built(|s, _| {
        s.confine.privileged = true;
        s.confine.masked_paths = Some(vec!["/proc/x".into()]);
    });
    assert_eq!(c["linux"]["maskedPaths"], json!(["/proc/x"]));
}

#[test]
fn namespaces_of_host_and_of_other_containers() {
    let other = ContainerId::from_bytes([1; 32]);
    let (c, _) = built(|s, _| {
        s.network = NetworkMode::Host;
        s.confine.pid = Namespace::Host;
        s.confine.ipc = IpcMode::Host;
        s.confine.uts = Namespace::Host;
        s.confine.cgroup = CgroupNs::Private;
    });
    for kind in ["network", "pid", "ipc", "uts"] {
        assert!(namespace(&c, kind).is_null(), "{kind}");
    }
    assert!(namespace(&c, "cgroup").is_object());
    assert_eq!(c.get("hostname"), None);
    assert_eq!(c["linux"].get("sysctl"), None, "the host's network keeps its parameters");
    let (c, _) = built(|s, f| {
        s.network = NetworkMode::Container(other);
        s.confine.pid = Namespace::Container(other);
        s.confine.ipc = IpcMode::Container(other);
        (f.netns, f.net_of, f.pid_of, f.ipc_of) = (None, Some(11), Some(12), Some(13));
        f.shm = Some("/run/shm/other".into());
    });
    assert_eq!(namespace(&c, "network")["path"], "/proc/11/ns/net");
    assert_eq!(namespace(&c, "pid")["path"], "/proc/12/ns/pid");
    assert_eq!(namespace(&c, "ipc")["path"], "/proc/13/ns/ipc");
    assert_eq!(mount(&c, "/dev/shm")["source"], "/run/shm/other");
    assert_eq!(
        refused(|s, _| s.confine.pid = Namespace::Container(other)),
        "cannot join the pid namespace of a container that is not running"
    );
    let (c, _) = built(|s, _| s.confine.ipc = IpcMode::None);
    assert!(mount(&c, "/dev/shm").is_null());
    let (c, _) = built(|_, f| f.host.cgroup = CgroupVersion::V2);
    assert!(namespace(&c, "cgroup").is_object(), "private by default on version 2");
}

#[test]
fn a_user_namespace() {
    let (c, _) = built(|_, f| {
        let map = vec![IdMap { inside: 0, outside: 100_000, count: 65_536 }];
        f.userns = Some(UserNamespace { uids: map.clone(), gids: map });
    });
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    assert_eq!(c["linux"]["uidMappings"], map);
    assert_eq!(c["linux"]["gidMappings"], map);
    assert!(namespace(&c, "user").is_object());
    assert_eq!(c["linux"]["sysctl"].get("net.ipv4.ping_group_range"), None);
    assert_eq!(mount(&c, "/sys/fs/cgroup")["options"], json!(["nosuid", "noexec", "nodev"]));
}

#[test]
fn mounts_of_people_and_of_the_engine() {
    let bind = |path: &str| MountSource::Path {
        path: path.into(),
        recursive: true,
        depth: weft_model::ReadOnlyDepth::Best,
    };
    let one = |target: &str, source, read_only, propagation| ResolvedMount {
        target: target.into(),
        source,
        read_only,
        propagation,
    };
    let (c, _) = built(|s, f| {
        s.confine.read_only_root = true;
        f.hosts = Some("/w/hosts".into());
        f.resolv_conf = Some("/w/resolv".into());
        f.mounts = vec![
            one("/a/b/c", bind("/deep"), false, Propagation::RPrivate),
            one("/a/", bind("/ro"), true, Propagation::RSlave),
            one("/etc/hosts", bind("/own"), false, Propagation::RPrivate),
            one(
                "/tmp",
                MountSource::Tmpfs(TmpfsOptions { size: 0, mode: 0, options: "rw,exec,size=64k".into() }),
                false,
                Propagation::RPrivate,
            ),
        ];
    });
    assert_eq!(c["root"]["readonly"], true);
    assert_eq!(c["linux"]["rootfsPropagation"], "rslave");
    assert_eq!(mount(&c, "/a")["options"], json!(["rbind", "rro", "rslave"]));
    assert_eq!(mount(&c, "/a/b/c")["options"], json!(["rbind", "rprivate"]));
    assert_eq!(mount(&c, "/etc/hosts")["source"], "/own");
    assert_eq!(mount(&c, "/etc/resolv.conf")["options"], json!(["rbind", "rro", "rprivate"]));
    assert_eq!(
        mount(&c, "/tmp")["options"],
        json!(["nosuid", "nodev", "rprivate", "rw", "exec", "size=64k"])
    );
    let order: Vec<_> = c["mounts"].as_array().unwrap().iter().map(|m| m["destination"].clone()).collect();
    let place = |t: &str| order.iter().position(|d| d == t).unwrap();
    assert!(place("/a") < place("/a/b/c"), "{order:?}");
    for writable in ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        let options = mount(&c, writable)["options"].as_array().unwrap().clone();
        assert!(!options.contains(&json!("ro")), "{writable}");
    }
    // A /dev of their own takes the place of all below it.
    let (c, _) = built(|_, f| f.mounts = vec![one("/dev", bind("/dev"), false, Propagation::RPrivate)]);
    assert_eq!(mount(&c, "/dev")["type"], "bind");
    assert!(mount(&c, "/dev/pts").is_null());
    let (c, _) = built(|_, f| {
        f.mounts = vec![one("/s", bind("/s"), false, Propagation::RShared)];
    });
    assert_eq!(c["linux"]["rootfsPropagation"], "shared");
}

#[test]
fn limits_and_what_this_host_cannot_limit() {
    let wish = |s: &mut ContainerSpec| {
        s.resources = Resources {
            memory: 64 << 20,
            swappiness: Some(10),
            oom_kill_disable: Some(true),
            nano_cpus: 1_500_000_000,
            cpu_shares: 512,
            cpuset_cpus: "0".into(),
            pids: Some(100),
            blkio_read_bps: vec![BlkioRate { path: "/dev/x".into(), rate: 5 }],
            blkio_weight: 300,
            ..Resources::default()
        };
    };
    let (c, warnings) = built(|s, f| {
        wish(s);
        f.devices.blocks = [("/dev/x".to_owned(), (8, 1))].into();
    });
    let r = &c["linux"]["resources"];
    assert_eq!(
        r["memory"],
        json!({"limit": 67_108_864, "swap": 134_217_728, "swappiness": 10, "disableOOMKiller": true})
    );
    assert_eq!(r["cpu"], json!({"shares": 512, "quota": 150_000, "period": 100_000, "cpus": "0"}));
    assert_eq!(r["pids"], json!({"limit": 100}));
    assert_eq!(r["blockIO"]["throttleReadBpsDevice"], json!([{"major": 8, "minor": 1, "rate": 5}]));
    assert_eq!(
        warnings,
        ["Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."]
    );
    let (c, warnings) = built(|s, f| {
        wish(s);
        f.host = HostFacts {
            controllers: vec![],
            capabilities: f.host.capabilities.clone(),
            ..HostFacts::default()
        };
    });
    let r = &c["linux"]["resources"];
    for part in ["memory", "cpu", "pids", "blockIO"] {
        assert!(r[part].is_null(), "{part}: {r}");
    }
    assert_eq!(warnings.len(), 9, "{warnings:#?}");
    let (c, _) = built(|s, _| s.resources.pids = Some(0));
    assert_eq!(c["linux"]["resources"]["pids"], json!({"limit": -1}));
}

#[test]
fn process_limits_and_scores() {
    let (c, warnings) = built(|s, f| {
        s.resources.ulimits = vec![Ulimit { name: "nofile".into(), soft: 1000, hard: 2000 }];
        s.resources.oom_score_adj = -500;
        f.host.rlimits = [("nofile".to_owned(), (100, 1500))].into();
    });
    assert_eq!(c["process"]["rlimits"], json!([{"type": "RLIMIT_NOFILE", "soft": 1000, "hard": 1500}]));
    assert_eq!(c["process"]["oomScoreAdj"], 0);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn devices_and_their_rules() {
    let (c, _) = built(|s, f| {
        s.resources.devices =
            vec![DeviceSpec { host: "/dev/null".into(), target: "/dev/nothing".into(), access: "rw".into() }];
        s.resources.device_cgroup_rules = vec!["c 42:* rmw".into()];
        f.devices = devices::gather(s).unwrap();
    });
    let node = &c["linux"]["devices"][0];
    assert_eq!(
        (&node["path"], &node["major"], &node["minor"]),
        (&json!("/dev/nothing"), &json!(1), &json!(3))
    );
    let rules = c["linux"]["resources"]["devices"].as_array().unwrap();
    let tail = [
        json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"}),
        json!({"allow": true, "type": "c", "major": 42, "access": "rmw"}),
    ];
    assert_eq!(rules[rules.len() - 2..], tail);
    assert_eq!(
        refused(|s, _| s.resources.device_requests =
            vec![DeviceRequest { capabilities: vec![vec!["gpu".into()]], ..DeviceRequest::default() }]),
        "could not select device driver \"\" with capabilities: [[gpu]]"
    );
}

#[test]
fn an_exec_inherits_and_adds() {
    let exec = ExecSpec {
        id: ExecId::new(),
        container: ContainerId::from_bytes([0xab; 32]),
        args: vec!["ls".into()],
        env: vec!["A=2".into(), "B=3".into()],
        working_dir: String::new(),
        user: String::new(),
        tty: true,
        attach: (false, true, true),
        privileged: false,
        detach_keys: String::new(),
        console_size: None,
    };
    let (mut spec, facts) = (spec(), facts());
    spec.process.working_dir = "/srv".into();
    let as_json = |e: &ExecSpec| serde_json::to_value(exec_process(&spec, e, &facts).unwrap()).unwrap();
    let p = as_json(&exec);
    let env = names(&p["env"]);
    assert!(
        ["A=2", "B=3", "TERM=xterm", "HOME=/root"].iter().all(|v| env.contains(&(*v).to_owned())),
        "{env:?}"
    );
    assert_eq!((&p["cwd"], &p["terminal"]), (&json!("/srv"), &json!(true)));
    assert_eq!(names(&p["capabilities"]["bounding"]).len(), 14);
    let p = as_json(&ExecSpec { privileged: true, working_dir: "/x".into(), ..exec });
    assert_eq!(names(&p["capabilities"]["bounding"]).len(), 40);
    assert_eq!(p["cwd"], "/x");
}

#[test]
fn system_call_filters() {
    let rules = |c: &Value, name: &str| -> Vec<Value> {
        let all = c["linux"]["seccomp"]["syscalls"].as_array().unwrap();
        all.iter().filter(|r| r["names"].as_array().unwrap().contains(&json!(name))).cloned().collect()
    };
    let (c, _) = built(|_, _| {});
    assert_eq!(
        c["linux"]["seccomp"]["architectures"],
        json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"])
    );
    let clone3 = rules(&c, "clone3");
    assert_eq!((&clone3[0]["action"], &clone3[0]["errnoRet"]), (&json!("SCMP_ACT_ERRNO"), &json!(38)));
    assert_eq!(rules(&c, "clone")[0]["args"][0]["op"], "SCMP_CMP_MASKED_EQ");
    assert_eq!(rules(&c, "arch_prctl").len(), 1);
    assert_eq!(rules(&c, "process_vm_readv").len(), 1, "by the kernel's version");
    assert_eq!(rules(&c, "socket").len(), 3);
    for absent in ["mount", "bpf", "reboot", "kexec_load", "riscv_flush_icache", "sync_file_range2"] {
        assert!(rules(&c, absent).is_empty(), "{absent}");
    }
    assert_eq!(rules(&c, "chroot").len(), 1, "CAP_SYS_CHROOT is among the default capabilities");
    let (c, _) = built(|s, _| s.confine.cap_add = vec!["SYS_ADMIN".into()]);
    assert!(!rules(&c, "mount").is_empty());
    assert_eq!(rules(&c, "clone3")[0]["action"], "SCMP_ACT_ALLOW");
    let (c, _) = built(|s, _| s.confine.seccomp = SeccompChoice::Unconfined);
    assert_eq!(c["linux"].get("seccomp"), None);
    let own = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"chmod","action":"SCMP_ACT_ERRNO"}]}"#;
    let (c, _) = built(|s, _| s.confine.seccomp = SeccompChoice::Profile(own.into()));
    assert_eq!(rules(&c, "chmod")[0]["action"], "SCMP_ACT_ERRNO");
    let broken = refused(|s, _| s.confine.seccomp = SeccompChoice::Profile("{".into()));
    assert!(broken.starts_with("decoding seccomp profile failed: "), "{broken}");
    let both = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}"#;
    assert_eq!(
        refused(|s, _| s.confine.seccomp = SeccompChoice::Profile(both.into())),
        "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'"
    );
}

#[test]
fn what_makes_no_sense_is_refused_in_dockers_words() {
    let check = |change: &dyn Fn(&mut ContainerSpec)| {
        let mut s = spec();
        change(&mut s);
        validate(&s, &host(), true).err().map(|e| e.0).unwrap_or_default()
    };
    type Case<'a> = (&'a dyn Fn(&mut ContainerSpec), &'a str);
    let cases: &[Case<'_>] = &[
        (&|_| {}, ""),
        (&|s| s.resources.memory = 1000, "Minimum memory limit allowed is 6MB"),
        (
            &|s| (s.resources.memory, s.resources.memory_swap) = (8 << 20, 7 << 20),
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (
            &|s| s.resources.memory_swap = 8 << 20,
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (
            &|s| s.resources.swappiness = Some(101),
            "Invalid value: 101, valid memory swappiness range is 0-100",
        ),
        (&|s| s.resources.memory_reservation = 1, "Minimum memory reservation allowed is 6MB"),
        (
            &|s| (s.resources.nano_cpus, s.resources.cpu_period) = (1, 5000),
            "Conflicting options: Nano CPUs and CPU Period cannot both be set",
        ),
        (
            &|s| s.resources.nano_cpus = 3_000_000_000,
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        ),
        (&|s| s.resources.cpu_quota = 10, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        (
            &|s| s.resources.cpu_period = 10,
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        (&|s| s.resources.cpuset_cpus = "0-".into(), "Invalid value 0- for cpuset cpus"),
        (
            &|s| s.resources.cpuset_cpus = "0,5".into(),
            "Requested CPUs are not available - requested 0,5, available: 0-1",
        ),
        (&|s| s.resources.blkio_weight = 5, "Range of blkio weight is from 10 to 1000"),
        (&|s| s.resources.shm_size = -1, "SHM size can not be less than 0"),
        (
            &|s| s.resources.oom_score_adj = 1001,
            "Invalid value 1001, range for oom score adj is [-1000, 1000]",
        ),
        (&|s| s.confine.security_opt = vec!["x".into()], "invalid --security-opt 1: \"x\""),
        (&|s| s.confine.security_opt = vec!["x=y".into()], "invalid --security-opt 2: \"x=y\""),
        (&|s| s.confine.cap_add = vec!["X".into()], "invalid CapAdd: unknown capability: \"CAP_X\""),
        (&|s| s.confine.cap_drop = vec!["X".into()], "invalid CapDrop: unknown capability: \"CAP_X\""),
        (&|s| s.resources.device_cgroup_rules = vec!["x".into()], "invalid device cgroup rule format: 'x'"),
        (
            &|s| s.resources.ulimits = vec![Ulimit { name: "nofile".into(), soft: 2, hard: 1 }],
            "ulimit soft limit must be less than or equal to hard limit: 2 > 1",
        ),
        (
            &|s| s.confine.privileged = true,
            "privileged mode is incompatible with user namespaces.  You must run the container in the host \
             namespace when running privileged mode",
        ),
        (&|s| (s.confine.privileged, s.confine.user) = (true, UserNs::Host), ""),
    ];
    for (change, expected) in cases {
        assert_eq!(check(*change), *expected);
    }
    let mut long = spec();
    long.hostname = "x".repeat(65);
    assert!(validate(&long, &host(), false).unwrap_err().0.ends_with("is too long (maximum 64 bytes)"));
}

#[test]
fn what_is_not_granted_is_said_at_creation() {
    let mut s = spec();
    s.confine.cap_add = vec!["SYS_RESOURCE".into()];
    s.resources.oom_score_adj = -1;
    s.resources.kernel_memory = 8 << 20;
    let warnings = validate(&s, &host(), false).unwrap();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
}

#[test]
fn what_is_discarded_is_not_kept() {
    let mut s = spec();
    (s.resources.memory, s.resources.kernel_memory) = (64 << 20, 8 << 20);
    s.resources = granted(&s.resources, &host());
    assert_eq!((s.resources.memory, s.resources.memory_swap, s.resources.kernel_memory), (64 << 20, 0, 0));
    assert_eq!(validate(&s, &host(), false).unwrap(), Vec::<String>::new());
}
