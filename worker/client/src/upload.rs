//! The source into S3, under its digest, unless it is there.

use std::time::Duration;

use anyhow::Context as _;
use bus::objects::{Objects, Upload};
use bytes::Bytes;
use schemas::source::ArchiveSource;
use schemas::{ObjectUri, Token, names};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use crate::interrupt::Interrupt;
use crate::pack::Packed;

/// How much of the archive is read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// 2 s: more than the one request takes, and as long as a person waits who has had enough.
const ABORT_WITHIN: Duration = Duration::from_secs(2);

/// Uploads what was packed, and says where it is.
pub(crate) async fn upload(
    objects: &Objects,
    tenant: &Token,
    packed: Packed,
    interrupt: &mut Interrupt,
) -> anyhow::Result<ArchiveSource> {
    let bucket = &objects.buckets().sources;
    let key = names::source_object(tenant, &packed.digest);
    let source = ArchiveSource {
        uri: ObjectUri::new(bucket, &key)?.into(),
        digest: packed.digest.into(),
    };
    // Another size is an object that somebody else's tool left half written.
    if interrupt.or(Box::pin(objects.size(bucket, &key))).await? != Some(packed.size_bytes) {
        let upload = objects.upload(bucket, &key);
        send(upload, File::from_std(packed.file), interrupt).await?;
    }
    Ok(source)
}

/// Sends it all; in boxes, since a request to S3 is large. Where that ends before its end, by an interrupt too, the server forgets the parts it has.
async fn send(mut upload: Upload, archive: File, interrupt: &mut Interrupt) -> anyhow::Result<()> {
    if let Err(error) = interrupt.or(Box::pin(write(&mut upload, archive))).await {
        // A server that does not answer keeps the parts, and nobody waiting.
        let _ = tokio::time::timeout(ABORT_WITHIN, Box::pin(upload.abort())).await;
        return Err(error);
    }
    interrupt.or(Box::pin(upload.complete())).await
}

async fn write(upload: &mut Upload, mut archive: File) -> anyhow::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = archive.read(&mut chunk).await;
        let read = read.context("read the archive back")?;
        if read == 0 {
            return Ok(());
        }
        upload.write(Bytes::copy_from_slice(&chunk[..read])).await?;
    }
}
