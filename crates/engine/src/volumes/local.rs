//! The local driver's options: `type`, `device`, `o`, as `mount(8)` would take them.

use std::{collections::BTreeMap, net::ToSocketAddrs, path::Path};

use nix::mount::MsFlags;

use crate::{EngineError, Result};

type Options = BTreeMap<String, String>;

/// Checks names and completeness, in Docker's words.
///
/// # Errors
/// `Invalid`.
pub fn check_options(options: &Options) -> Result<()> {
    let known = ["type", "o", "device", "size"];
    if let Some(unknown) = options.keys().find(|k| !known.contains(&k.as_str())) {
        return Err(EngineError::Invalid(format!("invalid option: {unknown:?}")));
    }
    if options.contains_key("size") {
        return Err(EngineError::Unsupported("quota size requested but no quota support".into()));
    }
    let needs: [(&str, &[&str]); 3] =
        [("device", &["type"]), ("type", &["device"]), ("o", &["device", "type"])];
    for (option, needed) in needs {
        if !options.contains_key(option) {
            continue;
        }
        if let Some(missing) = needed.iter().find(|n| !options.contains_key(**n)) {
            return Err(EngineError::Invalid(format!("missing required option: {missing:?}")));
        }
    }
    Ok(())
}

/// Mounts what the options name.
pub(super) fn mount(options: &Options, target: &Path) -> Result<()> {
    let text = |key: &str| options.get(key).map_or("", String::as_str);
    let (kind, device) = (text("type"), text("device"));
    let (flags, mut data) = parse(text("o"));
    if kind.starts_with("nfs") {
        data = with_address(&data)?;
    }
    let recursive_bind = flags.contains(MsFlags::MS_BIND);
    let kind = (kind != "none" && !kind.is_empty() && !recursive_bind).then_some(kind);
    let data = (!data.is_empty()).then_some(data.as_str());
    nix::mount::mount(Some(device), target, kind, flags, data).map_err(|e| {
        let flags = if flags.is_empty() { String::new() } else { format!(", flags: {:#x}", flags.bits()) };
        let data = data.map(|data| format!(", data: {data}")).unwrap_or_default();
        let at = target.display();
        let doing = format!(
            "error while mounting volume '{at}': failed to mount local volume: mount {device}:{at}{flags}{data}"
        );
        EngineError::Io { doing, source: e.into() }
    })?;
    // A bind takes its other flags only by a second call.
    let further = flags & (MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC);
    if recursive_bind && !further.is_empty() {
        let again = further | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
        nix::mount::mount(None::<&str>, target, None::<&str>, again, None::<&str>).map_err(|e| {
            EngineError::io(format!("setting the mount flags of {}", target.display()))(e.into())
        })?;
    }
    Ok(())
}

/// Flags and the rest, as `mount(8)` splits them.
fn parse(written: &str) -> (MsFlags, String) {
    let (mut flags, mut data) = (MsFlags::empty(), Vec::new());
    for word in written.split(',').filter(|w| !w.is_empty()) {
        let (flag, set) = match word {
            "defaults" | "rw" => (MsFlags::MS_RDONLY, false),
            "ro" => (MsFlags::MS_RDONLY, true),
            "bind" => (MsFlags::MS_BIND, true),
            "rbind" => (MsFlags::MS_BIND | MsFlags::MS_REC, true),
            "nosuid" => (MsFlags::MS_NOSUID, true),
            "suid" => (MsFlags::MS_NOSUID, false),
            "nodev" => (MsFlags::MS_NODEV, true),
            "dev" => (MsFlags::MS_NODEV, false),
            "noexec" => (MsFlags::MS_NOEXEC, true),
            "exec" => (MsFlags::MS_NOEXEC, false),
            "noatime" => (MsFlags::MS_NOATIME, true),
            "nodiratime" => (MsFlags::MS_NODIRATIME, true),
            "relatime" => (MsFlags::MS_RELATIME, true),
            "strictatime" => (MsFlags::MS_STRICTATIME, true),
            "sync" => (MsFlags::MS_SYNCHRONOUS, true),
            "dirsync" => (MsFlags::MS_DIRSYNC, true),
            _ => {
                data.push(word);
                continue;
            }
        };
        flags.set(flag, set);
    }
    (flags, data.join(","))
}

/// The kernel's NFS wants a number where people write a host's name.
fn with_address(data: &str) -> Result<String> {
    let resolve = |word: &str| match word.strip_prefix("addr=") {
        Some(host) if host.parse::<std::net::IpAddr>().is_err() => {
            let mut found = (host, 0).to_socket_addrs().map_err(EngineError::io(format!(
                "error resolving passed in network volume address {host}"
            )))?;
            let address =
                found.next().ok_or_else(|| EngineError::Missing(format!("no address of {host}")))?;
            Ok(format!("addr={}", address.ip()))
        }
        _ => Ok(word.to_owned()),
    };
    Ok(data.split(',').map(resolve).collect::<Result<Vec<_>>>()?.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked_with_dockers_texts() {
        for (options, expected) in [
            (&[][..], ""),
            (&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")], ""),
            (&[("foo", "1")], "invalid option: \"foo\""),
            (&[("type", "nfs")], "missing required option: \"device\""),
            (&[("o", "ro")], "missing required option: \"device\""),
            (&[("size", "1")], "quota size requested but no quota support"),
        ] {
            let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let said = check_options(&options).err().map(|e| e.to_string()).unwrap_or_default();
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn flags_and_data_are_split() {
        let (flags, data) = parse("addr=1.2.3.4,ro,size=1m,nosuid,suid,rbind");
        assert_eq!(data, "addr=1.2.3.4,size=1m");
        assert_eq!(flags, MsFlags::MS_RDONLY | MsFlags::MS_BIND | MsFlags::MS_REC);
    }
}
