//! Fetching: from the cache, else downloaded, verified and installed in one step.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use schemas::Sha256Digest;
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use crate::Store;
use crate::cache::InUse;
use crate::error::StoreError;
use crate::manifest::{MANIFEST_FILE, Manifest};
use crate::objects::{self, GetError, Kind};
use crate::progress::Progress;

/// 64 MiB: a manifest has 85 bytes a chunk, and this is 380 GiB of them.
const MAX_MANIFEST_BYTES: usize = 64 << 20;

/// A snapshot on this machine's disk. Its files are read-only and never change. While a clone of it lives the cache keeps
/// it, in every process that shares the directory.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The directory with its files.
    pub dir: PathBuf,
    /// What it is.
    pub manifest: Manifest,
    /// The digest of the manifest.
    pub digest: Sha256Digest,
    _in_use: InUse,
}

impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        (&self.dir, &self.digest) == (&other.dir, &other.digest)
    }
}

/// One lock for each snapshot that is being fetched, so that the calls of this process wait without a thread each.
#[derive(Debug, Default)]
pub(crate) struct Fetching(Mutex<HashMap<Sha256Digest, Weak<AsyncMutex<()>>>>);

impl Fetching {
    fn lock_for(&self, digest: Sha256Digest) -> Arc<AsyncMutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(&digest).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(AsyncMutex::new(()));
        locks.insert(digest, Arc::downgrade(&lock));
        lock
    }
}

impl Store {
    /// The snapshot that `key` leads to, on this machine's disk: from the cache, else from the object store.
    ///
    /// What is downloaded is verified before it is visible; what is damaged in the cache is downloaded again. Calls for one
    /// snapshot, of any process that shares the cache, share one download; one that is interrupted is continued by the next.
    /// Memory: at most two chunks for each of 16 transfers, whatever the snapshot's size, and its manifest.
    ///
    /// A snapshot that is missing or damaged in the object store, twice in a row, is withdrawn before the error is returned:
    /// the next who asks for the key finds none, and has it baked anew.
    pub async fn fetch(
        &self,
        key: &Sha256Digest,
        progress: &dyn Progress,
    ) -> Result<Snapshot, StoreError> {
        let pointer = self.pointer(key).await?;
        let digest = pointer.digest.ok_or(StoreError::NotFound { key: *key })?;
        let fetched = Box::pin(self.fetch_digest(key, digest, progress)).await;
        if let Err(error) = &fetched
            && error.is_for_good()
        {
            Box::pin(self.withdraw(key, pointer, error)).await;
        }
        fetched
    }

    /// The snapshot of that manifest, which the pointer of `key` leads to.
    async fn fetch_digest(
        &self,
        key: &Sha256Digest,
        digest: Sha256Digest,
        progress: &dyn Progress,
    ) -> Result<Snapshot, StoreError> {
        let lock = self.fetching.lock_for(digest);
        let _held = lock.lock().await;
        if let Some(snapshot) = self.cached(*key, digest).await? {
            check_key(&snapshot.manifest, key)?;
            return Ok(snapshot);
        }
        let downloading = self.cache.lock(&digest).await?;
        // Whoever had the lock may have brought it.
        if let Some(snapshot) = self.cached(*key, digest).await? {
            downloading.done();
            check_key(&snapshot.manifest, key)?;
            return Ok(snapshot);
        }
        let begun = Instant::now();
        let read = self.read_manifest(digest).await;
        let (manifest, bytes) = read.map_err(|error| error.of_snapshot(*key))?;
        check_key(&manifest, key)?;
        let downloaded = self.download(&manifest, bytes, digest, downloading, progress);
        let (dir, in_use) = downloaded.await?;
        info!(%key, %digest, took = ?begun.elapsed(), "fetched a snapshot");
        Ok(Snapshot {
            dir,
            manifest,
            digest,
            _in_use: in_use,
        })
    }

    /// The manifest with that digest, from the object store. One that is damaged is read once more.
    pub async fn manifest(&self, digest: &Sha256Digest) -> Result<Manifest, StoreError> {
        let (manifest, _) = self.read_manifest(*digest).await?;
        Ok(manifest)
    }

    /// A manifest and its bytes. What is said of it was found twice if it says that the manifest is damaged or not there: much
    /// follows from that.
    async fn read_manifest(&self, digest: Sha256Digest) -> Result<(Manifest, Vec<u8>), StoreError> {
        match self.read_manifest_once(digest).await {
            Err(error @ (StoreError::NoManifest { .. } | StoreError::BadManifest { .. })) => {
                warn!(%error, "reading it again");
                self.read_manifest_once(digest).await
            }
            read => read,
        }
    }

