//! A source archive that has been read: what is in it, the digests of its inputs, and the way into a guest.
//!
//! What always holds: everything below comes from one reading. The file whose digest went into the snapshot key is, byte
//! for byte, the file that the guest gets.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use schemas::{Sha256Digest, TreePath};
use sha2::{Digest, Sha256};
use vm::AgentClient;
use wire::{EntryKind, PutSpec, PutSummary};

use crate::error::SourceError;
use crate::feed::{self, Record};
use crate::inspect::inspect;
use crate::limits::Limits;
use crate::tree::{Extent, Item, ItemKind, Tree};

/// A source archive, inspected, with its bytes in an unnamed file that goes with the last clone of this value.
#[derive(Debug, Clone)]
pub struct Archive {
    spool: Arc<File>,
    bytes: u64,
    tree: Arc<Tree>,
}

impl Archive {
    /// Reads a whole `.tar.zst`. Its decompressed bytes are kept in an unnamed file in the directory `into`.
    pub async fn open(archive: File, limits: &Limits, into: &Path) -> Result<Self, SourceError> {
        let limits = limits.clone();
        let into = into.to_owned();
        blocking(move || {
            let spool = tempfile::tempfile_in(into).map_err(SourceError::Spool)?;
            let tree = inspect(&archive, &spool, &limits)?;
            let bytes = spool.metadata().map_err(SourceError::Spool)?.len();
            Ok(Self {
                bytes,
                spool: Arc::new(spool),
                tree: Arc::new(tree),
            })
        })
        .await
    }

    /// What it takes of this host, in bytes: of the disk, its size once decompressed; of memory, about what its index has.
    pub(crate) fn footprint(&self) -> u64 {
        self.bytes.saturating_add(self.tree.footprint())
    }

    /// Files, directories and symbolic links, with the directories that only the paths below them name.
    pub fn entries(&self) -> u64 {
        self.tree.items().len() as u64
    }

    /// The newest time that an entry carries, in seconds since the Unix epoch; 0 for an empty archive. It is the
    /// publisher's word: it may lie in the future.
    pub fn newest_mtime(&self) -> i64 {
        self.tree.newest_mtime()
    }

    /// The SHA-256 of each input; an input that is no regular file of this source is an error that names it.
    pub async fn input_digests(
        &self,
        inputs: &[TreePath],
    ) -> Result<BTreeMap<TreePath, Sha256Digest>, SourceError> {
        let extents = inputs
            .iter()
            .map(|path| Ok((path.clone(), self.input(path)?)))
            .collect::<Result<Vec<_>, SourceError>>()?;
        let spool = Arc::clone(&self.spool);
        blocking(move || {
            extents
                .into_iter()
                .map(|(path, extent)| Ok((path, digest(&spool, extent)?)))
                .collect()
        })
        .await
    }

    /// Writes the tree into a guest, except `skip`; everything gets `mtime`, in seconds since the Unix epoch.
    ///
    /// Entries go sorted by path, a directory before what lies in it.
    pub async fn put_into(
        &self,
        agent: &AgentClient,
        spec: &PutSpec,
        skip: &BTreeSet<TreePath>,
        mtime: i64,
    ) -> Result<PutSummary, SourceError> {
        let records = records(&self.tree, mtime, |path| !skip.contains(path));
        feed::put(Arc::clone(&self.spool), records, agent, spec).await
    }

    /// Writes only `inputs` into a guest, and the directories above them: what a bake sees of a source.
    pub async fn put_inputs(
        &self,
        agent: &AgentClient,
        spec: &PutSpec,
        inputs: &[TreePath],
        mtime: i64,
    ) -> Result<PutSummary, SourceError> {
        for path in inputs {
            self.input(path)?;
        }
        let records = records(&self.tree, mtime, |path| {
            inputs.iter().any(|input| is_at_or_above(path, input))
        });
        feed::put(Arc::clone(&self.spool), records, agent, spec).await
    }

    fn input(&self, path: &TreePath) -> Result<Extent, SourceError> {
        self.tree.input(path).map_err(|problem| SourceError::Input {
            path: path.clone(),
            problem,
        })
    }
}

/// What goes to the guest: every item that is `wanted`, in order.
fn records(tree: &Tree, mtime: i64, wanted: impl Fn(&TreePath) -> bool) -> Vec<Record> {
    tree.items()
        .iter()
        .filter(|(path, _)| wanted(path))
        .map(|(path, item)| record(path, item, mtime))
        .collect()
}

fn record(path: &TreePath, item: &Item, mtime: i64) -> Record {
    let (kind, extent) = match &item.kind {
        ItemKind::Directory | ItemKind::Implied => (EntryKind::Directory, None),
        ItemKind::File(extent) => (EntryKind::File { size: extent.size }, Some(*extent)),
        ItemKind::Symlink { target } => {
            let target = target.clone();
            (EntryKind::Symlink { target }, None)
        }
    };
    Record::new(path.as_str(), kind, item.mode, mtime, extent)
}

fn is_at_or_above(path: &TreePath, below: &TreePath) -> bool {
    below
        .as_str()
        .strip_prefix(path.as_str())
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn digest(spool: &File, extent: Extent) -> Result<Sha256Digest, SourceError> {
    let mut hasher = Sha256::new();
    for (offset, length) in feed::split(extent) {
        let mut bytes = vec![0; length];
        spool
            .read_exact_at(&mut bytes, offset)
            .map_err(SourceError::Spool)?;
        hasher.update(&bytes);
    }
    Ok(Sha256Digest::from_bytes(hasher.finalize().into()))
}

/// Runs what blocks on the disk beside the reactor.
pub(crate) async fn blocking<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(work)
        .await
        .expect("reading a spool neither panics nor is it cancelled")
}

#[cfg(test)]
mod tests;
