//! Locks on files, which hold between processes and go with the process that holds them.
//!
//! What always holds of a lock that was taken: its file is the one that stands under its path. A file that was renamed or
//! removed between being opened and being locked does not count.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;

use tokio::sync::oneshot;

/// Opens the file at `path`, made if absent.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}

/// Whether `file` is what stands under `path`.
fn stands(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match path.symlink_metadata() {
        Ok(there) => Ok((held.dev(), held.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes the lock at `path` alone, and waits for it as long as it takes. The file is made if absent; its directory is not.
pub(crate) fn alone(path: &Path) -> io::Result<File> {
    loop {
        let file = open(path)?;
        file.lock()?;
        if stands(&file, path)? {
            return Ok(file);
        }
    }
}

/// Takes the lock at `path` alone, if nobody has it.
pub(crate) fn try_alone(path: &Path) -> io::Result<Option<File>> {
    let file = open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(stands(&file, path)?.then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Takes the lock at `path` with others who do so. Who has it alone has it for a moment only.
pub(crate) fn shared(path: &Path) -> io::Result<File> {
    loop {
        let file = open(path)?;
        file.lock_shared()?;
        if stands(&file, path)? {
            return Ok(file);
        }
    }
}

/// As [`alone`], without holding up the runtime: the wait may be as long as another process's download, and a thread of the
/// runtime would hold up its end too.
pub(crate) async fn alone_in_time(path: &Path) -> io::Result<File> {
    let path = path.to_owned();
    let (tell, told) = oneshot::channel();
    let waiting = move || {
        // Whoever does not wait any more lets the lock go with the message.
        drop(tell.send(alone(&path)));
    };
    thread::Builder::new()
        .name("cache lock".to_owned())
        .spawn(waiting)?;
    told.await
        .unwrap_or_else(|_| Err(io::Error::other("the thread that waits for the lock ended")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_had_alone_or_shared() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = shared(&path).unwrap();
        let second = shared(&path).unwrap();
        assert!(try_alone(&path).unwrap().is_none());
        drop((first, second));
        assert!(try_alone(&path).unwrap().is_some());
    }

    #[tokio::test]
    async fn who_waits_for_a_file_that_goes_locks_the_one_that_comes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let old = alone(&path).unwrap();
        let waiting = alone_in_time(&path);
        std::fs::remove_file(&path).unwrap();
        drop(old);
        let new = waiting.await.unwrap();
        assert!(stands(&new, &path).unwrap());
    }
}
