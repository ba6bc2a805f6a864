//! Objects of the snapshot bucket: chunks and manifests, each named for the digest of its plain bytes.
//!
//! What always holds: an object is only ever replaced by one with the same plain bytes.

use bus::objects::{Listed, Objects, ObjectsError};
use bytes::Bytes;
use schemas::Sha256Digest;
use tokio::io::AsyncReadExt;

use crate::error::StoreError;

/// What a bucket's objects are: a folder for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A chunk, compressed; its name is the digest of what it was before.
    Chunk,
    /// A manifest, as canonical JSON.
    Manifest,
}

impl Kind {
    /// The folder, with the slash behind it.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Chunk => "chunk/",
            Self::Manifest => "manifest/",
        }
    }

    /// The key of the object with that digest.
    pub(crate) fn key(self, digest: &Sha256Digest) -> String {
        let hex = digest.to_string();
        format!("{}{}/{hex}", self.folder(), &hex[..2])
    }

    /// The digest in an object's key; none if it is not one of ours.
    pub(crate) fn digest(self, key: &str) -> Option<Sha256Digest> {
        let digest = key.rsplit('/').next()?.parse().ok()?;
        (self.key(&digest) == key).then_some(digest)
    }
}

/// Writes an object in one request.
pub(crate) async fn put(
    objects: &Objects,
    kind: Kind,
    digest: &Sha256Digest,
    body: Bytes,
) -> Result<(), StoreError> {
    let (bucket, key) = (&objects.buckets().snapshots, kind.key(digest));
    let put = objects.put(bucket, &key, body).await;
    put.map_err(StoreError::objects(format!("store s3://{bucket}/{key}")))
}

/// What the bucket says of an object; `None` if it is not there.
pub(crate) async fn look(
    objects: &Objects,
    kind: Kind,
    digest: &Sha256Digest,
) -> Result<Option<Listed>, StoreError> {
    let (bucket, key) = (&objects.buckets().snapshots, kind.key(digest));
    let found = objects.look(bucket, &key).await;
    found.map_err(StoreError::objects(format!("look at s3://{bucket}/{key}")))
}

/// Takes an object away; it may be gone already.
pub(crate) async fn delete(
    objects: &Objects,
    kind: Kind,
    digest: &Sha256Digest,
) -> Result<(), StoreError> {
    let (bucket, key) = (&objects.buckets().snapshots, kind.key(digest));
    let deleted = objects.delete(bucket, &key).await;
    deleted.map_err(StoreError::objects(format!("delete s3://{bucket}/{key}")))
}

/// A part of a listing.
pub(crate) struct Part {
    /// Up to 1000 objects, in the order of their keys.
    pub(crate) objects: Vec<(Sha256Digest, Listed)>,
    /// The last key of this part, after which the next begins; none if nothing comes after it.
    pub(crate) next: Option<String>,
}

/// The objects of a kind whose keys come after `after`. What is not ours in the bucket is passed over.
pub(crate) async fn list(
    objects: &Objects,
    kind: Kind,
    after: Option<&str>,
) -> Result<Part, StoreError> {
    let (bucket, folder) = (&objects.buckets().snapshots, kind.folder());
    let page = objects.list(bucket, folder, after).await;
    let page = page.map_err(StoreError::objects(format!("list s3://{bucket}/{folder}")))?;
    let last = page.objects.last().map(|listed| listed.key.clone());
    let ours = |listed: Listed| Some((kind.digest(&listed.key)?, listed));
    Ok(Part {
        objects: page.objects.into_iter().filter_map(ours).collect(),
        next: last.filter(|_| !page.whole),
    })
}

/// Why an object's bytes cannot be had.
#[derive(Debug)]
pub(crate) enum GetError {
    /// It is not there.
    Missing,
    /// It is longer than it may be: it is not read.
    TooLong(u64),
    /// The object store failed before the first byte.
    Objects(StoreError),
    /// The stream of its bytes broke off.
    Broken(std::io::Error),
}

/// The bytes of an object of at most `limit` bytes.
pub(crate) async fn get(
    objects: &Objects,
    kind: Kind,
    digest: &Sha256Digest,
    limit: usize,
) -> Result<Vec<u8>, GetError> {
    let (bucket, key) = (&objects.buckets().snapshots, kind.key(digest));
    let download = objects
        .get(bucket, &key)
        .await
        .map_err(|error| match error {
            ObjectsError::NotFound { .. } => GetError::Missing,
            error => GetError::Objects(StoreError::objects(format!("read s3://{bucket}/{key}"))(
                error,
            )),
        })?;
    let size = download.size;
    if size > limit as u64 {
        return Err(GetError::TooLong(size));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(limit));
    let read = download.take(size).read_to_end(&mut bytes).await;
    read.map_err(GetError::Broken)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_from_the_key_that_it_gave_and_from_no_other() {
        let digest = Sha256Digest::of("a");
        for kind in [Kind::Chunk, Kind::Manifest] {
            assert_eq!(kind.digest(&kind.key(&digest)), Some(digest));
        }
        let key = Kind::Chunk.key(&digest);
        assert_eq!(Kind::Manifest.digest(&key), None);
        assert_eq!(Kind::Chunk.digest(&format!("x{key}")), None);
        assert_eq!(Kind::Chunk.digest("chunk/ab/"), None);
    }
}
