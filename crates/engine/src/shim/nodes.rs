//! Device nodes outside of `/dev`, which libcontainer (0.7, `rootfs/device.rs`) refuses.
//!
//! They are made before it runs, in the container's tree or in what will be mounted over it there; what is in a memory file
//! system comes once that is mounted. As with runc, something that is there already stays.

use std::{
    fs,
    path::{Path, PathBuf},
};

use libcontainer::oci_spec::runtime::{LinuxDevice, LinuxDeviceType, LinuxIdMapping, Spec};
use rustix::{
    fs::{AtFlags, CWD, FileType, Gid, Mode, Uid},
    io::Errno,
};

use super::{guard::Tree, types::Fault};
use crate::volumes::make_inside;

/// A node to be made.
#[derive(Debug)]
pub(super) struct Node {
    path: PathBuf,
    kind: FileType,
    number: u64,
    mode: u32,
    owner: (u32, u32),
}

/// Takes such nodes out of the specification and makes them; what is returned is to be made in the container.
pub(super) fn make(tree: &Tree, oci: &mut Spec) -> Result<Vec<Node>, Fault> {
    let Some(mut linux) = oci.linux().clone() else { return Ok(Vec::new()) };
    let (mut kept, mut late) = (Vec::new(), Vec::new());
    let owner = (zero(linux.uid_mappings().as_ref()), zero(linux.gid_mappings().as_ref()));
    for mut device in linux.devices().clone().unwrap_or_default() {
        let real = tree.resolve(device.path()).map_err(|e| fault(device.path(), &e))?;
        device.set_path(real.clone());
        if real.starts_with("/dev") {
            // A mount is there already.
            if !tree.is_covered(&real) {
                kept.push(device);
            }
            continue;
        }
        match tree.place(&real) {
            Some((root, inside)) => Node::new(&device, owner).make_in(root, inside, owner)?,
            None => late.push(Node::new(&device, (0, 0))),
        }
    }
    linux.set_devices(Some(kept));
    oci.set_linux(Some(linux));
    Ok(late)
}

/// The host's id for the container's root.
fn zero(maps: Option<&Vec<LinuxIdMapping>>) -> u32 {
    maps.into_iter().flatten().find(|map| map.container_id() == 0).map_or(0, LinuxIdMapping::host_id)
}

impl Node {
    /// `root` owns what the host's root would own.
    fn new(device: &LinuxDevice, root: (u32, u32)) -> Self {
        let kind = match device.typ() {
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::P => FileType::Fifo,
            _ => FileType::CharacterDevice,
        };
        let number = |n: i64| u32::try_from(n).unwrap_or_default();
        Self {
            path: device.path().clone(),
            kind,
            number: rustix::fs::makedev(number(device.major()), number(device.minor())),
            mode: device.file_mode().unwrap_or(0o666),
            owner: (
                device.uid().filter(|id| *id != 0).unwrap_or(root.0),
                device.gid().filter(|id| *id != 0).unwrap_or(root.1),
            ),
        }
    }

    /// Makes it in a tree of the host, without leaving that whatever links are put there meanwhile.
    fn make_in(&self, root: &Path, inside: &Path, owner: (u32, u32)) -> Result<(), Fault> {
        let (Some(parent), Some(name)) = (inside.parent(), inside.file_name()) else { return Ok(()) };
        let dir = make_inside(root, &parent.to_string_lossy(), owner).map_err(|e| fault(&self.path, &e))?;
        self.make_at(&dir, Path::new(name)).map_err(|e| fault(&self.path, &e.into()))
    }

    /// Makes it at its path; the calling process is in the container, and privileged.
    pub(super) fn make_here(&self) -> Result<(), Fault> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).map_err(|e| fault(&self.path, &e))?;
        self.make_at(CWD, &self.path).map_err(|e| fault(&self.path, &e.into()))
    }

    fn make_at(&self, dir: impl std::os::fd::AsFd, name: &Path) -> Result<(), Errno> {
        // The mode comes with the node: to set it by name could change what was put in its place.
        let umask = rustix::process::umask(Mode::empty());
        let made =
            rustix::fs::mknodat(&dir, name, self.kind, Mode::from_raw_mode(self.mode & 0o7777), self.number);
        rustix::process::umask(umask);
        match made {
            Err(Errno::EXIST) => Ok(()),
            Ok(()) => {
                let (uid, gid) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
                rustix::fs::chownat(&dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            }
            failed => failed,
        }
    }
}

fn fault(path: &Path, error: &std::io::Error) -> Fault {
    Fault::init(&format!("error creating device nodes: mknod {}: {error}", path.display()))
}
