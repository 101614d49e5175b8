//! The small init that `--init` puts in front of a container's program.
//!
//! It is a static program of eight kilobytes (`init/main.rs`, built by `build.rs`), carried inside `weft` and
//! written out once, so that it runs in any image and under any OCI runtime, and so that a container's
//! `/proc/1/exe` never leads to the daemon's own executable.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The program.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/docker-init"));

/// Writes the program to `dir` (the run directory) unless it is there, and returns its path: the `init` of
/// [`super::BundleFacts`].
pub fn install(dir: &Path) -> io::Result<PathBuf> {
    let path = dir.join("docker-init");
    let as_it_should_be = || -> io::Result<bool> {
        Ok(fs::symlink_metadata(&path)?.permissions().mode() == 0o100_755 && fs::read(&path)? == PROGRAM)
    };
    if as_it_should_be().unwrap_or(false) {
        return Ok(path);
    }
    // A new file each time: containers may be running the old one.
    let part = dir.join(format!("docker-init.{}", std::process::id()));
    match fs::remove_file(&part) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(&part)?;
    file.write_all(PROGRAM)?;
    file.set_permissions(fs::Permissions::from_mode(0o755))?;
    drop(file);
    fs::rename(&part, &path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn it_is_static_and_installed_once() {
        assert!(PROGRAM.starts_with(b"\x7fELF") && PROGRAM.len() < 64 * 1024, "{}", PROGRAM.len());
        let dir = tempfile::tempdir().unwrap();
        let path = install(dir.path()).unwrap();
        let first = fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(install(dir.path()).unwrap(), path);
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), first);
        fs::write(&path, "damaged").unwrap();
        install(dir.path()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), PROGRAM);
    }

    #[test]
    fn it_ends_as_its_program_ends() {
        let dir = tempfile::tempdir().unwrap();
        let init = install(dir.path()).unwrap();
        for (args, code) in [
            (&["--", "sh", "-c", "exit 7"][..], 7),
            (&["/bin/sh", "-c", "kill -9 $$"], 137),
            (&["--", "no-such-program"], 127),
            (&["--", "/etc/passwd"], 126),
            (&[], 1),
        ] {
            let status = Command::new(&init).args(args).stderr(Stdio::null()).status().unwrap();
            assert_eq!(status.code(), Some(code), "{args:?}");
        }
    }

    #[test]
    fn it_passes_signals_on_and_reaps_orphans() {
        let dir = tempfile::tempdir().unwrap();
        let init = install(dir.path()).unwrap();
        // As process 1 of its own namespace: the orphan must not stay a zombie.
        let script = "(sh -c 'sleep 0.05' &) ; trap 'ls /proc | grep -c ^[0-9]; exit 5' USR1; echo up; \
                      while :; do sleep 0.02; done";
        let mut child = Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
            .arg(&init)
            .args(["--", "sh", "-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        io::BufRead::read_line(&mut out, &mut line).unwrap();
        assert_eq!(line, "up\n");
        std::thread::sleep(std::time::Duration::from_millis(300));
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let inside = fs::read_to_string(children).unwrap();
        Command::new("kill").args(["-USR1", inside.trim()]).status().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(5));
        line.clear();
        io::BufRead::read_line(&mut out, &mut line).unwrap();
        // init, sh, ls, grep, perhaps a subshell and a sleep that is about to end; no zombie of the orphans.
        assert!(line.trim().parse::<u32>().unwrap() <= 6, "{line}");
    }
}
