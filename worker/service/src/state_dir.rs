//! The worker's state directory: one worker at a time, and nothing of a worker that died.
//!
//! ```text
//! lock    held for as long as the worker lives
//! cache/  snapshots: kept
//! slots/  one directory for each running VM: swept
//! work/   one directory for each running job: swept
//! ```
//!
//! What always holds: the whole directory can be deleted between two jobs.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// Another worker uses it.
    #[error("state: another worker uses {}", .0.display())]
    InUse(PathBuf),
    /// It cannot be made, locked or swept.
    #[error("state: {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which path.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// A locked and swept state directory.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes it if it is not there, locks it, and removes what a worker that died left behind. The VMs of such a worker died
    /// with it.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        create(path)?;
        // What is in it is other people's code and secrets of theirs: not even a VMM's user may look.
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(path, private).map_err(failed("close to others", path))?;
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path).map_err(failed("create", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateDirError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed("lock", &lock_path)(source)),
        }
        let state = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        for swept in [state.slots(), state.work()] {
            match std::fs::remove_dir_all(&swept) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("sweep", &swept)(error)),
            }
            create(&swept)?;
        }
        create(&state.cache())?;
        Ok(state)
    }

    /// Where snapshots are kept.
    pub fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }

    /// Where VMs have their slots.
    pub fn slots(&self) -> PathBuf {
        self.path.join("slots")
    }

    /// Where jobs have their scratch files.
    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }
}

fn create(path: &Path) -> Result<(), StateDirError> {
    std::fs::create_dir_all(path).map_err(failed("create", path))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateDirError {
    let path = path.to_owned();
    move |source| StateDirError::Io {
        doing,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_worker_left_is_swept_and_its_cache_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        for left in ["slots/vm-1", "work/job-1", "cache/snapshots"] {
            std::fs::create_dir_all(dir.path().join(left)).unwrap();
        }
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(state.slots()).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(state.work()).unwrap().count(), 0);
        assert!(state.cache().join("snapshots").is_dir());
    }

    #[test]
    fn two_workers_do_not_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        assert!(matches!(
            StateDir::open(dir.path()),
            Err(StateDirError::InUse(_))
        ));
        drop(first);
        StateDir::open(dir.path()).unwrap();
    }
}
