//! The digests of an environment's inputs, as they are committed in a directory: what a worker finds in the source that `submit` packs.

use std::collections::BTreeMap;
use std::io;

use schemas::{Sha256Digest, TreePath};
use sha2::{Digest as _, Sha256};

use crate::git::{EntryKind, GitError, Head};

/// Why an input has no digest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    /// The tree cannot be read.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A file of it cannot be read.
    #[error("read an input")]
    Read(#[from] io::Error),
    /// The environment names what is not there.
    #[error(
        "input {0}: is not a file of HEAD in this directory; what is not committed does not count"
    )]
    Missing(TreePath),
    /// The environment names a symbolic link.
    #[error("input {0}: is a symbolic link, inputs are regular files")]
    Symlink(TreePath),
}

/// The SHA-256 of each input in the tree of `head`.
pub(crate) fn digests(
    head: &Head,
    inputs: &[TreePath],
) -> Result<BTreeMap<TreePath, Sha256Digest>, InputError> {
    let entries = head.entries()?;
    let mut blobs = head.blobs()?;
    let mut digests = BTreeMap::new();
    for input in inputs {
        let entry = entries.iter().find(|entry| entry.path == *input);
        let entry = entry.ok_or_else(|| InputError::Missing(input.clone()))?;
        match entry.kind {
            EntryKind::File | EntryKind::Executable => {}
            EntryKind::Symlink => return Err(InputError::Symlink(input.clone())),
        }
        let digest = blobs.read(&entry.id, |_, bytes| {
            digest(bytes).map_err(InputError::Read)
        })?;
        digests.insert(input.clone(), digest);
    }
    Ok(digests)
}

fn digest(bytes: &mut dyn io::Read) -> io::Result<Sha256Digest> {
    let mut hasher = Sha256::new();
    io::copy(bytes, &mut hasher)?;
    Ok(Sha256Digest::from_bytes(hasher.finalize().into()))
}
