//! The host's own disk, with errors that say what was done to what.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use schemas::Sha256Digest;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::error::BakeError;

/// 256 KiB: read and hashed at a time.
const BLOCK: usize = 256 * 1024;

/// Makes a directory and those above it; it may be there already.
pub(crate) fn make_directory(path: &Path) -> Result<(), BakeError> {
    std::fs::create_dir_all(path).map_err(BakeError::disk("create", path))
}

/// A fresh directory in `parent`, which goes with all that is in it.
pub(crate) fn scratch(parent: &Path) -> Result<TempDir, BakeError> {
    make_directory(parent)?;
    TempDir::with_prefix_in("partial-", parent).map_err(BakeError::disk("create a file in", parent))
}

/// What lies in a directory, sorted.
pub(crate) fn list(directory: &Path) -> Result<Vec<PathBuf>, BakeError> {
    let failed = || BakeError::disk("list", directory);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed())? {
        paths.push(entry.map_err(failed())?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The last part of a path, as text.
pub(crate) fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Reads a text.
pub(crate) fn read_text(path: &Path) -> Result<String, BakeError> {
    std::fs::read_to_string(path).map_err(BakeError::disk("read", path))
}

/// The digest of a file, which is read beside the reactor.
pub(crate) async fn digest(path: &Path) -> Result<Sha256Digest, BakeError> {
    let file = path.to_owned();
    let hashed = tokio::task::spawn_blocking(move || hash(&file)).await;
    hashed
        .expect("hashing neither panics nor is it cancelled")
        .map_err(BakeError::disk("read", path))
}

/// Removes a directory with all that is in it, which may be a whole system, beside the reactor.
pub(crate) async fn remove_tree(path: &Path) -> Result<(), BakeError> {
    let tree = path.to_owned();
    let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(tree)).await;
    removed
        .expect("removing neither panics nor is it cancelled")
        .map_err(BakeError::disk("remove", path))
}

fn hash(path: &Path) -> std::io::Result<Sha256Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; BLOCK];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(Sha256Digest::from_bytes(hasher.finalize().into())),
            count => hasher.update(&block[..count]),
        }
    }
}
