//! Fetching a source archive from the object store: address, size and digest are checked before anything reads it.

use std::fs::File;
use std::path::Path;

use bus::objects::{Download, Objects, ObjectsError};
use schemas::source::{ArchiveSource, ArchiveUri};
use schemas::{ObjectUri, Sha256Digest, Token, names};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::archive::Archive;
use crate::error::SourceError;
use crate::limits::Limits;

/// 256 KiB: read and hashed at a time.
const BLOCK: usize = 256 * 1024;

/// Fetches `source` for a job of `tenant` and reads it whole, with its files in the directory `into`.
///
/// The address must lie in the bucket for sources, under `<tenant>/`; the bytes must have the digest that the job names.
pub async fn fetch_archive(
    objects: &Objects,
    source: &ArchiveSource,
    tenant: &Token,
    limits: &Limits,
    into: &Path,
) -> Result<Archive, SourceError> {
    let ArchiveUri::S3(uri) = &source.uri else {
        todo!()
    };
    check_address(uri, &objects.buckets().sources, tenant)?;
    let (stored, found) = spool(objects, uri, limits, into).await?;
    let wanted = source.digest.sha256;
    if found != wanted {
        let uri = uri.clone();
        return Err(SourceError::Digest { uri, wanted, found });
    }
    Archive::open(stored, limits, into).await
}

/// Whether a job of `tenant` may name the address.
fn check_address(uri: &ObjectUri, bucket: &str, tenant: &Token) -> Result<(), SourceError> {
    let prefix = names::tenant_prefix(tenant);
    if uri.bucket() == bucket && uri.key().starts_with(&prefix) {
        return Ok(());
    }
    Err(SourceError::Address {
        uri: uri.clone(),
        allowed: format!("s3://{bucket}/{prefix}"),
    })
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
        let uri = uri.clone();
        return Err(SourceError::TooLarge { uri, limit });
    }
    let file = tempfile::tempfile_in(into).map_err(SourceError::Spool)?;
    let mut file = tokio::fs::File::from_std(file);
    let digest = copy(download, uri, limit, &mut file).await?;
    file.flush().await.map_err(SourceError::Spool)?;
    Ok((file.into_std().await, digest))
}

/// Copies at most `limit` bytes, whatever length the server announced; returns their digest.
async fn copy(
    mut from: Download,
    uri: &ObjectUri,
    limit: u64,
    to: &mut tokio::fs::File,
) -> Result<Sha256Digest, SourceError> {
    let uri = || uri.clone();
    let mut hasher = Sha256::new();
    let mut block = vec![0; BLOCK];
    let mut left = limit;
    loop {
        let read = from.read(&mut block).await;
        let count = read.map_err(|source| SourceError::Download { uri: uri(), source })?;
        if count == 0 {
            return Ok(Sha256Digest::from_bytes(hasher.finalize().into()));
        }
        left = left
            .checked_sub(count as u64)
            .ok_or_else(|| SourceError::TooLarge { uri: uri(), limit })?;
        hasher.update(&block[..count]);
        to.write_all(&block[..count])
            .await
            .map_err(SourceError::Spool)?;
    }
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
