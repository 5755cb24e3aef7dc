//! What a folder's file system has left, and what of that the service keeps.

use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use nix::sys::statvfs::statvfs;
use std::path::Path;

/// The service's own part of a disk, in percent of the whole, that no dump takes...
const KEPT_PERCENT: u64 = 5;
/// ... but not more than this: a host's disk is large, and full of images. Bytes.
const KEPT_AT_MOST: u64 = 1 << 30;

/// The room on a file system. Bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// For anybody who is not root (`statvfs(3)`, `f_bavail`).
    pub(super) free: u64,
    /// What of it is left to the service.
    pub(super) kept: u64,
}

impl Room {
    /// None where the kernel does not tell: then the writing itself will.
    pub(super) fn at(folder: &Path) -> Option<Self> {
        // ramfs counts no blocks, as little as a tmpfs without a limit does.
        let space = statvfs(folder).ok().filter(|space| space.blocks() > 0)?;
        let block = space.fragment_size();
        Some(Self::new(space.blocks().saturating_mul(block), space.blocks_available().saturating_mul(block)))
    }

    fn new(whole: u64, free: u64) -> Self {
        Self { free, kept: (whole / 100 * KEPT_PERCENT).min(KEPT_AT_MOST) }
    }

    pub(super) fn holds(self, size: u64) -> bool {
        size <= self.free.saturating_sub(self.kept)
    }
}

/// Files there count as the container's own memory (`tmpfs(5)`).
pub(super) fn is_in_memory(folder: &Path) -> bool {
    statfs(folder).is_ok_and(|system| {
        let kind = system.filesystem_type();
        kind == TMPFS_MAGIC || kind == RAMFS_MAGIC
    })
}

/// `include/uapi/linux/magic.h`; nix has no name for it.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6_u32 as _);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_keeps_a_share_and_a_large_one_a_gigabyte() {
        let small = Room::new(1000 << 20, 60 << 20);
        assert!(small.holds(10 << 20));
        assert!(!small.holds(11 << 20));
        let large = Room::new(252 << 30, 9 << 30);
        assert!(large.holds(8 << 30));
        assert!(!large.holds((8 << 30) + 1));
        assert!(!Room::new(252 << 30, 1 << 20).holds(1));
    }
}
