//! The merged view of stacked layer directories without mounting them, by overlayfs's rules: the topmost entry wins,
//! directories merge, a whiteout or an opaque directory ends the search.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, Stat, lgetxattr, lstat};

use crate::{
    error::{ImageError, Result},
    unpack::is_whiteout,
};

/// What stands at one path of the merged view.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Where the winning entry lies.
    pub real: PathBuf,
    /// Its attributes.
    pub stat: Stat,
    /// For a directory: all directories that merge into it, topmost first.
    pub dirs: Vec<PathBuf>,
}

pub(crate) fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Whether overlayfs looks no further down at this directory.
pub(crate) fn is_opaque(dir: &Path) -> bool {
    let mut value = [0u8; 4];
    lgetxattr(dir, "trusted.overlay.opaque", &mut value[..]).is_ok_and(|n| value[..n] == *b"y")
}

/// The entry `name` of the directory merged from `dirs` (topmost first).
pub(crate) fn child(dirs: &[PathBuf], name: &OsStr) -> Option<Node> {
    let mut found: Option<Node> = None;
    for dir in dirs {
        let real = dir.join(name);
        let Ok(stat) = lstat(&real) else { continue };
        if is_whiteout(&stat) {
            break;
        }
        let directory = is_dir(&stat);
        match &mut found {
            None => {
                let dirs = if directory { vec![real.clone()] } else { Vec::new() };
                found = Some(Node { real: real.clone(), stat, dirs });
            }
            Some(node) if directory => node.dirs.push(real.clone()),
            Some(_) => break,
        }
        if !directory || is_opaque(&real) {
            break;
        }
    }
    found
}

/// What is at `path` (relative, no link followed) below the merged roots.
pub(crate) fn lookup(roots: &[PathBuf], path: &Path) -> Option<Node> {
    let mut dirs = roots.to_vec();
    let mut node = None;
    for part in path.iter() {
        let next = child(&dirs, part)?;
        dirs.clone_from(&next.dirs);
        node = Some(next);
    }
    node
}

/// All entries of the directory merged from `dirs`, by name.
pub(crate) fn children(dirs: &[PathBuf]) -> Result<BTreeMap<OsString, Node>> {
    let mut names = std::collections::BTreeSet::new();
    for dir in dirs {
        names.extend(names_in(dir)?);
    }
    Ok(names.into_iter().filter_map(|name| child(dirs, &name).map(|node| (name, node))).collect())
}

/// The names in one directory, sorted.
pub(crate) fn names_in(dir: &Path) -> Result<std::collections::BTreeSet<OsString>> {
    let list = std::fs::read_dir(dir).map_err(ImageError::io("reading", dir))?;
    list.map(|e| e.map(|e| e.file_name()).map_err(ImageError::io("reading", dir))).collect()
}
