//! Mark and sweep: what manifests name, and the taking away of what none does.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use schemas::Sha256Digest;

use super::{Collected, Collection, Snapshot};
use crate::error::StoreError;
use crate::manifest::Manifest;
use crate::objects::{self, Kind};
use crate::{IN_FLIGHT, Store};

/// What is not to be swept.
#[derive(Default)]
pub(super) struct Marked {
    manifests: HashSet<Sha256Digest>,
    chunks: HashSet<Sha256Digest>,
    /// Manifests that mark nothing though a pointer leads to them: those that a dry run would retire.
    pub(super) passed_over: HashSet<Sha256Digest>,
}

/// An object that nobody names and that is old.
pub(super) struct Candidate {
    pub(super) kind: Kind,
    pub(super) digest: Sha256Digest,
    bytes: u64,
}

impl Store {
    /// Marks what manifests name that no pointer leads to and that are young: a publication that has not moved its pointer
    /// yet, or a template that others may still rely on.
    pub(super) async fn mark_young(
        &self,
        plan: &Collection,
        marked: &mut Marked,
    ) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let part = objects::list(&self.objects, Kind::Manifest, after.as_deref()).await?;
            for (digest, listed) in part.objects {
                if marked.knows(&digest) || objects::age(&listed) >= plan.grace {
                    continue;
                }
                if let Some(manifest) = self.manifest_if_there(&digest).await? {
                    marked.manifest(digest, &manifest);
                }
            }
            after = part.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Marks what has appeared since.
    pub(super) async fn mark_again(
        &self,
        plan: &Collection,
        marked: &mut Marked,
    ) -> Result<(), StoreError> {
        for (_, digest) in self.list().await? {
            if marked.knows(&digest) {
                continue;
            }
            if let Some(manifest) = self.manifest_if_there(&digest).await? {
                marked.manifest(digest, &manifest);
            }
        }
        self.mark_young(plan, marked).await
    }

    /// Objects of that kind that are not marked and old.
    pub(super) async fn candidates(
        &self,
        kind: Kind,
        plan: &Collection,
        marked: &Marked,
    ) -> Result<Vec<Candidate>, StoreError> {
        let (mut candidates, mut after) = (Vec::new(), None);
        loop {
            let part = objects::list(&self.objects, kind, after.as_deref()).await?;
            let old = part.objects.into_iter().filter(|(digest, listed)| {
                !marked.has(kind, digest) && objects::age(listed) >= plan.grace
            });
            candidates.extend(old.map(|(digest, listed)| Candidate {
                kind,
                digest,
                bytes: listed.size,
            }));
            after = part.next;
            if after.is_none() {
                return Ok(candidates);
            }
        }
    }

    /// Deletes the candidates that are still old, manifests first, so that none is left that names what is gone.
    pub(super) async fn sweep(
        &self,
        candidates: Vec<Candidate>,
        plan: &Collection,
        collected: &mut Collected,
    ) -> Result<(), StoreError> {
        let (manifests, chunks): (Vec<_>, Vec<_>) = candidates
            .into_iter()
            .partition(|candidate| candidate.kind == Kind::Manifest);
        for group in [manifests, chunks] {
            let deletions = group.into_iter().map(|candidate| async move {
                let went = plan.dry_run || self.delete_old(&candidate, plan.grace).await?;
                Ok::<_, StoreError>(went.then_some(candidate))
            });
            let deletions = stream::iter(deletions.collect::<Vec<_>>());
            let mut deletions = deletions.buffer_unordered(IN_FLIGHT);
            while let Some(went) = deletions.try_next().await? {
                if let Some(candidate) = went {
                    collected.add(&candidate);
                }
            }
        }
        Ok(())
    }

    /// Deletes an object unless it was written again since it was listed.
    async fn delete_old(&self, candidate: &Candidate, grace: Duration) -> Result<bool, StoreError> {
        let Candidate { kind, digest, .. } = candidate;
        let found = objects::look(&self.objects, *kind, digest).await?;
        if found.is_none_or(|found| objects::age(&found) < grace) {
            return Ok(false);
        }
        objects::delete(&self.objects, *kind, digest).await?;
        Ok(true)
    }
}

impl Collected {
    fn add(&mut self, candidate: &Candidate) {
        self.bytes += candidate.bytes;
        match candidate.kind {
            Kind::Chunk => self.chunks += 1,
            Kind::Manifest => {}
        }
    }
}

impl Marked {
    pub(super) fn snapshot(&mut self, snapshot: &Snapshot) {
        self.manifests.insert(snapshot.digest);
        if let Some(manifest) = &snapshot.manifest {
            self.manifest(snapshot.digest, manifest);
        }
    }

    fn manifest(&mut self, digest: Sha256Digest, manifest: &Manifest) {
        self.manifests.insert(digest);
        let chunks = manifest.chunks().map(|(_, chunk)| chunk.sha256);
        self.chunks.extend(chunks);
    }

    /// Whether it is decided what that manifest marks.
    fn knows(&self, digest: &Sha256Digest) -> bool {
        self.manifests.contains(digest) || self.passed_over.contains(digest)
    }

    pub(super) fn has(&self, kind: Kind, digest: &Sha256Digest) -> bool {
        match kind {
            Kind::Chunk => self.chunks.contains(digest),
            Kind::Manifest => self.manifests.contains(digest),
        }
    }
}
