//! The process of a container, and further ones that join it.

use oci_spec::runtime::{BoxBuilder, Capabilities, LinuxCapabilities, Process, User};
use weft_model::{ContainerSpec, ExecSpec, Namespace, ProcessSpec};

use super::{caps, error::OciError, limits, mounts::clean, types::BundleFacts};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where the small init appears inside.
pub(super) const INIT: &str = "/sbin/docker-init";

/// The first process.
pub(super) fn process(
    spec: &ContainerSpec,
    facts: &BundleFacts,
    warnings: &mut Vec<String>,
) -> Result<Process, OciError> {
    let mut args = spec.process.argv();
    if args.is_empty() {
        return Err(OciError::NoCommand);
    }
    if wants_init(spec, facts) {
        args.splice(0..0, [INIT.to_owned(), "--".to_owned()]);
    }
    let granted = granted(spec, facts, warnings)?;
    let env = environment(spec, facts, spec.process.tty);
    let mut made = common(spec, facts, granted, warnings)?;
    made.set_args(Some(args))
        .set_env(Some(with_home(env, facts)))
        .set_cwd(clean(&spec.process.working_dir).into());
    terminal(&mut made, spec.process.tty, spec.process.console_size);
    Ok(made)
}

/// A further process of a running container. `facts.user` is the exec's user, looked up like the container's.
pub fn exec_process(spec: &ContainerSpec, exec: &ExecSpec, facts: &BundleFacts) -> Result<Process, OciError> {
    let mut unheard = Vec::new();
    let granted =
        if exec.privileged { facts.host.capabilities.clone() } else { granted(spec, facts, &mut unheard)? };
    let env = overlay(environment(spec, facts, exec.tty), &exec.env);
    let own = clean(&spec.process.working_dir);
    let dir = if exec.working_dir.is_empty() { &own } else { &exec.working_dir };
    let mut made = common(spec, facts, granted, &mut unheard)?;
    made.set_args(Some(exec.args.clone())).set_env(Some(with_home(env, facts))).set_cwd(dir.into());
    terminal(&mut made, exec.tty, exec.console_size);
    Ok(made)
}

/// The capabilities a container gets, with warnings for those it asked for in vain.
pub(super) fn granted(
    spec: &ContainerSpec,
    facts: &BundleFacts,
    warnings: &mut Vec<String>,
) -> Result<Capabilities, OciError> {
    let c = &spec.confine;
    let (granted, missing) = caps::grant(c.privileged, &c.cap_add, &c.cap_drop, &facts.host.capabilities)?;
    warnings.extend(
        missing
            .into_iter()
            .map(|m| format!("capability {} was not granted: the daemon does not have it", caps::name(m))),
    );
    Ok(granted)
}

/// The init is of use only as process 1 of the container's own process namespace.
pub(super) fn wants_init(spec: &ContainerSpec, facts: &BundleFacts) -> bool {
    facts.init.is_some()
        && spec.confine.pid == Namespace::Private
        && spec.init.unwrap_or(facts.init_by_default)
}

fn common(
    spec: &ContainerSpec,
    facts: &BundleFacts,
    granted: Capabilities,
    warnings: &mut Vec<String>,
) -> Result<Process, OciError> {
    let mut user = User::default();
    user.set_uid(facts.user.uid).set_gid(facts.user.gid).set_additional_gids(Some(facts.user.groups.clone()));
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(granted.clone()))
        .set_permitted(Some(granted.clone()))
        .set_effective(Some(granted))
        .set_inheritable(Some(Capabilities::new()))
        .set_ambient(Some(Capabilities::new()));
    let limits = &spec.resources;
    let rlimits = limits::rlimits(&limits.ulimits, &facts.default_ulimits, &facts.host, warnings)?;
    let score = limits::oom_score(limits.oom_score_adj, &facts.host, warnings);
    let locked = spec.confine.no_new_privileges || facts.no_new_privileges;
    let mut made = Process::default();
    made.set_user(user)
        .set_capabilities(Some(sets))
        .set_rlimits(Some(rlimits))
        .set_oom_score_adj(Some(score))
        // Absent rather than false: runtimes take the presence for the wish.
        .set_no_new_privileges(locked.then_some(true));
    Ok(made)
}

fn terminal(made: &mut Process, tty: bool, size: Option<(u16, u16)>) {
    made.set_terminal(Some(tty));
    if let Some((rows, columns)) = size.filter(|_| tty) {
        let size = BoxBuilder::default().height(rows).width(columns).build().ok();
        made.set_console_size(size);
    }
}

/// Docker's own variables, those of links, and the container's over them.
fn environment(spec: &ContainerSpec, facts: &BundleFacts, tty: bool) -> Vec<String> {
    let mut base = vec![PATH.to_owned(), format!("HOSTNAME={}", spec.hostname)];
    if tty {
        base.push("TERM=xterm".to_owned());
    }
    base.extend(facts.link_env.iter().cloned());
    let ProcessSpec { env, .. } = &spec.process;
    overlay(base, env)
}

/// Later values replace earlier ones in place; a name without `=` takes the variable away.
fn overlay(mut base: Vec<String>, over: &[String]) -> Vec<String> {
    for pair in over {
        let name = pair.split_once('=').map_or(pair.as_str(), |(name, _)| name);
        let place = base.iter().position(|b| b.split_once('=').map_or(b.as_str(), |(n, _)| n) == name);
        match (place, pair.contains('=')) {
            (Some(i), true) => base[i].clone_from(pair),
            (Some(i), false) => drop(base.remove(i)),
            (None, true) => base.push(pair.clone()),
            (None, false) => {}
        }
    }
    base
}

fn with_home(mut env: Vec<String>, facts: &BundleFacts) -> Vec<String> {
    if !env.iter().any(|pair| pair.starts_with("HOME=")) {
        env.push(format!("HOME={}", facts.user.home));
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_in_place_added_and_taken_away() {
        let own = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let base = own(&["PATH=/bin", "HOSTNAME=h", "TERM=xterm"]);
        assert_eq!(
            overlay(base, &own(&["HOSTNAME=x", "TERM", "A=b=c", "B"])),
            own(&["PATH=/bin", "HOSTNAME=x", "A=b=c"])
        );
    }
}
