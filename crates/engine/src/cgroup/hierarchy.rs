//! Where controllers are mounted, and a cgroup's directories in them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The controllers that libcontainer joins (libcgroups 0.7, `v1/controller_type.rs`).
const LIBCONTAINERS: [&str; 12] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "hugetlb",
    "pids",
    "perf_event",
    "memory",
    "blkio",
    "net_prio",
    "net_cls",
    "freezer",
];

/// Why a cgroup cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The path is not a plain absolute one below the root.
    #[error("{0:?} is no cgroup of a container")]
    Path(String),
    /// It is not there (any more).
    #[error("cgroup {path} does not exist")]
    Gone {
        /// The path.
        path: String,
    },
    /// No hierarchy has the controller.
    #[error("this host has no {0} cgroup controller")]
    NoController(&'static str),
    /// Freezing or thawing did not come to an end.
    #[error("cgroup {path} did not become {wanted} in time")]
    Stuck {
        /// The path.
        path: String,
        /// `frozen` or `thawed`.
        wanted: &'static str,
    },
    /// A file of the cgroup.
    #[error("{doing} {path}")]
    Io {
        /// `reading` or `writing VALUE to`.
        doing: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    /// Controllers of a version 1 hierarchy; `None` for version 2.
    controllers: Option<Vec<String>>,
    point: PathBuf,
}

/// The mounted hierarchies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchies {
    mounts: Vec<Mount>,
}

impl Hierarchies {
    /// Finds what is mounted on this host.
    pub fn detect() -> Result<Arc<Self>, CgroupError> {
        let path = PathBuf::from("/proc/self/mountinfo");
        let text = fs::read_to_string(&path).map_err(|source| CgroupError::Io {
            doing: "reading".to_owned(),
            path,
            source,
        })?;
        Ok(Arc::new(Self::parse(&text)))
    }

    pub(super) fn parse(mountinfo: &str) -> Self {
        let mount = |line: &str| {
            let (left, right) = line.split_once(" - ")?;
            let mut left = left.split(' ').skip(3);
            let (root, point) = (left.next()?, left.next()?);
            let mut right = right.split(' ');
            let (kind, options) = (right.next()?, right.nth(1)?);
            let controllers = match kind {
                "cgroup2" => None,
                "cgroup" => Some(options.split(',').map(str::to_owned).collect()),
                _ => return None,
            };
            // A part of a hierarchy, bound elsewhere, is not where containers go.
            (root == "/").then(|| Mount { controllers, point: point.into() })
        };
        Self { mounts: mountinfo.lines().filter_map(mount).collect() }
    }

    /// All controllers are in the one hierarchy of version 2.
    #[must_use]
    pub fn unified(&self) -> bool {
        self.mounts.iter().all(|m| m.controllers.is_none())
    }

    /// Where the hierarchies of version 1 are mounted, each once.
    pub(crate) fn points(&self) -> Vec<&Path> {
        self.each().filter(|(_, controllers)| controllers.is_some()).map(|(point, _)| point).collect()
    }

    /// Hierarchies in which libcontainer makes no cgroup where there is version 1, each once, with what is in them (`None` for
    /// version 2): those with a name instead of controllers (`name=systemd`), those of controllers that it does not know,
    /// and version 2 beside version 1.
    pub(crate) fn left_out(&self) -> Vec<(&Path, Option<&[String]>)> {
        if self.unified() {
            return Vec::new();
        }
        let known = |c: &String| LIBCONTAINERS.contains(&c.as_str());
        self.each().filter(|(_, controllers)| !controllers.is_some_and(|all| all.iter().any(known))).collect()
    }

    pub(super) fn each(&self) -> impl Iterator<Item = (&Path, Option<&[String]>)> {
        let first = |(n, mount): &(usize, &Mount)| {
            !self.mounts[..*n].iter().any(|m| m.controllers == mount.controllers)
        };
        let all = self.mounts.iter().enumerate().filter(first);
        all.map(|(_, mount)| (mount.point.as_path(), mount.controllers.as_deref()))
    }

