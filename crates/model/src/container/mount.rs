//! What is mounted into a container.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Labels};

/// Mount propagation (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// No events pass; nested mounts come along (`MS_PRIVATE | MS_REC`).
    #[default]
    RPrivate,
    /// As `RPrivate` without recursion.
    Private,
    /// Events pass both ways, recursively.
    RShared,
    /// Events pass both ways.
    Shared,
    /// Events pass in, recursively.
    RSlave,
    /// Events pass in.
    Slave,
}

impl Propagation {
    /// The lower-case word, as mount options write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RPrivate => "rprivate",
            Self::Private => "private",
            Self::RShared => "rshared",
            Self::Shared => "shared",
            Self::RSlave => "rslave",
            Self::Slave => "slave",
        }
    }
}

/// How far a read-only bind reaches into the mounts below its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadOnlyDepth {
    /// To all of them where the kernel can (mount_setattr(2), 5.12), else to the top alone.
    #[default]
    Best,
    /// To the top alone.
    Top,
    /// To all of them, or the container does not start.
    All,
}

/// Options of a tmpfs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TmpfsOptions {
    /// Bytes; 0 for the kernel's default.
    pub size: i64,
    /// Permission bits; 0 for the default 1777.
    pub mode: u32,
    /// Options as written in the short notation (`rw,noexec,size=64k`), or one `[key, value]` a pair.
    pub options: String,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A path of the host.
    Bind {
        /// Absolute path on the host.
        source: String,
        /// Make the source as a directory when it is missing.
        create: bool,
        /// Leave mounts below the source behind.
        non_recursive: bool,
        /// How far `read_only` reaches.
        #[serde(default)]
        depth: ReadOnlyDepth,
    },
    /// A volume.
    Volume {
        /// Its name.
        name: String,
        /// Made for this container alone.
        anonymous: bool,
        /// Do not copy the image's content into it.
        no_copy: bool,
        /// Directory inside the volume; the volume's root when empty.
        subpath: String,
        /// Driver of a volume that must be made first; `local` when empty.
        #[serde(default)]
        driver: String,
        /// Driver options of a volume that must be made first.
        #[serde(default)]
        options: BTreeMap<String, String>,
        /// Labels of a volume that must be made first.
        #[serde(default)]
        labels: Labels,
    },
    /// Memory.
    Tmpfs(TmpfsOptions),
    /// An image's content, read-only.
    Image {
        /// The image as written.
        reference: String,
        /// The image it was when the container was made.
        #[serde(default)]
        id: Option<Digest>,
        /// Directory inside the image.
        subpath: String,
    },
}

/// How people wrote the mount, so that it can be shown the same way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notation {
    /// The structured form, as given (JSON).
    Long(serde_json::Value),
    /// `source:target[:mode]`, as given.
    Short(String),
    /// Declared by the image, or by people without a source.
    #[default]
    Implied,
    /// The `tmpfs` map: options as given.
    TmpfsMap(String),
}

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// Absolute path inside.
    pub target: String,
    /// What.
    pub kind: MountKind,
    /// Cannot be written through this mount.
    pub read_only: bool,
    /// Propagation.
    #[serde(default)]
    pub propagation: Propagation,
    /// Mode words of the short notation (`z`, `Z`, `nocopy`, …), as written.
    #[serde(default)]
    pub mode: String,
    /// How it was written.
    #[serde(default)]
    pub notation: Notation,
}
