//! Snapshots on this machine's disk.
//!
//! ```text
//! <root>/snapshots/<manifest digest>/   manifest.json and the snapshot's files: whole, verified, read-only
//! <root>/partial/<random>/              a download under way, or what a dead process left
//! ```
//!
//! What always holds: a directory under `snapshots` was whole when it came there, for that was by a rename; and one that
//! is not any more, after a disk's failure or a person's hand, leaves by a rename too. Several processes may share
//! a root: whoever renames first wins, and the other's copy, equal to it, is thrown away.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use schemas::Sha256Digest;
use tempfile::TempDir;
use tracing::{info, warn};

use crate::error::StoreError;

/// 24 h: no download takes as long, so a partial directory of that age has lost its process.
const ABANDONED: Duration = Duration::from_hours(24);

/// Where snapshots lie on this machine, and how much room they may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheConfig {
    /// The directory, made if absent; several processes may share it.
    pub directory: PathBuf,
    /// Blocks on the disk, in bytes, that snapshots and downloads may take together. A snapshot that is larger by itself is
    /// fetched all the same, once everything unused has left.
    pub max_bytes: u64,
}

/// The directory that holds snapshots.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    snapshots: PathBuf,
    partial: PathBuf,
}

impl Cache {
    /// Opens the cache in `root`, made if absent, and sweeps what dead processes left.
    pub(crate) fn open(root: &Path) -> Result<Self, StoreError> {
        let cache = Self {
            snapshots: root.join("snapshots"),
            partial: root.join("partial"),
        };
        cache.make()?;
        cache
            .sweep(SystemTime::now())
            .map_err(StoreError::disk(format!(
                "sweep {}",
                cache.partial.display()
            )))?;
        Ok(cache)
    }

    /// Makes its directories where they are not there: an operator may delete the cache at any time that nothing uses it.
    fn make(&self) -> Result<(), StoreError> {
        for directory in [&self.snapshots, &self.partial] {
            fs::create_dir_all(directory)
                .map_err(StoreError::disk(format!("make {}", directory.display())))?;
        }
        Ok(())
    }

    /// Where the snapshot of that manifest is, if it is here.
    pub(crate) fn find(&self, manifest: &Sha256Digest) -> Option<PathBuf> {
        Some(self.path(manifest)).filter(|path| path.symlink_metadata().is_ok())
    }

    /// Takes the snapshot of that manifest away, if it is here. Who has its files open keeps them.
    pub(crate) fn discard(&self, manifest: &Sha256Digest) -> Result<(), StoreError> {
        let path = self.path(manifest);
        let discarded = self.partial()?;
        match fs::rename(&path, discarded.path().join("discarded")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::disk(
                format!("discard {}", path.display()),
            )(error)),
            // Another process may have been first.
            Err(_) | Ok(()) => Ok(()),
        }
    }

    /// A new directory to download into; it goes with the value unless it is installed.
    pub(crate) fn partial(&self) -> Result<TempDir, StoreError> {
        self.make()?;
        tempfile::tempdir_in(&self.partial).map_err(StoreError::disk(format!(
            "make a directory in {}",
            self.partial.display()
        )))
    }

    /// The directory for unnamed temporary files: on the same filesystem as the snapshots.
    pub(crate) fn scratch(&self) -> Result<&Path, StoreError> {
        self.make()?;
        Ok(&self.partial)
    }

    /// Makes a whole download the snapshot of that manifest, and returns where it is now.
    pub(crate) fn install(
        &self,
        whole: TempDir,
        manifest: &Sha256Digest,
    ) -> Result<PathBuf, StoreError> {
        let path = self.path(manifest);
        let renamed = self.rename(whole.path(), &path);
        renamed.map_err(StoreError::disk(format!("install {}", path.display())))?;
        // After the rename there is nothing left to remove, unless another process was first.
        drop(whole);
        Ok(path)
    }

    fn rename(&self, whole: &Path, path: &Path) -> io::Result<()> {
        File::open(whole)?.sync_all()?;
        match fs::rename(whole, path) {
            Err(error) if says_first(&error) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => File::open(&self.snapshots)?.sync_all(),
        }
    }

    fn path(&self, manifest: &Sha256Digest) -> PathBuf {
        self.snapshots.join(manifest.to_string())
    }

    /// Removes partial directories that were begun [`ABANDONED`] before `now`. One that cannot be removed is in nobody's
    /// way: it is named in the log and left.
    fn sweep(&self, now: SystemTime) -> io::Result<()> {
        for entry in fs::read_dir(&self.partial)? {
            let path = entry?.path();
            let abandoned = fs::symlink_metadata(&path)
                .and_then(|metadata| metadata.modified())
                .is_ok_and(|begun| now.duration_since(begun).is_ok_and(|age| age > ABANDONED));
            if !abandoned {
                continue;
            }
            match fs::remove_dir_all(&path) {
                Ok(()) => info!(path = %path.display(), "removed an abandoned download"),
                Err(error) => {
                    warn!(path = %path.display(), %error, "cannot remove an abandoned download");
                }
            }
        }
        Ok(())
    }
}

