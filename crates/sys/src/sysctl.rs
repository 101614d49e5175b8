//! Kernel parameters below `/proc/sys`, by their dotted names. Those below `net.` are of the calling thread's network
//! namespace, whatever namespace `/proc` was mounted in.

use std::{fs, io, path::PathBuf};

/// A parameter that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("sysctl {name}{}", value.as_ref().map(|v| format!(" = {v}")).unwrap_or_default())]
pub struct SysctlError {
    /// Dotted name.
    pub name: String,
    /// What should have been written; `None` when reading.
    pub value: Option<String>,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// `a.b.c` is `/proc/sys/a/b/c`; a `/` in the name stands for a dot within a part (`net.ipv4.conf.eth0/100.x`).
fn path(name: &str) -> Result<PathBuf, io::Error> {
    let swapped: String = name
        .chars()
        .map(|c| {
            if c == '.' {
                '/'
            } else if c == '/' {
                '.'
            } else {
                c
            }
        })
        .collect();
    if swapped.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(PathBuf::from("/proc/sys").join(swapped))
}

/// The value, trimmed.
///
/// # Errors
/// [`SysctlError`].
pub fn read(name: &str) -> Result<String, SysctlError> {
    let failed = |source| SysctlError { name: name.to_owned(), value: None, source };
    Ok(fs::read_to_string(path(name).map_err(failed)?).map_err(failed)?.trim().to_owned())
}

/// Where the kernel has a parameter of that name; an error where it has none.
///
/// # Errors
/// The path that is no parameter's.
pub fn find(name: &str) -> Result<PathBuf, PathBuf> {
    let path = path(name).map_err(|_| PathBuf::from(name))?;
    if path.is_file() { Ok(path) } else { Err(path) }
}

/// Sets a value.
///
/// # Errors
/// [`SysctlError`].
pub fn write(name: &str, value: &str) -> Result<(), SysctlError> {
    let failed = |source| SysctlError { name: name.to_owned(), value: Some(value.to_owned()), source };
    fs::write(path(name).map_err(failed)?, value).map_err(failed)
}

/// Sets a value where it differs; says whether it did.
///
/// # Errors
/// [`SysctlError`].
pub fn ensure(name: &str, value: &str) -> Result<bool, SysctlError> {
    if read(name)? == value {
        return Ok(false);
    }
    write(name, value).map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_files() {
        assert!(find("net.ipv4.conf.lo.forwarding").is_ok());
        for (name, path) in
            [("net.ipv4.conf.lo.nosuch", "net/ipv4/conf/lo/nosuch"), ("net.ipv4.conf.lo", "net/ipv4/conf/lo")]
        {
            assert_eq!(find(name), Err(PathBuf::from("/proc/sys").join(path)));
        }
    }

    #[test]
    fn names_stay_below_proc_sys() {
        assert_eq!(path("net.ipv4.ip_forward").unwrap(), PathBuf::from("/proc/sys/net/ipv4/ip_forward"));
        assert_eq!(
            path("net.ipv4.conf.eth0/1.x").unwrap(),
            PathBuf::from("/proc/sys/net/ipv4/conf/eth0.1/x")
        );
        for bad in ["", "net..x", "//.//.etc", "net.", ".net"] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }
}
