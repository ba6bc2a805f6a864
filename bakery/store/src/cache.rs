//! Snapshots on this machine's disk, within a limit.
//!
//! ```text
//! <root>/snapshots/<manifest digest>/      manifest.json and the snapshot's files: whole, verified, read-only
//! <root>/snapshots/<manifest digest>/used  locked shared by whoever uses the snapshot; its time is the last use
//! <root>/partial/<manifest digest>/        a download under way, or what is left of one; the next continues it
//! <root>/partial/<manifest digest>.lock    locked by who downloads it
//! <root>/room.lock                         locked by who makes room, discards or sweeps
//! <root>/discarded/<random>/               on its way out
//! ```
//!
//! What always holds: a directory under `snapshots` was whole when it came there, for that was by a rename; and it leaves by
//! a rename too, which only happens under its lock, so never while it is in use, unless it is damaged. Several processes
//! may share a root.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use schemas::Sha256Digest;
use tracing::warn;

use crate::error::StoreError;
use crate::lock;

mod room;
#[cfg(test)]
mod tests;

/// A file of a snapshot's directory that no file of a snapshot may be named like: the lock of those who use it.
pub(crate) const USED_FILE: &str = "used";

/// 24 h: a download that was not continued for so long is not waited for any more.
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
    root: PathBuf,
    max_bytes: u64,
}

/// Keeps a cached snapshot where it is, in every process, for as long as a clone of it lives.
#[derive(Debug, Clone)]
pub(crate) struct InUse {
    _used: Arc<Used>,
}

#[derive(Debug)]
struct Used(File);

impl InUse {
    /// For a snapshot that is used from now on.
    fn new(locked: File) -> Self {
        let used = Used(locked);
        used.note();
        Self {
            _used: Arc::new(used),
        }
    }
}

impl Used {
    /// Notes that the snapshot is used now. That it cannot be noted only makes it leave earlier.
    fn note(&self) {
        if let Err(error) = self.0.set_modified(SystemTime::now()) {
            warn!(%error, "cannot note the use of a cached snapshot");
        }
    }
}

/// The end of a use counts as a use.
impl Drop for Used {
    fn drop(&mut self) {
        self.note();
    }
}

impl Cache {
    /// Opens the cache, made if absent, and sweeps what dead processes left.
    pub(crate) fn open(config: &CacheConfig) -> Result<Self, StoreError> {
        let cache = Self {
            root: config.directory.clone(),
            max_bytes: config.max_bytes,
        };
        cache.make()?;
        cache.sweep(SystemTime::now())?;
        Ok(cache)
    }

    /// Makes its directories where they are not there: an operator may delete the cache at any time that nothing uses it.
    fn make(&self) -> Result<(), StoreError> {
        for directory in [self.snapshots(), self.partials(), self.discarded()] {
            fs::create_dir_all(&directory)
                .map_err(StoreError::disk(format!("make {}", directory.display())))?;
        }
        Ok(())
    }

