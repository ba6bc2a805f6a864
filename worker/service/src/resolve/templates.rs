//! Manifests of templates. The key of every job's environment is made of one, and it is the same for as long as the template is.
//!
//! What always holds: a manifest is kept under its digest, so what is found is what the object store would give; which digest a template
//! has is asked anew for every job.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use schemas::Sha256Digest;
use store::{Manifest, Store, StoreError};

/// 16 templates. A snapshot of 1 GiB has a manifest of some 200 KiB, so these are 3 MiB; where jobs need more templates, the manifests that
/// were not asked for longest are read again.
const KEPT: NonZeroUsize = NonZeroUsize::new(16).expect("it is not zero");

/// The manifests that were asked for last. Clones share them.
#[derive(Clone, Debug)]
pub struct Templates(Arc<Mutex<LruCache<Sha256Digest, Arc<Manifest>>>>);

impl Templates {
    /// The manifest with that digest, from the object store where it is not kept.
    pub(super) async fn manifest(
        &self,
        store: &Store,
        digest: Sha256Digest,
    ) -> Result<Arc<Manifest>, StoreError> {
        let kept = self.kept().get(&digest).cloned();
        if let Some(manifest) = kept {
            return Ok(manifest);
        }
        let manifest = Arc::new(store.manifest(&digest).await?);
        self.kept().put(digest, Arc::clone(&manifest));
        Ok(manifest)
    }

    fn kept(&self) -> MutexGuard<'_, LruCache<Sha256Digest, Arc<Manifest>>> {
        // Nothing in here panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Templates {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(LruCache::new(KEPT))))
    }
}
