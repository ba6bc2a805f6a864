//! The store: snapshots under keys computed from their content, in an object store, with a cache on each machine.
//!
//! ```text
//! build-snapshots (key-value)     build-snapshots (objects)
//!   key.<snapshot key> ──────────▶  manifest/<aa>/<digest>   canonical JSON, under the digest of its bytes
//!                                     │ files, cut in chunks of 512 KiB
//!                                     ├──▶  chunk/<aa>/<digest>   zstd, under the digest of its plain bytes
//!                                     ├──▶  chunk/<aa>/<digest>   shared with every snapshot that has it too
//!                                     └──▶  …                     nothing where a chunk is zeros
//!   template.<class>.<name> ─────▶ a template's current snapshot key
//!                                   clock                    empty: written to learn the server's time
//! ```
//!
//! What always holds: an object's plain bytes never change, for its name is their digest; the pointer moves last, by
//! compare-and-set, so nothing half-published is ever visible; nothing downloaded is visible before it is verified.

mod cache;
mod chunk;
mod clock;
mod collect;
mod download;
mod error;
mod fault;
mod fetch;
mod key;
mod lock;
mod manifest;
#[cfg(any(test, feature = "testing"))]
mod memory;
mod neighbours;
mod objects;
mod pointers;
mod presence;
mod progress;
mod publish;
mod scan;
mod spots;
mod tally;
mod target;
mod upload;
mod whole;
mod withdraw;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv;
use bus::objects::Objects;
use schemas::{HostClass, Sha256Digest, Token, names};
use tokio::sync::Semaphore;

use crate::cache::Cache;
use crate::fetch::Fetching;
use crate::pointers::{KvPointers, Pointer, Pointers};

pub use cache::CacheConfig;
pub use collect::{Collected, Collection, Gone};
pub use error::StoreError;
pub use fault::Fault;
pub use fetch::Snapshot;
pub use key::{KEY_VERSION, KeyParts};
pub use manifest::{Details, ForkReport, GateReport, MANIFEST_SCHEMA, Manifest, StoredFile};
pub use pointers::PointerError;
pub use progress::{Direction, NoProgress, Progress, Transfer};
pub use publish::Published;

/// Snapshots, published and fetched. Clones share the cache and its downloads.
#[derive(Clone)]
pub struct Store {
    objects: Objects,
    pointers: Arc<dyn Pointers>,
    cache: Cache,
    fetching: Arc<Fetching>,
    /// One permit for each chunk in memory.
    in_flight: Arc<Semaphore>,
    grace: Duration,
}

/// 16 chunks at a time, up and down together. Measured with 1260 chunks, 660 MB plain and 168 MB compressed, from `SeaweedFS`
/// on loopback with 2 cores: 1.9 s, where `zstd -d` of the same bytes took 1.8 s, and 95 MiB of memory at most.
pub(crate) const IN_FLIGHT: usize = 16;

/// 24 h: longer than any bake, so what a bake relies on does not go while it runs.
pub const DEFAULT_GRACE: Duration = Duration::from_hours(24);

impl Store {
    /// Opens the store. `snapshots` is the key-value bucket for pointers; `cache` a directory of this machine, made if
    /// absent, that several processes may share.
    pub async fn open(
        objects: Objects,
        snapshots: kv::Store,
        cache: CacheConfig,
    ) -> Result<Self, StoreError> {
        Self::with_pointers(objects, Arc::new(KvPointers(snapshots)), cache).await
    }

    /// A store whose pointers are in memory, and go with it and its clones.
    #[cfg(feature = "testing")]
    pub async fn in_memory(objects: Objects, cache: CacheConfig) -> Result<Self, StoreError> {
        let pointers = Arc::new(memory::MemoryPointers::default());
        Self::with_pointers(objects, pointers, cache).await
    }

    async fn with_pointers(
        objects: Objects,
        pointers: Arc<dyn Pointers>,
        cache: CacheConfig,
    ) -> Result<Self, StoreError> {
        let cache = tokio::task::spawn_blocking(move || Cache::open(&cache))
            .await
            .expect("opening a cache neither panics nor is it cancelled")?;
        Ok(Self {
            objects,
            pointers,
            cache,
            fetching: Arc::default(),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
            grace: DEFAULT_GRACE,
        })
    }

    /// With the grace period that the collections of this object store have, where it is not [`DEFAULT_GRACE`]: a publication
    /// sends again what it relies on and is older than half of it, and must itself take less than that.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The digest of the manifest that `key` leads to; `None` if no snapshot is published under it.
    pub async fn find(&self, key: &Sha256Digest) -> Result<Option<Sha256Digest>, StoreError> {
        Ok(self.pointer(key).await?.digest)
    }

    /// The pointer of `key`.
    pub(crate) async fn pointer(&self, key: &Sha256Digest) -> Result<Pointer, StoreError> {
        let pointer = self.pointers.get(&names::snapshot_pointer(key)).await;
        pointer.map_err(StoreError::pointers("find a snapshot"))
    }

    /// The snapshot key of the template `name` as it now is for `class`; `None` if none was baked.
    pub async fn template_key(
        &self,
        class: &HostClass,
        name: &Token,
    ) -> Result<Option<Sha256Digest>, StoreError> {
        let pointer = self
            .pointers
            .get(&names::template_pointer(class, name))
            .await;
        let pointer = pointer.map_err(StoreError::pointers(format!("find template {name}")))?;
        Ok(pointer.digest)
    }

    /// Makes the snapshot with `key` the template `name` for `class`. Environments baked from now on fork it.
    pub async fn set_template_key(
        &self,
        class: &HostClass,
        name: &Token,
        key: Sha256Digest,
    ) -> Result<(), StoreError> {
        let pointer = names::template_pointer(class, name);
        let moved = self.pointers.set(&pointer, key).await;
        moved.map_err(StoreError::pointers(format!("set template {name}")))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Store")
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