    /// Where the snapshot of that manifest is, if it is here, and what keeps it there.
    pub(crate) fn find(&self, manifest: &Sha256Digest) -> io::Result<Option<(PathBuf, InUse)>> {
        let path = self.snapshot(manifest);
        match lock::shared(&path.join(USED_FILE)) {
            Ok(locked) => Ok(Some((path, InUse::new(locked)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the snapshot of that manifest away, if it is here, since it is damaged. Who has its files open keeps them.
    pub(crate) fn discard(&self, manifest: &Sha256Digest) -> Result<(), StoreError> {
        self.make()?;
        let path = self.snapshot(manifest);
        let alone = self.lock_room()?;
        let discarded = self
            .out(&path)
            .map_err(StoreError::disk(format!("discard {}", path.display())))?;
        drop(alone);
        remove(&discarded);
        Ok(())
    }

    /// Waits until nobody else downloads the snapshot of that manifest, in this process or another.
    pub(crate) async fn lock(&self, manifest: &Sha256Digest) -> Result<Downloading, StoreError> {
        self.make()?;
        let path = self.partial(manifest).with_extension("lock");
        let locked = lock::alone_in_time(&path).await;
        let locked = locked.map_err(StoreError::disk(format!("lock {}", path.display())))?;
        Ok(Downloading {
            directory: self.partial(manifest),
            path,
            locked,
        })
    }

    /// Makes a whole download the snapshot of that manifest, and returns where it is now and what keeps it there.
    pub(crate) fn install(
        &self,
        whole: &Path,
        manifest: &Sha256Digest,
    ) -> Result<(PathBuf, InUse), StoreError> {
        let path = self.snapshot(manifest);
        let installed = self.rename(whole, &path);
        let locked = installed.map_err(StoreError::disk(format!("install {}", path.display())))?;
        Ok((path, InUse::new(locked)))
    }

    /// Locked before it is to be seen, so that it cannot leave in between.
    fn rename(&self, whole: &Path, path: &Path) -> io::Result<File> {
        let locked = lock::shared(&whole.join(USED_FILE))?;
        File::open(whole)?.sync_all()?;
        fs::rename(whole, path)?;
        File::open(self.snapshots())?.sync_all()?;
        Ok(locked)
    }

    /// Moves a directory, or what else stands there, out of sight; it may be gone already. Removing it is another matter.
    /// Only for who holds the lock for room: a sweep of another process would take the place that it is moved to for a dead one's.
    fn out(&self, path: &Path) -> io::Result<PathBuf> {
        let discarded = tempfile::tempdir_in(self.discarded())?.keep();
        match fs::rename(path, discarded.join("discarded")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            // Another process may have been first.
            Err(_) | Ok(()) => Ok(discarded),
        }
    }

    fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    fn discarded(&self) -> PathBuf {
        self.root.join("discarded")
    }

    fn snapshot(&self, manifest: &Sha256Digest) -> PathBuf {
        self.snapshots().join(manifest.to_string())
    }

    fn partial(&self, manifest: &Sha256Digest) -> PathBuf {
        self.partials().join(manifest.to_string())
    }

    /// Removes what was discarded and not removed, and downloads that nobody continued for [`ABANDONED`] before `now`.
    fn sweep(&self, now: SystemTime) -> Result<(), StoreError> {
        let _alone = self.lock_room()?;
        for entry in entries(&self.discarded())? {
            remove(&entry);
        }
        for partial in self.unused_partials()? {
            if now
                .duration_since(partial.used)
                .is_ok_and(|age| age > ABANDONED)
            {
                partial.abandon();
            }
        }
        Ok(())
    }
}

/// The right to download one snapshot: nobody else does so while it lives.
#[derive(Debug)]
pub(crate) struct Downloading {
    /// Where to download it to; what a download before this one left is there.
    pub(crate) directory: PathBuf,
    path: PathBuf,
    locked: File,
}

impl Downloading {
    /// The download is in the cache: nobody needs the lock any more.
    pub(crate) fn done(&self) {
        forget(&self.path);
    }

    /// Notes that the download goes on.
    pub(crate) fn touch(&self) {
        if let Err(error) = self.locked.set_modified(SystemTime::now()) {
            warn!(%error, "cannot note that a download goes on");
        }
    }
}

/// The paths of what is in a directory.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let listed = fs::read_dir(directory).and_then(|entries| {
        entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect()
    });
    listed.map_err(StoreError::disk(format!("list {}", directory.display())))
}

/// Removes a directory or a file with what is in it. One that cannot be removed is in nobody's way: it is named in the log
/// and left.
fn remove(path: &Path) {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(path = %path.display(), %error, "cannot remove what the cache does not need");
        }
        Err(_) | Ok(()) => {}
    }
}

/// Removes a lock's file; whoever waits for it finds that it is gone.
fn forget(lock: &Path) {
    remove(lock);
}
