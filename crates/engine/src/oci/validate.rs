//! Checks when a container is made or updated, in Docker's words (`daemon_unix.go`).
//!
//! Errors refuse; warnings go into the answer of the create request. A warning here says the same as the one
//! the builder gives at the start.

use weft_model::{CgroupNs, ContainerSpec, Namespace, NetworkMode, Resources};

use super::{caps, devices, error::OciError, host::HostFacts, limits, namespaces, resources, seccomp};

/// A container that makes no sense; the text is for people.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Invalid(pub String);

type Checked = Result<(), Invalid>;

/// The least memory a container can be given.
const LEAST_MEMORY: i64 = 6 << 20;
/// The longest host name (`HOST_NAME_MAX`).
const LONGEST_HOSTNAME: usize = 64;

fn refuse<T>(text: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid(text.into()))
}

fn ensure(ok: bool, text: &str) -> Checked {
    if ok { Ok(()) } else { refuse(text) }
}

/// Checks a new container; what it will not be granted comes back as warnings. `remapped` says that
/// containers get a user namespace of their own by default (`userns-remap`).
pub fn validate(spec: &ContainerSpec, host: &HostFacts, remapped: bool) -> Result<Vec<String>, Invalid> {
    let length = spec.hostname.len();
    if length > LONGEST_HOSTNAME {
        return refuse(format!(
            "hostname {:?} is too long (maximum {LONGEST_HOSTNAME} bytes)",
            spec.hostname
        ));
    }
    let dir = &spec.process.working_dir;
    if !dir.is_empty() && !dir.starts_with('/') {
        return refuse(format!("the working directory '{dir}' is invalid, it needs to be an absolute path"));
    }
    crate::signal::parse(&spec.stop_signal).map_err(|e| Invalid(e.to_string()))?;
    let mut warnings = validate_resources(&spec.resources, host, false)?;
    ensure(spec.resources.shm_size >= 0, "SHM size can not be less than 0")?;
    let score = spec.resources.oom_score_adj;
    if !(-1000..=1000).contains(&score) {
        return refuse(format!("Invalid value {score}, range for oom score adj is [-1000, 1000]"));
    }
    confinement(spec, host, &mut warnings)?;
    if remapped && spec.confine.user == weft_model::UserNs::Default {
        user_namespace(spec)?;
    }
    let r = &spec.resources;
    let said = |e: OciError| Invalid(e.to_string());
    r.device_cgroup_rules.iter().try_for_each(|rule| devices::parse_rule(rule).map(drop)).map_err(said)?;
    for limit in &r.ulimits {
        if limit.hard != -1 && (limit.soft > limit.hard || limit.soft == -1) {
            return refuse(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                limit.soft, limit.hard
            ));
        }
    }
    limits::rlimits(&r.ulimits, &[], host, &mut warnings).map_err(said)?;
    limits::oom_score(score, host, &mut warnings);
    if spec.network == NetworkMode::Host && !spec.publish.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    Ok(warnings)
}

fn confinement(spec: &ContainerSpec, host: &HostFacts, warnings: &mut Vec<String>) -> Checked {
    let confine = &spec.confine;
    caps::check(&confine.cap_add).map_err(|e| Invalid(format!("invalid CapAdd: {e}")))?;
    caps::check(&confine.cap_drop).map_err(|e| Invalid(format!("invalid CapDrop: {e}")))?;
    let held = &host.capabilities;
    if let Ok((_, missing)) = caps::grant(confine.privileged, &confine.cap_add, &confine.cap_drop, held) {
        warnings.extend(
            missing.into_iter().map(|c| {
                format!("capability {} was not granted: the daemon does not have it", caps::name(c))
            }),
        );
    }
    confine.security_opt.iter().try_for_each(|opt| security_opt(opt))?;
    if let weft_model::SeccompChoice::Profile(text) = &confine.seccomp {
        seccomp::check(text).map_err(|e| Invalid(e.to_string()))?;
    }
    if confine.cgroup == CgroupNs::Private && !namespaces::private_cgroup(confine, host) {
        warnings.push(
            "Your kernel does not support cgroup namespaces.  Cgroup namespace setting discarded.".to_owned(),
        );
    }
    Ok(())
}

/// The grammar of `--security-opt`.
pub fn security_opt(opt: &str) -> Checked {
    if matches!(opt, "no-new-privileges" | "disable" | "writable-cgroups") {
        return Ok(());
    }
    let Some((key, value)) = opt.split_once('=').or_else(|| opt.split_once(':')) else {
        return refuse(format!("invalid --security-opt 1: {opt:?}"));
    };
    let known = match key {
        "label" | "apparmor" | "seccomp" => true,
        "no-new-privileges" | "writable-cgroups" => crate::logs::options::parse_bool(value).is_ok(),
        _ => false,
    };
    if known { Ok(()) } else { refuse(format!("invalid --security-opt 2: {opt:?}")) }
}