/// Whether a rename failed since there is such a directory already: filesystems have two words for it.
fn says_first(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (TempDir, Cache) {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open(root.path()).unwrap();
        (root, cache)
    }

    #[test]
    fn a_snapshot_is_found_once_it_is_installed() {
        let (_root, cache) = cache();
        let digest = Sha256Digest::of("manifest");
        assert_eq!(cache.find(&digest), None);
        let partial = cache.partial().unwrap();
        fs::write(partial.path().join("memory"), "bytes").unwrap();
        assert_eq!(cache.find(&digest), None);
        let path = cache.install(partial, &digest).unwrap();
        assert_eq!(cache.find(&digest), Some(path.clone()));
        assert_eq!(fs::read(path.join("memory")).unwrap(), b"bytes");
        assert_eq!(fs::read_dir(&cache.partial).unwrap().count(), 0);
    }

    #[test]
    fn the_second_of_two_processes_that_install_one_snapshot_takes_the_firsts() {
        let (_root, cache) = cache();
        let digest = Sha256Digest::of("manifest");
        for text in ["first", "second"] {
            let partial = cache.partial().unwrap();
            fs::write(partial.path().join("memory"), text).unwrap();
            cache.install(partial, &digest).unwrap();
        }
        let path = cache.find(&digest).unwrap();
        assert_eq!(fs::read(path.join("memory")).unwrap(), b"first");
        assert_eq!(fs::read_dir(&cache.partial).unwrap().count(), 0);
    }

    #[test]
    fn either_word_for_a_directory_that_is_there_is_understood() {
        const ENOTEMPTY: i32 = 39;
        const EEXIST: i32 = 17;
        const ENOSPC: i32 = 28;
        for (number, first) in [(ENOTEMPTY, true), (EEXIST, true), (ENOSPC, false)] {
            assert_eq!(says_first(&io::Error::from_raw_os_error(number)), first);
        }
    }

    #[test]
    fn what_is_discarded_is_gone_and_may_be_so_already() {
        let (_root, cache) = cache();
        let digest = Sha256Digest::of("manifest");
        let path = cache.install(cache.partial().unwrap(), &digest).unwrap();
        for _ in 0..2 {
            cache.discard(&digest).unwrap();
            assert!(!path.exists());
            assert_eq!(fs::read_dir(&cache.partial).unwrap().count(), 0);
        }
    }

    #[test]
    fn what_a_dead_process_left_is_swept_after_a_day_and_not_before() {
        let (_root, cache) = cache();
        let left = cache.partial().unwrap().keep();
        fs::write(left.join("memory"), "half").unwrap();
        let begun = fs::metadata(&left).unwrap().modified().unwrap();
        cache.sweep(begun + ABANDONED).unwrap();
        assert!(left.exists());
        cache
            .sweep(begun + ABANDONED + Duration::from_secs(1))
            .unwrap();
        assert!(!left.exists());
    }
}
