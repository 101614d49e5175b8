//! The distribution's cloud kernel, unpacked and never installed, and the modules that containers need, in the order
//! in which they load.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Names the newest cloud kernel's package.
const META: &str = "linux-image-cloud-amd64";
/// What the kernel would otherwise ask modprobe for. What they need comes along.
const WANTED: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "overlay",
    "veth",
    "bridge",
    "br_netfilter",
    "nf_tables",
    "nf_conntrack",
    "nf_nat",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_ct",
    "nft_redir",
    "nft_fib",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "nft_fib_inet",
    "nft_reject",
    "nft_reject_inet",
    "nft_reject_ipv4",
    "nft_log",
    "nft_limit",
    "nft_numgen",
    "nft_hash",
    "nft_objref",
    "nf_conntrack_netlink",
    "nfnetlink",
    "tun",
];

/// An unpacked kernel.
pub struct Kernel {
    pub image: PathBuf,
    pub release: String,
    modules: HashMap<String, PathBuf>,
}

impl Kernel {
    /// Downloads the package once; later runs take what is there.
    pub fn fetch(place: &Path) -> Result<Self> {
        let root = place.join("kernel");
        if !root.join("boot").exists() {
            let package = package()?;
            let mut download = Command::new("apt-get");
            ensure!(
                download.args(["download", &package]).current_dir(place).status()?.success(),
                "apt-get download {package}"
            );
            let deb = files(place)?.into_iter().find(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(&format!("{package}_")) && name.ends_with(".deb")
            });
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(deb.context("the package was not downloaded")?).arg(&root);
            ensure!(unpack.status()?.success(), "dpkg-deb -x {package}");
        }
        let found = files(&root.join("boot"))?.into_iter().find_map(|path| {
            let release = path.file_name()?.to_str()?.strip_prefix("vmlinuz-")?.to_owned();
            Some((path, release))
        });
        let (image, release) = found.context("the package has no vmlinuz")?;
        let mut modules = HashMap::new();
        collect(&root.join("lib/modules").join(&release), &mut modules)?;
        Ok(Self { image, release, modules })
    }

    /// The modules' files, each behind those that it needs.
    pub fn modules(&self) -> Result<Vec<PathBuf>> {
        let mut order = Vec::new();
        for name in WANTED {
            // Built in, or of another kernel version's making: a case that needs it will tell.
            if self.modules.contains_key(*name) {
                self.push(name, &mut order)?;
            }
        }
        Ok(order)
    }

    fn push(&self, name: &str, order: &mut Vec<PathBuf>) -> Result<()> {
        let path = self.modules.get(name).with_context(|| format!("no module {name}"))?;
        if order.contains(path) {
            return Ok(());
        }
        for needed in needs(&std::fs::read(path)?) {
            self.push(&needed, order)?;
        }
        order.push(path.clone());
        Ok(())
    }
}

/// The package that the meta package stands for.
fn package() -> Result<String> {
    let output = Command::new("apt-cache").args(["depends", "--no-recommends", META]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    found.map(str::to_owned).with_context(|| format!("apt knows no {META}: {text}"))
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn collect(dir: &Path, found: &mut HashMap<String, PathBuf>) -> Result<()> {
    for path in files(dir)? {
        if path.is_dir() && !path.is_symlink() {
            collect(&path, found)?;
        } else if let Some(name) = path.file_name().and_then(|n| n.to_str()?.strip_suffix(".ko")) {
            found.insert(name.replace('-', "_"), path.clone());
        }
    }
    Ok(())
}

/// The module's `depends=` of its `.modinfo` section, which is plain text between zero bytes.
fn needs(module: &[u8]) -> Vec<String> {
    let mut words = module.split(|byte| *byte == 0);
    let list = words.find_map(|word| word.strip_prefix(b"depends="));
    let list = String::from_utf8_lossy(list.unwrap_or_default()).into_owned();
    list.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::needs;

    #[test]
    fn needs_are_read_from_modinfo() {
        assert_eq!(needs(b"\x7fELF\0license=GPL\0depends=nf_tables,nf-nat\0x"), ["nf_tables", "nf_nat"]);
        assert!(needs(b"\0depends=\0").is_empty());
    }
}
