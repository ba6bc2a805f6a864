//! How large a source archive may be, in every direction in which one can grow.
//!
//! An archive is the work of a stranger: each limit is checked while the bytes stream past, before they cost memory or disk.

use serde::{Deserialize, Serialize};

/// Limits on one source archive. Every field has a default, so a configuration names only what it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Size of the archive as stored, in bytes. Default 2 GiB: ten times the tree of a large repository.
    pub max_archive_bytes: u64,
    /// Size of the archive once decompressed, in bytes. Default 8 GiB: more than a template's free disk.
    pub max_total_bytes: u64,
    /// Files, directories and links, with the directories that only the paths below them imply.
    /// Default 250,000: three times the Linux kernel's tree.
    pub max_entries: u64,
    /// Length of one path or link target, in bytes. Default 4,096: Linux's own `PATH_MAX`.
    pub max_path_bytes: u64,
    /// Decompressed size over stored size. Default 200: source text reaches 10, generated text 100.
    /// The first [`Limits::FREE_BYTES`] are not held to it.
    pub max_ratio: u64,
}

impl Limits {
    /// 16 MiB: what any archive may decompress to, however small it is. An empty tree alone has a ratio of 100.
    pub const FREE_BYTES: u64 = 16 << 20;

    /// 64 MiB: all paths and link targets of one archive together, since they are held in memory.
    pub const INDEX_BYTES: u64 = 64 << 20;

    /// How many bytes an archive of `archive_bytes` may decompress to by its ratio alone.
    pub(crate) fn bytes_by_ratio(&self, archive_bytes: u64) -> u64 {
        archive_bytes
            .saturating_mul(self.max_ratio)
            .max(Self::FREE_BYTES)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_archive_bytes: 2 << 30,
            max_total_bytes: 8 << 30,
            max_entries: 250_000,
            max_path_bytes: 4096,
            max_ratio: 200,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tiny_archive_is_not_held_to_the_ratio() {
        let limits = Limits::default();
        assert_eq!(limits.bytes_by_ratio(100), Limits::FREE_BYTES);
        assert_eq!(limits.bytes_by_ratio(1 << 20), 200 << 20);
        assert_eq!(limits.bytes_by_ratio(u64::MAX), u64::MAX);
    }
}