    async fn read_manifest_once(
        &self,
        digest: Sha256Digest,
    ) -> Result<(Manifest, Vec<u8>), StoreError> {
        let bytes = self.manifest_bytes(digest).await?;
        Ok((parse_manifest(&bytes, digest)?, bytes))
    }

    async fn manifest_bytes(&self, digest: Sha256Digest) -> Result<Vec<u8>, StoreError> {
        let got = objects::get(&self.objects, Kind::Manifest, &digest, MAX_MANIFEST_BYTES).await;
        got.map_err(|error| match error {
            GetError::Missing => StoreError::NoManifest { digest },
            GetError::TooLong(bytes) => StoreError::BadManifest {
                digest,
                problem: format!("has {bytes} bytes"),
            },
            GetError::Objects(error) => error,
            GetError::Broken(source) => StoreError::Download {
                what: format!("manifest {digest}"),
                source,
            },
        })
    }

    /// The snapshot as it is in the cache; one that is damaged is taken away.
    async fn cached(
        &self,
        key: Sha256Digest,
        digest: Sha256Digest,
    ) -> Result<Option<Snapshot>, StoreError> {
        let cache = self.cache.clone();
        let looking = spawn_blocking(move || {
            let found = match cache.find(&digest) {
                Ok(None) => return Ok(None),
                Ok(Some((dir, in_use))) => open(key, digest, dir, in_use),
                Err(error) => Err(lost(error, key, "its directory")),
            };
            match found {
                Err(error @ StoreError::Corrupt { .. }) => {
                    warn!(%error, "damaged in the cache, downloading it again");
                    cache.discard(&digest)?;
                    Ok(None)
                }
                found => found.map(Some),
            }
        });
        looking
            .await
            .expect("looking into the cache neither panics nor is it cancelled")
    }
}

/// A snapshot that is in the cache. Its files were verified when they were written, so their lengths are enough; the
/// manifest is small enough to be verified again.
fn open(
    key: Sha256Digest,
    digest: Sha256Digest,
    dir: PathBuf,
    in_use: InUse,
) -> Result<Snapshot, StoreError> {
    let bytes = fs::read(dir.join(MANIFEST_FILE));
    let bytes = bytes.map_err(|error| lost(error, key, "its manifest"))?;
    let manifest = parse_manifest(&bytes, digest).map_err(|error| error.of_snapshot(key))?;
    for file in &manifest.files {
        check_length(&dir.join(&file.name), file.size_bytes, key, &file.name)?;
    }
    Ok(Snapshot {
        dir,
        manifest,
        digest,
        _in_use: in_use,
    })
}

/// Refuses the manifest of another key: whatever leads there, its content is not what the key says.
pub(crate) fn check_key(manifest: &Manifest, key: &Sha256Digest) -> Result<(), StoreError> {
    if manifest.key == *key {
        return Ok(());
    }
    Err(StoreError::Corrupt {
        key: *key,
        file: "its manifest".to_owned(),
        problem: format!("is that of key {}", manifest.key),
    })
}

fn check_length(path: &Path, size: u64, key: Sha256Digest, name: &str) -> Result<(), StoreError> {
    let metadata = path.symlink_metadata();
    let metadata = metadata.map_err(|error| lost(error, key, name))?;
    if metadata.is_file() && metadata.len() == size {
        return Ok(());
    }
    Err(StoreError::Corrupt {
        key,
        file: name.to_owned(),
        problem: "is not a file of the length in the manifest".to_owned(),
    })
}

/// Why a part of a cached snapshot cannot be read: it is not there, or the disk failed.
fn lost(error: io::Error, key: Sha256Digest, file: &str) -> StoreError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            StoreError::Corrupt {
                key,
                file: file.to_owned(),
                problem: "is not in the cache".to_owned(),
            }
        }
        _ => StoreError::disk(format!("snapshot {key}: read {file} in the cache"))(error),
    }
}

pub(crate) fn parse_manifest(bytes: &[u8], digest: Sha256Digest) -> Result<Manifest, StoreError> {
    let bad = |problem: String| StoreError::BadManifest { digest, problem };
    if Sha256Digest::of(bytes) != digest {
        return Err(bad("does not have its own digest".to_owned()));
    }
    Manifest::parse(bytes).map_err(|problem| bad(format!("is no manifest: {problem}")))
}
