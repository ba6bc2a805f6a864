//! Objects of the snapshot bucket: each under its own digest, so the same bytes are stored once and never change.

use std::fs::File;

use bus::objects::{Download, Objects, ObjectsError, Upload};
use bytes::BytesMut;
use schemas::Sha256Digest;
use tokio::io::AsyncReadExt;

use crate::error::StoreError;

/// 1 MiB: read from the disk and given to the upload at a time.
const PIECE: usize = 1 << 20;

/// The key of the object with that digest.
pub(crate) fn object_key(digest: &Sha256Digest) -> String {
    let hex = digest.to_string();
    format!("sha256/{}/{hex}", &hex[..2])
}

/// Uploads `bytes` under `digest` unless an object of that length is there already; returns how many bytes it sent.
pub(crate) async fn store(
    objects: &Objects,
    digest: &Sha256Digest,
    bytes: File,
    length: u64,
) -> Result<u64, StoreError> {
    // The key is the digest, so an object of another content with this length is damage, which a fetch finds.
    if self::length(objects, digest).await? == Some(length) {
        return Ok(0);
    }
    let bucket = &objects.buckets().snapshots;
    let key = object_key(digest);
    let doing = || StoreError::objects(format!("store s3://{bucket}/{key}"));
    let mut upload = objects.upload(bucket, &key);
    match send(&mut upload, tokio::fs::File::from_std(bytes)).await {
        Ok(()) => upload.complete().await.map_err(doing())?,
        Err(SendError::Objects(error)) => {
            upload.abort().await;
            return Err(doing()(error));
        }
        Err(SendError::Disk(error)) => {
            upload.abort().await;
            return Err(StoreError::disk("read a compressed file")(error));
        }
    }
    Ok(length)
}

/// How long the object with that digest is; `None` if it is not there.
pub(crate) async fn length(
    objects: &Objects,
    digest: &Sha256Digest,
) -> Result<Option<u64>, StoreError> {
    let bucket = &objects.buckets().snapshots;
    let key = object_key(digest);
    let length = objects.size(bucket, &key).await;
    length.map_err(StoreError::objects(format!("look at s3://{bucket}/{key}")))
}

/// Opens the object with that digest; `None` if it is not there.
pub(crate) async fn open(
    objects: &Objects,
    digest: &Sha256Digest,
) -> Result<Option<Download>, StoreError> {
    let bucket = &objects.buckets().snapshots;
    let key = object_key(digest);
    match objects.get(bucket, &key).await {
        Ok(download) => Ok(Some(download)),
        Err(ObjectsError::NotFound { .. }) => Ok(None),
        Err(error) => Err(StoreError::objects(format!("read s3://{bucket}/{key}"))(
            error,
        )),
    }
}

/// Why a file did not become an object.
enum SendError {
    Objects(ObjectsError),
    Disk(std::io::Error),
}

async fn send(upload: &mut Upload, mut bytes: tokio::fs::File) -> Result<(), SendError> {
    loop {
        let mut piece = BytesMut::with_capacity(PIECE);
        while piece.len() < PIECE {
            if bytes.read_buf(&mut piece).await.map_err(SendError::Disk)? == 0 {
                break;
            }
        }
        if piece.is_empty() {
            return Ok(());
        }
        upload
            .write(piece.freeze())
            .await
            .map_err(SendError::Objects)?;
    }
}
