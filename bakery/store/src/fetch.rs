//! Fetching: from the cache, else downloaded, verified and installed in one step.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use bus::objects::Objects;
use futures_util::{StreamExt, TryStreamExt, stream};
use schemas::Sha256Digest;
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex as AsyncMutex;
use tokio_util::io::SyncIoBridge;
use tracing::{info, warn};

use crate::Store;
use crate::error::StoreError;
use crate::manifest::{MANIFEST_FILE, Manifest, StoredFile};
use crate::objects;
use crate::progress::Progress;
use crate::unpack::{UnpackError, unpack};

/// 2: memory and disk, the two large files of a snapshot, at the same time.
const PARALLEL: usize = 2;

/// 8 MiB: a manifest with ten thousand packages has 1.
const MAX_MANIFEST_BYTES: u64 = 8 << 20;

/// A snapshot on this machine's disk. Its files are read-only and never change.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The directory with its files.
    pub dir: PathBuf,
    /// What it is.
    pub manifest: Manifest,
    /// The digest of the manifest.
    pub digest: Sha256Digest,
}

/// One lock for each snapshot that is being fetched, so that it is downloaded once however many ask.
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
    /// What is downloaded is verified before it is visible; what is damaged in the cache is downloaded again. Calls for one snapshot within a process share one download.
    pub async fn fetch(
        &self,
        key: &Sha256Digest,
        _progress: &dyn Progress,
    ) -> Result<Snapshot, StoreError> {
        let digest = self.find(key).await?;
        let digest = digest.ok_or(StoreError::NotFound { key: *key })?;
        let lock = self.fetching.lock_for(digest);
        let _held = lock.lock().await;
        if let Some(dir) = self.cache.find(&digest) {
            match cached(dir, digest) {
                Err(error @ StoreError::Corrupt { .. }) => {
                    warn!(%error, "damaged in the cache, downloading it again");
                    self.cache.discard(&digest)?;
                }
                snapshot => return snapshot,
            }
        }
        self.download(digest).await
    }

    /// The manifest that `key` leads to, if its snapshot can be fetched: the manifest can be read, and every object that it
    /// names is there with its length. `None` if nothing is published, or something of it is gone; publishing it again
    /// sends what is not there.
    pub async fn find_whole(&self, key: &Sha256Digest) -> Result<Option<Manifest>, StoreError> {
        let Some(digest) = self.find(key).await? else {
            return Ok(None);
        };
        let manifest = match self.manifest(&digest).await {
            Ok(manifest) => manifest,
            Err(error @ (StoreError::Missing { .. } | StoreError::Corrupt { .. })) => {
                warn!(%key, %error, "a published snapshot is not whole");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        for file in &manifest.files {
            if objects::length(&self.objects, &file.object).await? != Some(file.stored_bytes) {
                warn!(%key, %digest, file = file.name, "a published snapshot is not whole");
                return Ok(None);
            }
        }
        Ok(Some(manifest))
    }

    /// The manifest with that digest, from the object store.
    pub async fn manifest(&self, digest: &Sha256Digest) -> Result<Manifest, StoreError> {
        let bytes = self.manifest_bytes(*digest).await?;
        parse_manifest(&bytes, *digest)
    }

    async fn download(&self, digest: Sha256Digest) -> Result<Snapshot, StoreError> {
        let begun = Instant::now();
        let bytes = self.manifest_bytes(digest).await?;
        let manifest = parse_manifest(&bytes, digest)?;
        let partial = self.cache.partial()?;
        let downloads: Vec<_> = manifest
            .files
            .iter()
            .map(|file| download_file(&self.objects, digest, file.clone(), partial.path()))
            .collect();
        stream::iter(downloads)
            .buffer_unordered(PARALLEL)
            .try_collect::<()>()
            .await?;
        write_manifest(&partial.path().join(MANIFEST_FILE), &bytes)
            .map_err(StoreError::disk("write a manifest"))?;
        let dir = self.cache.install(partial, &digest)?;
        info!(key = %manifest.key, %digest, took = ?begun.elapsed(), "fetched a snapshot");
        Ok(Snapshot {
            dir,
            manifest,
            digest,
        })
    }

    async fn manifest_bytes(&self, digest: Sha256Digest) -> Result<Vec<u8>, StoreError> {
        let file = || "its manifest".to_owned();
        let download = objects::open(&self.objects, &digest).await?;
        let download = download.ok_or_else(|| StoreError::Missing {
            snapshot: digest,
            file: file(),
        })?;
        let mut bytes = Vec::new();
        download
            .take(MAX_MANIFEST_BYTES)
            .read_to_end(&mut bytes)
            .await
            .map_err(|source| StoreError::Download {
                snapshot: digest,
                file: file(),
                source,
            })?;
        Ok(bytes)
    }
}

/// Downloads, verifies and writes one file.
async fn download_file(
    objects: &Objects,
    snapshot: Sha256Digest,
    file: StoredFile,
    into: &Path,
) -> Result<(), StoreError> {
    let name = file.name.clone();
    let Some(download) = objects::open(objects, &file.object).await? else {
        return Err(StoreError::Missing {
            snapshot,
            file: name,
        });
    };
    let path = into.join(&name);
    let object = SyncIoBridge::new(download);
    tokio::task::spawn_blocking(move || unpack(object, &file, &path))
        .await
        .expect("unpacking neither panics nor is it cancelled")
        .map_err(|error| explain(error, snapshot, name))
}

fn explain(error: UnpackError, snapshot: Sha256Digest, file: String) -> StoreError {
    match error {
        UnpackError::Read(source) => StoreError::Download {
            snapshot,
            file,
            source,
        },
        UnpackError::Write(source) => StoreError::Disk {
            doing: format!("write {file} of snapshot {snapshot}"),
            source,
        },
        UnpackError::Corrupt(problem) => StoreError::Corrupt {
            snapshot,
            file,
            problem,
        },
    }
}

/// Writes the manifest to the disk and not only to the page cache: the directory's rename must not outlive it.
fn write_manifest(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A snapshot that is in the cache. Its files were verified when they were written, so their lengths are enough; the
/// manifest is small enough to be verified again.
fn cached(dir: PathBuf, digest: Sha256Digest) -> Result<Snapshot, StoreError> {
    let path = dir.join(MANIFEST_FILE);
    let bytes = fs::read(&path).map_err(|error| lost(error, &path, digest, "its manifest"))?;
    let manifest = parse_manifest(&bytes, digest)?;
    for file in &manifest.files {
        let path = dir.join(&file.name);
        let metadata = path.symlink_metadata();
        let metadata = metadata.map_err(|error| lost(error, &path, digest, &file.name))?;
        if !metadata.is_file() || metadata.len() != file.size_bytes {
            return Err(StoreError::Corrupt {
                snapshot: digest,
                file: file.name.clone(),
                problem: "is not a file of the length in the manifest".to_owned(),
            });
        }
    }
    Ok(Snapshot {
        dir,
        manifest,
        digest,
    })
}

/// Why a cached file cannot be read: it is not there, or the disk failed.
fn lost(error: io::Error, path: &Path, snapshot: Sha256Digest, file: &str) -> StoreError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            StoreError::Corrupt {
                snapshot,
                file: file.to_owned(),
                problem: "is not in the cache".to_owned(),
            }
        }
        _ => StoreError::disk(format!("read {}", path.display()))(error),
    }
}

fn parse_manifest(bytes: &[u8], digest: Sha256Digest) -> Result<Manifest, StoreError> {
    let corrupt = |problem: String| StoreError::Corrupt {
        snapshot: digest,
        file: "its manifest".to_owned(),
        problem,
    };
    if Sha256Digest::of(bytes) != digest {
        return Err(corrupt("does not have its own digest".to_owned()));
    }
    Manifest::parse(bytes).map_err(|problem| corrupt(format!("is no manifest: {problem}")))
}
