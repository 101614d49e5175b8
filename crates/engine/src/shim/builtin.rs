//! The built-in OCI runtime: libcontainer, run in a helper process.
//!
//! What it is not trusted with is taken out of the specification it sees and done by us, because of what version 0.7
//! does with it (each checked in its source):
//! - capabilities, seccomp and finding the program: see `enter` (execs would get no filter, some settings load
//!   the filter too late, errors come without their kind);
//! - `oomScoreAdj`: it would change the shim's own, and fail where lowering is not allowed;
//! - `rlimits`: it fails where raising is not allowed;
//! - limits and device rules on cgroup version 2: see `limits`;
//! - the environment: it would ask the name service about `HOME` inside the container;
//! - mounts on `/dev`, and targets that are links: see `guard`;
//! - device nodes elsewhere: see `nodes`;
//! - the view of cgroups on version 1, and the hierarchies without controllers: see `cgview`.
//!
//! The container's first process becomes a child of the shim, not of this helper (`as_sibling`).

use std::{
    collections::HashMap,
    fs,
    os::{fd::OwnedFd, unix::fs::fchown},
    path::{Path, PathBuf},
    rc::Rc,
};

use libcontainer::{
    container::builder::ContainerBuilder,
    oci_spec::runtime::Spec,
    syscall::syscall::SyscallType,
    workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError},
};
use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, PosixRlimit};
use weft_sys::process::{ProcessId, set_rlimit};

use super::{
    cgview::{self, Visit},
    ear::Ear,
    enter::{self, Entry},
    guard::{self, Late},
    helper::{Progress, Shim},
    limits, nodes, remap, seccomp,
    stdio::ContainerSide,
    types::{Created, Fault, SeccompFile, ShimSpec},
};

/// Directory under the shim's own for the specification that the runtime sees.
const RUNTIME_BUNDLE: &str = "oci";
/// Socket over which a terminal's master arrives.
pub(super) const CONSOLE_SOCKET: &str = "console.sock";

/// Runs create, waits for the word, runs start.
pub(super) fn run(
    dir: &Path,
    spec: &ShimSpec,
    stdio: ContainerSide,
    faults: OwnedFd,
    shim: &mut Shim,
) -> Result<(), Fault> {
    let prepared = Prepared::new(dir, spec)?;
    if let ContainerSide::Pipes { .. } = &stdio {
        stdio.give_to(prepared.host_uid, |fd, uid| fchown(fd, Some(uid), None));
    }
    let init = Init { entry: prepared.entry, late: Rc::new(prepared.late), faults: Rc::new(faults) };
    let mut builder = ContainerBuilder::new(spec.id.clone(), SyscallType::default())
        .with_root_path(&spec.state_root)
        .map_err(|e| Fault::because("state directory", &e))?
        .with_executor(init);
    match stdio {
        ContainerSide::Pipes { stdin, stdout, stderr } => {
            builder = builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
        }
        ContainerSide::Terminal => builder = builder.with_console_socket(Some(dir.join(CONSOLE_SOCKET))),
    }
    let ear = Ear::open().map_err(|e| Fault::because("listening to the runtime", &e))?;
    let visit = Visit::enter(&spec.cgroup)?;
    let mut container = builder
        .as_init(&prepared.bundle)
        .with_systemd(false)
        .with_detach(true)
        .as_sibling(true)
        .build()
        .map_err(|e| ear.complete(&e))?;
    visit.leave();
    let pid = container.pid().ok_or_else(|| Fault::other("the runtime gave no process id"))?.as_raw();
    set_rlimits(pid, &prepared.rlimits)?;
    if let Some(resources) = &prepared.resources {
        limits::apply(&spec.cgroup, resources)?;
    }
    if let Some(score) = prepared.oom_score_adj {
        set_oom_score(pid, score);
    }
    let init = ProcessId::of(pid).map_err(|e| Fault::because("the container's first process", &e))?;
    shim.tell(&Progress::Created(Created {
        init,
        seccomp: prepared.seccomp,
        user_namespace: prepared.user_namespace,
    }));
    if shim.wait_for_go() {
        container.start().map_err(|e| Fault::because("starting the container", &e))?;
        shim.tell(&Progress::Started(None));
    }
    Ok(())
}

