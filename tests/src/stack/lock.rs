//! The right to a stack's directory: a lock on a file in it, which ends with the process that holds it.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::Record;

/// Takes a directory for a stack. Nobody else has one there until the file is dropped.
pub(crate) fn acquire(directory: &Path) -> Result<File> {
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    if Record::read(directory)?.is_some_and(|record| record.is_running()) {
        bail!(
            "a stack runs in {}; `make down` stops it",
            directory.display()
        );
    }
    let path = directory.join("lock");
    let lock = File::create(&path).with_context(|| format!("make {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => {
            bail!("another process has a stack in {}", directory.display())
        }
        Err(fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("lock {}", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_stack_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let held = acquire(directory.path()).unwrap();
        let error = acquire(directory.path()).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        drop(held);
        acquire(directory.path()).unwrap();
    }
}
