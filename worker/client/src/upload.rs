//! The source into S3, under its digest, unless it is there.

use anyhow::Context as _;
use bus::objects::Objects;
use bytes::Bytes;
use schemas::job::ArchiveSource;
use schemas::{ObjectUri, Token, names};
use tokio::io::AsyncReadExt as _;

use crate::pack::Packed;

/// How much of the archive is read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Uploads what was packed, and says where it is.
pub(crate) async fn upload(
    objects: &Objects,
    tenant: &Token,
    packed: Packed,
) -> anyhow::Result<ArchiveSource> {
    let bucket = &objects.buckets().sources;
    let key = names::source_object(tenant, &packed.digest);
    let source = ArchiveSource {
        uri: ObjectUri::new(bucket, &key)?,
        digest: packed.digest.into(),
    };
    // Another size is an object that somebody else's tool left half written.
    if objects.size(bucket, &key).await? != Some(packed.size_bytes) {
        send(objects, bucket, &key, packed).await?;
    }
    Ok(source)
}

async fn send(objects: &Objects, bucket: &str, key: &str, packed: Packed) -> anyhow::Result<()> {
    let mut file = tokio::fs::File::from_std(packed.file);
    let mut upload = objects.upload(bucket, key);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = file
            .read(&mut chunk)
            .await
            .context("read the archive back")?;
        if read == 0 {
            return Ok(upload.complete().await?);
        }
        if let Err(error) = upload.write(Bytes::copy_from_slice(&chunk[..read])).await {
            upload.abort().await;
            return Err(error.into());
        }
    }
}
