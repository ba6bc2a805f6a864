//! Fetching a source archive from the object store: address, size and digest are checked before anything reads it.

use std::fs::File;
use std::path::Path;

use bus::objects::{Download, Objects, ObjectsError};
use schemas::source::{ArchiveSource, ArchiveUri};
use schemas::{ObjectUri, Sha256Digest, Token, names};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use crate::archive::Archive;
use crate::error::SourceError;
use crate::limits::Limits;
use crate::recent::Recent;
use crate::spool::{Spool, SpoolError};

/// 256 KiB: read and hashed at a time.
const BLOCK: usize = 256 * 1024;

/// Fetches `source` from the object store for a job of `tenant` and reads it whole, with its files in the directory `into`.
///
/// The address must lie in the bucket for sources, under `<tenant>/`; the bytes must have the digest that the job names. What is small and
/// was read from there a moment ago is in `recent`, and the object store is not asked again.
pub(crate) async fn fetch_archive(
    objects: &Objects,
    recent: &Recent,
    source: &ArchiveSource,
    tenant: &Token,
    limits: &Limits,
    into: &Path,
) -> Result<Archive, SourceError> {
    let uri = check_address(&source.uri, &objects.buckets().sources, tenant)?;
    let (wanted, asked_at) = (source.digest.sha256, Instant::now());
    if let Some(archive) = recent.find(uri, wanted, asked_at) {
        return Ok(archive);
    }
    let (stored, found) = spool(objects, uri, limits, into).await?;
    if found != wanted {
        let uri = source.uri.clone();
        return Err(SourceError::Digest { uri, wanted, found });
    }
    let archive = Archive::open(stored, limits, into).await?;
    recent.keep(uri, wanted, &archive, asked_at);
    Ok(archive)
}

/// The object `uri`, if it is there and is what its digest says: what lies under a tenant's prefix may have been replaced.
pub(crate) async fn find(
    objects: &Objects,
    uri: &ObjectUri,
    wanted: Sha256Digest,
    limits: &Limits,
    into: &Path,
) -> Result<Option<File>, SourceError> {
    match spool(objects, uri, limits, into).await {
        Ok((file, found)) => Ok((found == wanted).then_some(file)),
        Err(SourceError::Missing { .. } | SourceError::TooLarge { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The address as one in the object store, if a job of `tenant` may name it.
fn check_address<'a>(
    uri: &'a ArchiveUri,
    bucket: &str,
    tenant: &Token,
) -> Result<&'a ObjectUri, SourceError> {
    let prefix = names::tenant_prefix(tenant);
    match uri {
        ArchiveUri::S3(uri) if uri.bucket() == bucket && uri.key().starts_with(&prefix) => Ok(uri),
        ArchiveUri::S3(_) | ArchiveUri::Https(_) => Err(SourceError::Address {
            uri: uri.clone(),
            allowed: format!("s3://{bucket}/{prefix}"),
        }),
    }
}

/// Copies the object to an unnamed file and hashes it on the way.
async fn spool(
    objects: &Objects,
    uri: &ObjectUri,
    limits: &Limits,
    into: &Path,
) -> Result<(File, Sha256Digest), SourceError> {
    let limit = limits.max_archive_bytes;
    let download = objects.get(uri.bucket(), uri.key()).await;
    let download = download.map_err(|error| unavailable(uri, error))?;
    if download.size > limit {
        return Err(too_large(uri, limit));
    }
    let mut spool = Spool::new(into, limit)?;
    copy(download, uri, limit, &mut spool).await?;
    spool.finish().await
}

/// Copies at most `limit` bytes, whatever length the server announced.
async fn copy(
    mut from: Download,
    uri: &ObjectUri,
    limit: u64,
    to: &mut Spool,
) -> Result<(), SourceError> {
    let mut block = vec![0; BLOCK];
    loop {
        let read = from.read(&mut block).await;
        let count = read.map_err(|source| SourceError::Download {
            uri: uri.clone(),
            source,
        })?;
        if count == 0 {
            return Ok(());
        }
        to.write(&block[..count])
            .await
            .map_err(|error| match error {
                SpoolError::Full => too_large(uri, limit),
                SpoolError::Disk(error) => SourceError::Spool(error),
            })?;
    }
}

fn too_large(uri: &ObjectUri, limit: u64) -> SourceError {
    let uri = ArchiveUri::S3(uri.clone());
    SourceError::TooLarge { uri, limit }
}

fn unavailable(uri: &ObjectUri, error: ObjectsError) -> SourceError {
    let uri = uri.clone();
    if matches!(error, ObjectsError::NotFound { .. }) {
        return SourceError::Missing { uri };
    }
    SourceError::Objects { uri, source: error }
}

#[cfg(test)]
mod tests;
