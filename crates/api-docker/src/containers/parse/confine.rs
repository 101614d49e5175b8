//! Namespaces, capabilities and `--security-opt`.

use weft_model::{CgroupNs, Confinement, IpcMode, Namespace, SeccompChoice, UserNs};

use crate::{
    containers::wire::HostConfig,
    error::{ApiError, Result},
};

fn namespace(mode: &str, kind: &str) -> Result<(Namespace, Option<String>)> {
    match mode {
        "" | "private" => Ok((Namespace::Private, None)),
        "host" => Ok((Namespace::Host, None)),
        other => match other.strip_prefix("container:") {
            Some(target) if !target.is_empty() && kind != "UTS" => {
                Ok((Namespace::Private, Some(target.to_owned())))
            }
            _ => Err(ApiError::bad_request(format!("invalid {kind} mode: {other}"))),
        },
    }
}

pub(super) fn confinement(host: &HostConfig) -> Result<(Confinement, Option<String>, Option<String>)> {
    let (pid, pid_of) = namespace(&host.pid_mode, "PID")?;
    let (uts, _) = namespace(&host.uts_mode, "UTS")?;
    let (ipc, ipc_of) = match host.ipc_mode.as_str() {
        "" | "private" => (IpcMode::Private, None),
        "shareable" => (IpcMode::Shareable, None),
        "none" => (IpcMode::None, None),
        "host" => (IpcMode::Host, None),
        other => match other.strip_prefix("container:") {
            Some(target) if !target.is_empty() => (IpcMode::Private, Some(target.to_owned())),
            _ => return Err(ApiError::bad_request(format!("invalid IPC mode: {other}"))),
        },
    };
    let cgroup = match host.cgroupns_mode.as_str() {
        "" => CgroupNs::Default,
        "private" => CgroupNs::Private,
        "host" => CgroupNs::Host,
        other => return Err(ApiError::bad_request(format!("invalid cgroup namespace mode: {other}"))),
    };
    let user = match host.userns_mode.as_str() {
        "" => UserNs::Default,
        "host" => UserNs::Host,
        other => return Err(ApiError::bad_request(format!("invalid USER mode: {other}"))),
    };
    let mut confine = Confinement {
        privileged: host.privileged,
        cap_add: host.cap_add.clone().unwrap_or_default(),
        cap_drop: host.cap_drop.clone().unwrap_or_default(),
        read_only_root: host.readonly_rootfs,
        security_opt: host.security_opt.clone().unwrap_or_default(),
        masked_paths: host.masked_paths.clone(),
        readonly_paths: host.readonly_paths.clone(),
        pid,
        uts,
        ipc,
        cgroup,
        user,
        sysctls: host.sysctls.clone(),
        ..Confinement::default()
    };
    for option in host.security_opt.iter().flatten() {
        security_option(option, &mut confine)?;
    }
    Ok((confine, pid_of, ipc_of))
}

fn security_option(option: &str, confine: &mut Confinement) -> Result<()> {
    let invalid = || ApiError::bad_request(format!("invalid --security-opt 2: {option:?}"));
    if option == "no-new-privileges" {
        confine.no_new_privileges = true;
        return Ok(());
    }
    // Older clients wrote a colon.
    let (key, value) = option.split_once('=').or_else(|| option.split_once(':')).ok_or_else(invalid)?;
    match key {
        "no-new-privileges" => confine.no_new_privileges = value.parse().map_err(|_| invalid())?,
        "seccomp" if value == "unconfined" => confine.seccomp = SeccompChoice::Unconfined,
        "seccomp" if value == "builtin" => confine.seccomp = SeccompChoice::Default,
        "seccomp" => {
            serde_json::from_str::<serde_json::Value>(value)
                .map_err(|e| ApiError::bad_request(format!("Decoding seccomp profile failed: {e}")))?;
            confine.seccomp = SeccompChoice::Profile(value.to_owned());
        }
        "systempaths" if value == "unconfined" => {
            confine.masked_paths = Some(Vec::new());
            confine.readonly_paths = Some(Vec::new());
        }
        // Without the module in the kernel these change nothing, as on a dockerd without it.
        "label" | "apparmor" => {}
        _ => return Err(invalid()),
    }
    Ok(())
}