    /// The cgroup at `path` (such as `/weft/<id>`) in every hierarchy.
    pub fn cgroup(self: &Arc<Self>, path: &str) -> Result<Cgroup, CgroupError> {
        let mut parts = path.strip_prefix('/').into_iter().flat_map(|rest| rest.split('/')).peekable();
        let plain = parts.peek().is_some() && parts.all(|p| !matches!(p, "" | "." | ".."));
        if !plain {
            return Err(CgroupError::Path(path.to_owned()));
        }
        Ok(Cgroup { path: path.to_owned(), hierarchies: Arc::clone(self) })
    }
}

/// A cgroup in every hierarchy.
#[derive(Clone, Debug)]
pub struct Cgroup {
    pub(super) path: String,
    hierarchies: Arc<Hierarchies>,
}

impl Cgroup {
    /// The path, such as `/weft/<id>`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    fn below(&self, mount: &Mount) -> PathBuf {
        mount.point.join(self.path.trim_start_matches('/'))
    }

    /// The directory of a version 1 controller.
    pub(super) fn v1(&self, controller: &str) -> Option<PathBuf> {
        let has = |m: &&Mount| m.controllers.iter().flatten().any(|c| c == controller);
        self.hierarchies.mounts.iter().find(has).map(|m| self.below(m))
    }

    /// The directory in version 2's hierarchy, where it carries the controllers.
    pub(crate) fn v2(&self) -> Option<PathBuf> {
        let unified = self.hierarchies.unified();
        self.hierarchies.mounts.iter().find(|_| unified).map(|m| self.below(m))
    }

    /// The cgroup is there, in at least one hierarchy.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.hierarchies.mounts.iter().any(|m| self.below(m).is_dir())
    }

    /// Pids of all processes in it and in cgroups below it (a container may have made some).
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        let controllers = ["pids", "memory", "freezer", "devices", "cpu", "name=systemd"];
        let dir = self
            .v2()
            .or_else(|| controllers.iter().filter_map(|c| self.v1(c)).find(|d| d.is_dir()))
            .filter(|d| d.is_dir())
            .ok_or_else(|| CgroupError::Gone { path: self.path.clone() })?;
        let mut found = Vec::new();
        collect_pids(&dir, &mut found)?;
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}

/// The path of a process in one hierarchy, from `/proc/PID/cgroup`.
pub(crate) fn place_in<'a>(places: &'a str, controllers: Option<&[String]>) -> Option<&'a str> {
    places.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (names, path) = (parts.next()?, parts.next()?);
        let same = match controllers {
            None => names.is_empty(),
            Some(wanted) => !names.is_empty() && names.split(',').all(|n| wanted.iter().any(|w| w == n)),
        };
        same.then_some(path)
    })
}

fn collect_pids(dir: &Path, found: &mut Vec<u32>) -> Result<(), CgroupError> {
    found.extend(read(&dir.join("cgroup.procs"))?.lines().filter_map(|l| l.parse::<u32>().ok()));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            match collect_pids(&entry.path(), found) {
                // Removed between listing and reading.
                Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
    }
    Ok(())
}

pub(super) fn read(path: &Path) -> Result<String, CgroupError> {
    let fail = |source| CgroupError::Io { doing: "reading".to_owned(), path: path.to_owned(), source };
    fs::read_to_string(path).map_err(fail)
}

pub(super) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    // Opened without creating: a file that the kernel does not offer is not to appear.
    let attempt = || -> io::Result<()> {
        io::Write::write_all(&mut fs::OpenOptions::new().write(true).open(path)?, value.as_bytes())
    };
    let fail =
        |source| CgroupError::Io { doing: format!("writing {value} to"), path: path.to_owned(), source };
    attempt().map_err(fail)
}
