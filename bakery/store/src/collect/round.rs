//! One collection: pointers retired, manifests marked, the rest swept page by page.
//!
//! What always holds: at most 16 manifests and one page of a listing are in memory, and of what stays the digests.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use schemas::Sha256Digest;

use super::marked::Marked;
use super::{Collected, Collection, Gone};
use crate::clock::ServerClock;
use crate::error::StoreError;
use crate::manifest::Manifest;
use crate::objects::{self, Kind};
use crate::pointers::Pointer;
use crate::{IN_FLIGHT, Store};

/// One collection.
pub(super) struct Round<'a> {
    store: &'a Store,
    plan: &'a Collection,
    clock: ServerClock,
    marked: Marked,
    pub(super) collected: Collected,
}

/// A snapshot that is published, with its manifest if that is there.
struct Snapshot {
    key: Sha256Digest,
    pointer: Pointer,
    digest: Sha256Digest,
    manifest: Option<Manifest>,
}

/// An object that nobody names and that is old.
struct Candidate {
    digest: Sha256Digest,
    bytes: u64,
}

impl<'a> Round<'a> {
    /// A collection begins.
    pub(super) async fn begin(store: &'a Store, plan: &'a Collection) -> Result<Self, StoreError> {
        Ok(Self {
            store,
            plan,
            clock: ServerClock::read(&store.objects).await?,
            marked: Marked::default(),
            collected: Collected::default(),
        })
    }

    /// Retires the pointers that the plan does not keep, and marks what the others lead to.
    pub(super) async fn settle(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        let pointers = store.key_pointers().await?.into_iter();
        let reads = pointers.map(|(key, (pointer, digest))| async move {
            Ok::<_, StoreError>(Snapshot {
                key,
                pointer,
                digest,
                manifest: store.manifest_if_there(&digest).await?,
            })
        });
        let mut snapshots = stream::iter(reads).buffered(IN_FLIGHT);
        while let Some(snapshot) = snapshots.try_next().await? {
            self.settle_one(&snapshot).await?;
        }
        Ok(())
    }

    async fn settle_one(&mut self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let (digest, manifest) = (snapshot.digest, snapshot.manifest.as_ref());
        if !self.goes(snapshot) {
            self.marked.manifest(digest, manifest);
            return Ok(());
        }
        let retiring = self.store.retire(&snapshot.key, snapshot.pointer, manifest);
        if !self.plan.dry_run && !retiring.await? {
            // It was published anew: step 4 reads what stands there now.
            return Ok(());
        }
        self.collected.snapshots.push(snapshot.gone());
        if manifest.is_some_and(Manifest::is_template) && !self.plan.grace.is_zero() {
            self.marked.manifest(digest, manifest);
        } else if self.plan.dry_run {
            self.marked.pass_over(digest);
        }
        Ok(())
    }

    /// Whether the plan lets a snapshot go. One whose manifest is gone cannot be had, whatever its age.
    fn goes(&self, snapshot: &Snapshot) -> bool {
        let created = snapshot
            .manifest
            .as_ref()
            .map(|manifest| manifest.created_at);
        let age = created.and_then(|created| Duration::try_from(Timestamp::now() - created).ok());
        !self.plan.keep.contains(&snapshot.key) && age.is_none_or(|age| age >= self.plan.grace)
    }

    /// Marks what manifests name that no pointer leads to and that are young: a publication that has not moved its pointer
    /// yet, or a template that others may still rely on.
    pub(super) async fn mark_young(&mut self) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let objects = &self.store.objects;
            let part = objects::list(objects, Kind::Manifest, after.as_deref()).await?;
            for (digest, listed) in part.objects {
                if self.clock.age(&listed) < self.plan.grace {
                    self.mark(digest).await?;
                }
            }
            after = part.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Marks what has appeared since.
    async fn mark_again(&mut self) -> Result<(), StoreError> {
        for (_, digest) in self.store.list().await? {
            self.mark(digest).await?;
        }
        self.mark_young().await
    }

    /// Marks a manifest and what it names, if that is not decided yet.
    async fn mark(&mut self, digest: Sha256Digest) -> Result<(), StoreError> {
        if self.marked.knows(&digest) {
            return Ok(());
        }
        if let Some(manifest) = self.store.manifest_if_there(&digest).await? {
            self.marked.manifest(digest, Some(&manifest));
        }
        Ok(())
    }

    /// Takes away the objects of a kind that are old and unmarked: of each page of the listing those that still are when
    /// what appeared since is marked too.
    pub(super) async fn sweep(&mut self, kind: Kind) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let part = objects::list(&self.store.objects, kind, after.as_deref()).await?;
            let old = part.objects.into_iter().filter(|(digest, listed)| {
                !self.marked.has(kind, digest) && self.clock.age(listed) >= self.plan.grace
            });
            let mut candidates: Vec<_> = old
                .map(|(digest, listed)| Candidate {
                    digest,
                    bytes: listed.size,
                })
                .collect();
            if !candidates.is_empty() {
                self.mark_again().await?;
                candidates.retain(|candidate| !self.marked.has(kind, &candidate.digest));
                self.delete(kind, candidates).await?;
            }
            after = part.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Deletes the candidates that are still old.
    async fn delete(&mut self, kind: Kind, candidates: Vec<Candidate>) -> Result<(), StoreError> {
        let (round, mut went) = (&*self, Vec::new());
        let deletions = candidates.into_iter().map(|candidate| async move {
            let goes = round.plan.dry_run || round.delete_old(kind, &candidate.digest).await?;
            Ok::<_, StoreError>(goes.then_some(candidate.bytes))
        });
        let mut deletions = stream::iter(deletions).buffer_unordered(IN_FLIGHT);
        while let Some(bytes) = deletions.try_next().await? {
            went.extend(bytes);
        }
        drop(deletions);
        self.collected.bytes += went.iter().sum::<u64>();
        match kind {
            Kind::Chunk => self.collected.chunks += went.len() as u64,
            Kind::Manifest => {}
        }
        Ok(())
    }

    /// Deletes an object unless it was written again since it was listed.
    async fn delete_old(&self, kind: Kind, digest: &Sha256Digest) -> Result<bool, StoreError> {
        let objects = &self.store.objects;
        let found = objects::look(objects, kind, digest).await?;
        if found.is_none_or(|found| self.clock.age(&found) < self.plan.grace) {
            return Ok(false);
        }
        objects::delete(objects, kind, digest).await?;
        Ok(true)
    }
}

impl Snapshot {
    fn gone(&self) -> Gone {
        let manifest = self.manifest.as_ref();
        Gone {
            key: self.key,
            name: manifest.map_or_else(String::new, |manifest| manifest.name().to_owned()),
            bytes: manifest.map_or(0, Manifest::stored_bytes),
        }
    }
}