/// Sets the score, or as near to it as a process without `CAP_SYS_RESOURCE` gets (which is: no lower than it was).
pub(super) fn set_oom_score(pid: i32, score: i32) {
    if fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()).is_err() {
        tracing::warn!(score, "the kernel does not allow this oom_score_adj; it stays as it is");
    }
}

/// Removes the runtime's state of a container that has ended. (Its cgroup is removed by the shim.)
pub(super) fn delete(spec: &ShimSpec) {
    // Already gone is as good.
    let _ = fs::remove_dir_all(spec.state_root.join(&spec.id));
}

/// A bundle as the runtime may see it, and what was taken out.
struct Prepared {
    bundle: PathBuf,
    entry: Entry,
    late: Late,
    rlimits: Vec<PosixRlimit>,
    oom_score_adj: Option<i32>,
    /// Set by us: all on cgroup version 2, what libcontainer misses on version 1.
    resources: Option<LinuxResources>,
    seccomp: Option<SeccompFile>,
    user_namespace: bool,
    host_uid: u32,
    /// Held until the container has joined it.
    _users: Option<OwnedFd>,
}

impl Prepared {
    fn new(dir: &Path, spec: &ShimSpec) -> Result<Self, Fault> {
        let mut oci = Spec::load(spec.bundle.join("config.json"))
            .map_err(|e| Fault::because("reading the bundle's config.json", &e))?;
        let mut process = oci.process().clone().ok_or_else(|| Fault::other("config.json has no process"))?;
        let seccomp = take_seccomp(dir, spec, &mut oci)?;
        let program = match &seccomp {
            Some(file) => Some((
                seccomp::load(&file.path).map_err(|e| Fault::because("reading the seccomp program", &e))?,
                file.flags,
            )),
            None => None,
        };
        let entry = Entry::new(&process, program);
        let rlimits = process.rlimits().clone().unwrap_or_default();
        let oom_score_adj = process.oom_score_adj();
        process
            .set_capabilities(None)
            .set_rlimits(None)
            .set_oom_score_adj(None)
            .set_terminal(Some(spec.tty))
            .set_env(Some(vec!["PATH=/".to_owned(), "HOME=/".to_owned()]));
        let uid = process.user().uid();
        oci.set_process(Some(process));
        let mut root = oci.root().clone().ok_or_else(|| Fault::other("config.json has no root"))?;
        root.set_path(spec.bundle.join(root.path()));
        let tree = guard::settle(root.path(), &mut oci)?;
        let nodes = nodes::make(&tree, &mut oci)?;
        oci.set_root(Some(root));
        let users = remap::join_owner(&mut oci)?;
        let cgroups = cgview::spell_out(&mut oci, &spec.cgroup)?;
        let mut late = Late::take(&mut oci)?;
        (late.read_only, late.nodes) = (cgroups, nodes);
        let resources =
            if limits::ours() { take_resources(&mut oci) } else { limits::missed(oci.linux().as_ref()) };
        let linux = oci.linux().as_ref();
        let user_namespace = linux
            .and_then(|l| l.namespaces().as_ref())
            .is_some_and(|all| all.iter().any(|n| n.typ() == LinuxNamespaceType::User));
        let host_uid = linux
            .and_then(|l| l.uid_mappings().as_ref())
            .and_then(|maps| {
                maps.iter().find_map(|m| {
                    let offset = uid.checked_sub(m.container_id()).filter(|o| *o < m.size())?;
                    Some(m.host_id() + offset)
                })
            })
            .unwrap_or(uid);
        let bundle = write_bundle(dir, &oci)?;
        Ok(Self {
            bundle,
            entry,
            late,
            rlimits,
            oom_score_adj,
            resources,
            seccomp,
            user_namespace,
            host_uid,
            _users: users,
        })
    }
}

