//! The machine's whole file system: busybox, weft with its libraries, the `docker` client, an image, the modules, and
//! the scripts that play the cases.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use weft_testkit::{ImageSpec, busybox_archive, daemon::weft_binary};

use super::kernel::Kernel;

/// Builds `initramfs.cpio` below `place` for the chosen cases.
pub fn build(place: &Path, kernel: &Kernel, cases: &[&str]) -> Result<PathBuf> {
    let root = place.join("root");
    if root.exists() {
        std::fs::remove_dir_all(&root)?;
    }
    for dir in
        ["bin", "sbin", "dev", "proc", "sys", "run", "tmp", "etc", "root", "lib/modules", "var/lib", "new"]
    {
        std::fs::create_dir_all(root.join(dir))?;
    }
    let busybox = found(&["/bin/busybox", "/usr/bin/busybox"]).context("busybox (Debian: busybox-static)")?;
    std::fs::copy(busybox, root.join("bin/busybox"))?;
    weft(&root)?;
    let docker = found(&["/usr/local/bin/docker", "/usr/bin/docker"]).context("the docker client")?;
    program(&docker, &root, "bin/docker")?;
    let mut order = String::new();
    for path in kernel.modules()? {
        let name = path.file_name().context("module name")?;
        std::fs::copy(&path, root.join("lib/modules").join(name))?;
        order.push_str(&format!("{}\n", name.display()));
    }
    std::fs::write(root.join("lib/modules/order"), order)?;
    busybox_archive(&ImageSpec::tagged("busybox:latest"), &root.join("image.tar"))?;
    std::fs::write(root.join("cases.sh"), super::CASES)?;
    std::fs::write(root.join("cases"), cases.join("\n") + "\n")?;
    std::fs::write(root.join("init"), super::INIT)?;
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    std::fs::write(root.join("etc/group"), "root:x:0:\n")?;
    executable(&root.join("init"))?;
    pack(&root, &place.join("initramfs.cpio"))
}

/// Weft without its debug information, which is most of a debug build.
fn weft(root: &Path) -> Result<()> {
    let binary = weft_binary()?;
    let target = root.join("bin/weft");
    let stripped = Command::new("strip").arg("-o").arg(&target).arg(&binary).status();
    if !stripped.is_ok_and(|status| status.success()) {
        std::fs::copy(&binary, &target)?;
    }
    libraries(&binary, root)
}

fn program(path: &Path, root: &Path, name: &str) -> Result<()> {
    std::fs::copy(path, root.join(name)).with_context(|| path.display().to_string())?;
    libraries(path, root)
}

/// Copies the shared libraries that ldd(1) names to the same places.
fn libraries(binary: &Path, root: &Path) -> Result<()> {
    let output = Command::new("ldd").arg(binary).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for path in text.split_whitespace().filter(|word| word.starts_with('/')) {
        let target = root.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(target.parent().context("library directory")?)?;
        std::fs::copy(path, &target).with_context(|| path.to_owned())?;
    }
    Ok(())
}

fn found(paths: &[&str]) -> Option<PathBuf> {
    paths.iter().map(PathBuf::from).find(|path| path.exists())
}

fn executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

/// The format that the kernel unpacks (`Documentation/driver-api/early-userspace/buffer-format.rst`), not compressed:
/// the machine would take longer to unpack it than qemu to read it.
fn pack(root: &Path, archive: &Path) -> Result<PathBuf> {
    let mut list = Command::new("find").arg(".").current_dir(root).stdout(Stdio::piped()).spawn()?;
    let names = list.stdout.take().context("find")?;
    let mut cpio = Command::new("busybox");
    cpio.args(["cpio", "-o", "-H", "newc"]).current_dir(root).stdin(names).stderr(Stdio::null());
    let status = cpio.stdout(std::fs::File::create(archive)?).status()?;
    ensure!(list.wait()?.success() && status.success(), "packing the initramfs: {status}");
    Ok(archive.to_owned())
}
