//! Collecting what nobody needs.

use std::collections::BTreeSet;
use std::time::Duration;

use schemas::Sha256Digest;

use crate::Store;
use crate::error::StoreError;

/// What a collection spares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// The snapshot keys that stay.
    pub keep: BTreeSet<Sha256Digest>,
    /// What is younger than this stays, whoever names it or not.
    pub grace: Duration,
    /// Only tells what would go.
    pub dry_run: bool,
}

/// What went, or would go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// The snapshots whose pointers went.
    pub snapshots: Vec<Gone>,
    /// How many chunks went.
    pub chunks: u64,
    /// How many bytes of the object store that freed, manifests included.
    pub bytes: u64,
}

/// A snapshot that went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Its key.
    pub key: Sha256Digest,
    /// The name in the definition of its template or environment.
    pub name: String,
    /// Its size in the object store, chunks that others share included.
    pub bytes: u64,
}

impl Store {
    /// Every published snapshot: its key and the digest of its manifest.
    pub async fn list(&self) -> Result<Vec<(Sha256Digest, Sha256Digest)>, StoreError> {
        todo!("list the pointers")
    }

    /// Takes the pointer of `key` away: from now on nobody finds the snapshot. What it consists of goes with a collection.
    pub async fn unpublish(&self, _key: &Sha256Digest) -> Result<(), StoreError> {
        todo!("delete the pointer")
    }

    /// Takes away what nobody needs.
    pub async fn collect(&self, _plan: &Collection) -> Result<Collected, StoreError> {
        todo!("mark and sweep")
    }
}
