//! Collecting what nobody needs: pointers by the caller's decision, then manifests and chunks by mark and sweep.
//!
//! ```text
//! 1  pointers that the plan does not keep     a template's manifest is written again, then the pointer goes
//! 2  manifests that mark                      those that a pointer leads to, and those younger than the grace
//! 3  candidates                               manifests, then chunks, that are old and unmarked, as a page of a listing says
//! 4  pointers and young manifests once more   what appeared during 3 marks too
//! 5  the sweep                                each candidate is looked at once more, then deleted
//!    3 to 5 for each page that has candidates
//! ```
//!
//! Ages are told by the object store's clock, and a manifest that cannot be read ends the collection: what it names is not known.
//!
//! Why a publication that runs at the same time loses nothing, but for one moment. It relies on a chunk in one of four ways:
//!
//! - It sent it: the object is younger than the grace for longer than a publication takes, and is no candidate.
//! - It found it younger than half the grace: when it is old enough to be a candidate the other half has passed, the
//!   publication has moved its pointer, and 4, which comes after 3, reads that pointer.
//! - It found it in the manifest of its template, whose pointer stood: if the pointer stands at 2, the manifest marks it. If
//!   it went since, it was written again before that (1), and marks for a whole grace more.
//! - It found it old, and sent it again: if that was before 3, it is young. If it was between 3 and 5, the second look of 5
//!   finds it young. If it was between the second look and the deletion, two requests that follow at once, the publication
//!   misses it when it looks for such chunks after its pointer has moved, and sends it once more. Only a deletion that stays on its way
//!   for longer than that publication takes would be missed: [`crate::Store::find_whole`] then finds the gap, and the key is baked again.
//!
//! What a collection that dies leaves is named by nobody, and goes with the next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemas::Sha256Digest;
use tracing::{info, warn};

use crate::Store;
use crate::error::StoreError;
use crate::manifest::Manifest;
use crate::objects::Kind;
use crate::pointers::Pointer;

mod marked;
mod round;

use round::Round;

/// What the names of the pointers to snapshots begin with.
const KEYS: &str = "key.";

/// What a collection spares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// The snapshot keys that stay.
    pub keep: BTreeSet<Sha256Digest>,
    /// What is younger than this stays, whoever names it or not. Shorter than [`crate::Store::with_grace`] says to those
    /// who publish, it is only safe while nobody does.
    pub grace: Duration,
    /// Only tells what would go.
    pub dry_run: bool,
}

/// What went, or would go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// The snapshots whose pointers went, in the order of their keys.
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
    /// The name in the definition of its template or environment; empty if its manifest is not there.
    pub name: String,
    /// Its size in the object store, chunks that others share included; 0 if its manifest is not there.
    pub bytes: u64,
}

impl Store {
    /// Every published snapshot: its key and the digest of its manifest, in the order of keys.
    pub async fn list(&self) -> Result<Vec<(Sha256Digest, Sha256Digest)>, StoreError> {
        let pointers = self.key_pointers().await?;
        Ok(pointers
            .into_iter()
            .map(|(key, (_, digest))| (key, digest))
            .collect())
    }

    /// Takes away what nobody needs: the pointers of snapshots that `plan` does not keep and that are older than its grace;
    /// then the manifests and chunks that no other manifest names and that are older than the grace. The chunks of a
    /// template stay for one grace period more. Safe at any time, also while snapshots are published.
    pub async fn collect(&self, plan: &Collection) -> Result<Collected, StoreError> {
        let mut round = Round::begin(self, plan).await?;
        Box::pin(round.settle()).await?;
        Box::pin(round.mark_young()).await?;
        // Manifests first, so that none is left that names what is gone.
        for kind in [Kind::Manifest, Kind::Chunk] {
            Box::pin(round.sweep(kind)).await?;
        }
        let collected = round.collected;
        let (snapshots, chunks) = (collected.snapshots.len(), collected.chunks);
        info!(
            snapshots,
            chunks,
            bytes = collected.bytes,
            dry_run = plan.dry_run,
            "collected"
        );
        Ok(collected)
    }

    /// The pointers to snapshots, by key.
    async fn key_pointers(
        &self,
    ) -> Result<BTreeMap<Sha256Digest, (Pointer, Sha256Digest)>, StoreError> {
        let listed = self.pointers.list(KEYS).await;
        let listed = listed.map_err(StoreError::pointers("list the snapshots"))?;
        let read = |(name, pointer): (String, Pointer)| {
            let Some(key) = name.strip_prefix(KEYS).and_then(|key| key.parse().ok()) else {
                warn!(name, "not the pointer of a snapshot: passed over");
                return None;
            };
            Some((key, (pointer, pointer.digest?)))
        };
        Ok(listed.into_iter().filter_map(read).collect())
    }

    /// A manifest, if it is there. One that cannot be read ends the collection: nobody knows what it names, so nothing may go.
    async fn manifest_if_there(
        &self,
        digest: &Sha256Digest,
    ) -> Result<Option<Manifest>, StoreError> {
        match self.manifest(digest).await {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error @ StoreError::NoManifest { .. }) => {
                warn!(%error, "a published snapshot is not whole");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