fn user_namespace(spec: &ContainerSpec) -> Checked {
    ensure(
        !spec.confine.privileged,
        "privileged mode is incompatible with user namespaces.  You must run the container in the host \
         namespace when running privileged mode",
    )?;
    ensure(
        spec.network != NetworkMode::Host,
        "cannot share the host's network namespace when user namespaces are enabled",
    )?;
    ensure(
        spec.confine.pid != Namespace::Host,
        "cannot share the host PID namespace when user namespaces are enabled",
    )
}

/// Checks limits, for a new container or for an update of a running one.
pub fn validate_resources(r: &Resources, host: &HostFacts, update: bool) -> Result<Vec<String>, Invalid> {
    memory(r, update)?;
    cpu(r, host)?;
    cpuset(r, host)?;
    if r.blkio_weight > 0 && !(10..=1000).contains(&r.blkio_weight) {
        return refuse("Range of blkio weight is from 10 to 1000");
    }
    let (granted, mut warnings) = resources::grantable(r, host);
    if granted.oom_kill_disable == Some(true) && granted.memory == 0 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the \
             system running out of resources."
                .to_owned(),
        );
    }
    Ok(warnings)
}

/// What is kept of limits that passed [`validate`]: those this host discards are not, or every later look at them
/// would warn again.
#[must_use]
pub fn granted(wanted: &Resources, host: &HostFacts) -> Resources {
    let mut kept = resources::grantable(wanted, host).0;
    // A default that was filled in is no wish: it must not bind a later change of the memory.
    if wanted.memory_swap == 0 {
        kept.memory_swap = 0;
    }
    kept
}

fn memory(r: &Resources, update: bool) -> Checked {
    ensure(r.memory == 0 || r.memory >= LEAST_MEMORY, "Minimum memory limit allowed is 6MB")?;
    ensure(
        !(r.memory > 0 && r.memory_swap > 0 && r.memory_swap < r.memory),
        "Minimum memoryswap limit should be larger than memory limit, see usage",
    )?;
    ensure(
        update || r.memory != 0 || r.memory_swap <= 0,
        "You should always set the Memory limit when using Memoryswap limit, see usage",
    )?;
    if let Some(value) = r.swappiness
        && !(-1..=100).contains(&value)
    {
        return refuse(format!("Invalid value: {value}, valid memory swappiness range is 0-100"));
    }
    ensure(
        r.memory_reservation <= 0 || r.memory_reservation >= LEAST_MEMORY,
        "Minimum memory reservation allowed is 6MB",
    )?;
    ensure(
        r.memory <= 0 || r.memory_reservation <= r.memory,
        "Minimum memory limit can not be less than memory reservation limit, see usage",
    )?;
    ensure(r.kernel_memory <= 0 || r.kernel_memory >= 4 << 20, "Minimum kernel memory limit allowed is 4MB")
}

fn cpu(r: &Resources, host: &HostFacts) -> Checked {
    let set = r.nano_cpus > 0;
    ensure(!(set && r.cpu_period > 0), "Conflicting options: Nano CPUs and CPU Period cannot both be set")?;
    ensure(!(set && r.cpu_quota > 0), "Conflicting options: Nano CPUs and CPU Quota cannot both be set")?;
    ensure(
        !set || host.cpu_cfs,
        "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
    )?;
    let most = i64::try_from(host.cpus).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
    if r.nano_cpus < 0 || r.nano_cpus > most {
        let n = host.cpus;
        return refuse(format!("range of CPUs is from 0.01 to {n}.00, as there are only {n} CPUs available"));
    }
    if r.cpu_shares < 0 {
        return refuse(format!("invalid CPU shares ({}): value must be a positive integer", r.cpu_shares));
    }
    ensure(
        r.cpu_period == 0 || (1000..=1_000_000).contains(&r.cpu_period),
        "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
    )?;
    ensure(r.cpu_quota <= 0 || r.cpu_quota >= 1000, "CPU cfs quota can not be less than 1ms (i.e. 1000)")
}

fn cpuset(r: &Resources, host: &HostFacts) -> Checked {
    for (wanted, available, short, long) in [
        (&r.cpuset_cpus, &host.cpu_list, "cpus", "CPUs"),
        (&r.cpuset_mems, &host.mem_list, "mems", "memory nodes"),
    ] {
        if wanted.is_empty() {
            continue;
        }
        let Some(list) = parse_list(wanted) else {
            return refuse(format!("Invalid value {wanted} for cpuset {short}"));
        };
        let there = parse_list(available).unwrap_or_default();
        let covered = |n: &(u32, u32)| (n.0..=n.1).all(|i| there.iter().any(|(a, b)| (*a..=*b).contains(&i)));
        if !there.is_empty() && !list.iter().all(covered) {
            return refuse(format!(
                "Requested {long} are not available - requested {wanted}, available: {available}"
            ));
        }
    }
    Ok(())
}

/// `0-2,7` as ranges.
fn parse_list(text: &str) -> Option<Vec<(u32, u32)>> {
    let number = |t: &str| t.parse::<u32>().ok().filter(|n| *n < 8192);
    let range = |part: &str| match part.split_once('-') {
        Some((from, to)) => Some((number(from)?, number(to)?)).filter(|(a, b)| a <= b),
        None => number(part).map(|n| (n, n)),
    };
    text.split(',').map(range).collect()
}
