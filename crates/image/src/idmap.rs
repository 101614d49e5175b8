//! Owners shifted into a range of host ids, for hosts that run containers in a user namespace (`userns-remap`).

use crate::error::{ImageError, Result};

/// Container ids 0.. become host ids `uid`.. and `gid`.., `length` of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMap {
    /// Host uid of the container's root.
    pub uid: u32,
    /// Host gid of the container's root.
    pub gid: u32,
    /// How many ids follow.
    pub length: u32,
}

impl IdMap {
    /// Owner in the archive to owner on disk.
    pub(crate) fn to_host(self, uid: u32, gid: u32) -> Result<(u32, u32)> {
        let shift = |id: u32, base: u32| {
            base.checked_add(id).filter(|_| id < self.length).ok_or_else(|| {
                ImageError::Unsupported(format!("owner {id} beyond the {} ids of userns-remap", self.length))
            })
        };
        Ok((shift(uid, self.uid)?, shift(gid, self.gid)?))
    }

    /// Owner on disk to owner in an archive; ids outside the range become the overflow id 65534.
    pub(crate) fn to_image(self, uid: u32, gid: u32) -> (u32, u32) {
        let back = |id: u32, base: u32| id.checked_sub(base).filter(|i| *i < self.length).unwrap_or(65534);
        (back(uid, self.uid), back(gid, self.gid))
    }
}
