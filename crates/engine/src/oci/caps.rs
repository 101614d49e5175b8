//! Capabilities: Docker's default set, what is added and dropped, and what this daemon can pass on.

use oci_spec::runtime::{Capabilities, Capability};

use super::error::OciError;

/// All capabilities in the kernel's order (`linux/capability.h`): the index is the bit.
pub const ALL: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

const DEFAULT: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// A wish as written: one capability, or all.
enum Wish {
    All,
    One(Capability),
}

fn parse(text: &str) -> Result<Wish, OciError> {
    let upper = text.to_ascii_uppercase();
    if upper == "ALL" {
        return Ok(Wish::All);
    }
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let found = ALL.into_iter().find(|c| name(*c)[4..] == *bare);
    found.map(Wish::One).ok_or_else(|| OciError::Capability(format!("CAP_{bare}")))
}

/// `CAP_NET_ADMIN`.
#[must_use]
pub fn name(capability: Capability) -> String {
    format!("CAP_{capability}")
}

/// Checks names; the error's text is Docker's without its prefix.
pub(super) fn check(written: &[String]) -> Result<(), OciError> {
    written.iter().try_for_each(|text| parse(text).map(drop))
}

/// The set a container gets, and the capabilities it asked for by name that this daemon does not have.
pub(super) fn grant(
    privileged: bool,
    add: &[String],
    drop: &[String],
    held: &Capabilities,
) -> Result<(Capabilities, Vec<Capability>), OciError> {
    let (mut add_all, mut named) = (privileged, Vec::new());
    for text in add {
        match parse(text)? {
            Wish::All => add_all = true,
            Wish::One(c) => named.push(c),
        }
    }
    let (mut drop_all, mut dropped) = (false, Vec::new());
    for text in drop {
        match parse(text)? {
            Wish::All => drop_all = true,
            Wish::One(c) => dropped.push(c),
        }
    }
    let wanted: Capabilities = if privileged {
        ALL.into_iter().collect()
    } else if add_all {
        ALL.into_iter().filter(|c| !dropped.contains(c)).collect()
    } else if drop_all {
        named.iter().copied().collect()
    } else {
        DEFAULT.into_iter().filter(|c| !dropped.contains(c)).chain(named.iter().copied()).collect()
    };
    let missing = named.into_iter().filter(|c| wanted.contains(c) && !held.contains(c)).collect();
    Ok((wanted.intersection(held).copied().collect(), missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(privileged: bool, add: &[&str], drop: &[&str]) -> Vec<String> {
        let own = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let held: Capabilities = ALL.into_iter().filter(|c| *c != Capability::SysResource).collect();
        let (set, missing) = grant(privileged, &own(add), &own(drop), &held).unwrap();
        let mut names: Vec<_> = set.into_iter().map(name).collect();
        names.extend(missing.into_iter().map(|c| format!("missing {}", name(c))));
        names.sort();
        names
    }

    #[test]
    fn adding_and_dropping() {
        assert_eq!(granted(false, &[], &[]).len(), 14);
        assert_eq!(granted(false, &["net_admin"], &["CAP_CHOWN", "MKNOD"]).len(), 13);
        assert_eq!(granted(false, &["NET_ADMIN"], &["ALL"]), ["CAP_NET_ADMIN"]);
        assert_eq!(granted(false, &["ALL"], &[]).len(), 40);
        assert_eq!(granted(false, &["ALL"], &["SYS_ADMIN"]).len(), 39);
        assert_eq!(granted(true, &[], &["ALL"]).len(), 40);
        assert_eq!(granted(false, &[], &["ALL"]), Vec::<String>::new());
        assert_eq!(granted(false, &["sys_resource"], &["all"]), ["missing CAP_SYS_RESOURCE"]);
    }

    #[test]
    fn unknown_names_are_refused_as_docker_does() {
        let error = check(&["foo".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "unknown capability: \"CAP_FOO\"");
    }
}