/// Writes the specification as the runtime is to see it.
pub(super) fn write_bundle(dir: &Path, oci: &Spec) -> Result<PathBuf, Fault> {
    let bundle = dir.join(RUNTIME_BUNDLE);
    fs::create_dir_all(&bundle).map_err(|e| Fault::because("making the runtime's bundle directory", &e))?;
    oci.save(bundle.join("config.json")).map_err(|e| Fault::because("writing the runtime's config", &e))?;
    Ok(bundle)
}

fn take_resources(oci: &mut Spec) -> Option<LinuxResources> {
    let mut linux = oci.linux().clone()?;
    let taken = linux.resources().clone();
    linux.set_resources(None);
    oci.set_linux(Some(linux));
    taken
}

fn take_seccomp(dir: &Path, spec: &ShimSpec, oci: &mut Spec) -> Result<Option<SeccompFile>, Fault> {
    let Some(mut linux) = oci.linux().clone() else { return Ok(None) };
    let Some(profile) = linux.seccomp().clone() else { return Ok(None) };
    if seccomp::needs_listener(&profile) {
        return Err(Fault::other(
            "seccomp profiles with SCMP_ACT_NOTIFY are not supported by the built-in runtime",
        ));
    }
    let cache = spec.seccomp_cache.clone().unwrap_or_else(|| dir.join(RUNTIME_BUNDLE));
    let file = seccomp::compiled(&profile, &cache)?;
    linux.set_seccomp(None);
    oci.set_linux(Some(linux));
    Ok(Some(file))
}

/// Sets OCI limits on a process (0: the calling one), each as far as it is allowed.
pub(super) fn set_rlimits(pid: i32, limits: &[PosixRlimit]) -> Result<(), Fault> {
    for limit in limits {
        let name = format!("{:?}", limit.typ());
        let number = rlimit_number(limit.typ());
        match set_rlimit(pid, number, limit.soft(), limit.hard()) {
            Ok(true) => {}
            Ok(false) => tracing::warn!(name, "limit granted only up to our own"),
            Err(e) => return Err(Fault::because(&format!("setting {name}"), &e)),
        }
    }
    Ok(())
}

fn rlimit_number(kind: oci_spec::runtime::PosixRlimitType) -> u32 {
    use oci_spec::runtime::PosixRlimitType as Kind;
    match kind {
        Kind::RlimitCpu => libc::RLIMIT_CPU,
        Kind::RlimitFsize => libc::RLIMIT_FSIZE,
        Kind::RlimitData => libc::RLIMIT_DATA,
        Kind::RlimitStack => libc::RLIMIT_STACK,
        Kind::RlimitCore => libc::RLIMIT_CORE,
        Kind::RlimitRss => libc::RLIMIT_RSS,
        Kind::RlimitNproc => libc::RLIMIT_NPROC,
        Kind::RlimitNofile => libc::RLIMIT_NOFILE,
        Kind::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        Kind::RlimitAs => libc::RLIMIT_AS,
        Kind::RlimitLocks => libc::RLIMIT_LOCKS,
        Kind::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        Kind::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        Kind::RlimitNice => libc::RLIMIT_NICE,
        Kind::RlimitRtprio => libc::RLIMIT_RTPRIO,
        Kind::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

/// Our end of the runtime: what the container's first process does last.
#[derive(Clone)]
struct Init {
    entry: Entry,
    late: Rc<Late>,
    faults: Rc<OwnedFd>,
}

impl Executor for Init {
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        self.late.attach().and_then(|()| self.entry.prepare()).map(drop).map_err(|fault| {
            enter::report(&self.faults, &fault);
            ExecutorValidationError::ArgValidationError(fault.message)
        })
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let fault = match self.entry.program() {
            Ok(program) => self.entry.execute(&program),
            Err(fault) => fault,
        };
        enter::report(&self.faults, &fault);
        let code = fault.exit_code();
        weft_sys::process::exit_now(code)
    }
}
