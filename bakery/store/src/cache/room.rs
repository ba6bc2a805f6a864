//! Making room: what was used longest ago leaves, what is in use stays.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing::{info, warn};

use super::{Cache, Downloading, USED_FILE, entries, forget, remove};
use crate::error::StoreError;
use crate::lock;

/// A download that nobody works on, locked.
pub(super) struct Partial {
    pub(super) path: PathBuf,
    pub(super) used: SystemTime,
    pub(super) locked: File,
    lock_path: PathBuf,
}

/// Something that takes room.
struct Occupant {
    path: PathBuf,
    used: SystemTime,
    bytes: u64,
    kind: OccupantKind,
}

enum OccupantKind {
    Snapshot,
    Partial(Partial),
}

impl Cache {
    /// Makes room for `bytes` more within the limit, as far as what is not in use takes it. `download` is the one that they
    /// are for: what it has already counts as a part of them.
    pub(crate) fn make_room(&self, bytes: u64, download: &Downloading) -> Result<(), StoreError> {
        let alone = self.lock_room()?;
        let mut occupants = self.occupants()?;
        occupants.sort_by_key(|occupant| occupant.used);
        let busy = self.busy_bytes(&occupants, download)?;
        let mut taken: u64 = busy + occupants.iter().map(|occupant| occupant.bytes).sum::<u64>();
        let mut gone = Vec::new();
        for occupant in occupants {
            if taken.saturating_add(bytes) <= self.max_bytes {
                break;
            }
            let (room, path) = (occupant.bytes, occupant.path.clone());
            match self.evict(occupant) {
                Ok(Some(discarded)) => {
                    info!(path = %path.display(), bytes = room, "left the cache");
                    gone.push(discarded);
                    taken -= room;
                }
                Ok(None) => {}
                Err(error) => warn!(path = %path.display(), %error, "cannot leave the cache"),
            }
        }
        drop(alone);
        for discarded in gone {
            remove(&discarded);
        }
        if taken.saturating_add(bytes) > self.max_bytes {
            let limit = self.max_bytes;
            info!(
                taken,
                bytes, limit, "the cache exceeds its limit: all that is left is in use"
            );
        }
        Ok(())
    }

    /// The directories of the snapshots that were used last, at most that many. They may leave at any time.
    pub(crate) fn latest(&self, most: usize) -> Result<Vec<PathBuf>, StoreError> {
        let mut found = self.snapshots_by_use()?;
        found.sort_by_key(|(_, used)| Reverse(*used));
        Ok(found.into_iter().take(most).map(|(path, _)| path).collect())
    }

    pub(super) fn lock_room(&self) -> Result<File, StoreError> {
        let path = self.root.join("room.lock");
        lock::alone(&path).map_err(StoreError::disk(format!("lock {}", path.display())))
    }

    /// Downloads that nobody works on.
    pub(super) fn unused_partials(&self) -> Result<Vec<Partial>, StoreError> {
        let mut partials = Vec::new();
        for lock_path in entries(&self.partials())? {
            if lock_path
                .extension()
                .is_none_or(|extension| extension != "lock")
            {
                continue;
            }
            let opened = lock::try_alone(&lock_path).and_then(|locked| {
                let Some(locked) = locked else {
                    return Ok(None);
                };
                let used = locked.metadata()?.modified()?;
                Ok(Some((locked, used)))
            });
            let opened =
                opened.map_err(StoreError::disk(format!("lock {}", lock_path.display())))?;
            if let Some((locked, used)) = opened {
                partials.push(Partial {
                    path: lock_path.with_extension(""),
                    used,
                    locked,
                    lock_path,
                });
            }
        }
        Ok(partials)
    }

    /// Everything that may have to leave.
    fn occupants(&self) -> Result<Vec<Occupant>, StoreError> {
        let snapshots = self.snapshots_by_use()?.into_iter();
        let mut occupants: Vec<_> = snapshots
            .map(|(path, used)| Occupant {
                bytes: blocks(&path),
                path,
                used,
                kind: OccupantKind::Snapshot,
            })
            .collect();
        for partial in self.unused_partials()? {
            occupants.push(Occupant {
                path: partial.path.clone(),
                used: partial.used,
                bytes: blocks(&partial.path),
                kind: OccupantKind::Partial(partial),
            });
        }
        Ok(occupants)
    }

    /// What downloads take that others work on.
    fn busy_bytes(&self, occupants: &[Occupant], own: &Downloading) -> Result<u64, StoreError> {
        let busy = entries(&self.partials())?.into_iter().filter(|path| {
            *path != own.directory && !occupants.iter().any(|occupant| occupant.path == *path)
        });
        Ok(busy.map(|path| blocks(&path)).sum())
    }

    fn snapshots_by_use(&self) -> Result<Vec<(PathBuf, SystemTime)>, StoreError> {
        let found = entries(&self.snapshots())?.into_iter().map(|path| {
            let used = path.join(USED_FILE).symlink_metadata();
            let used = used.and_then(|used| used.modified());
            // One without a mark was put there by nobody we know: it leaves first.
            (path, used.unwrap_or(SystemTime::UNIX_EPOCH))
        });
        Ok(found.collect())
    }

    /// Moves an occupant out of sight unless it is in use.
    fn evict(&self, occupant: Occupant) -> io::Result<Option<PathBuf>> {
        match occupant.kind {
            OccupantKind::Snapshot => {
                let Some(_alone) = lock::try_alone(&occupant.path.join(USED_FILE))? else {
                    return Ok(None);
                };
                self.out(&occupant.path).map(Some)
            }
            OccupantKind::Partial(partial) => {
                let discarded = self.out(&partial.path)?;
                forget(&partial.lock_path);
                drop(partial.locked);
                Ok(Some(discarded))
            }
        }
    }
}

impl Partial {
    /// Removes what there is of the download, and then its lock.
    pub(super) fn abandon(self) {
        remove(&self.path);
        forget(&self.lock_path);
    }
}

/// What a file or a directory with files takes on the disk: holes are free. What vanishes meanwhile takes nothing.
fn blocks(path: &Path) -> u64 {
    let own = path.symlink_metadata();
    let own = own.map_or(0, |metadata| metadata.blocks() * 512);
    let inner = fs::read_dir(path).into_iter().flatten().flatten();
    own + inner
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.blocks() * 512)
        .sum::<u64>()
}
