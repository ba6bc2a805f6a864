//! An unnamed file that is hashed and counted while it is written, and objects that are written from one.

use std::fs::File;
use std::io;
use std::path::Path;

use bus::objects::{Objects, ObjectsError};
use bytes::BytesMut;
use schemas::{ObjectUri, Sha256Digest};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::error::SourceError;

/// 1 MiB: read from the file at a time while it is uploaded.
const PIECE: usize = 1 << 20;

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct Spool {
    file: tokio::fs::File,
    hasher: Sha256,
    left: u64,
}

/// Why bytes are not taken.
#[derive(Debug)]
pub(crate) enum SpoolError {
    /// They are more than the spool may hold.
    Full,
    /// The host's own disk failed.
    Disk(io::Error),
}

impl Spool {
    /// An empty file in the directory `into`, for at most `limit` bytes.
    pub(crate) fn new(into: &Path, limit: u64) -> Result<Self, SourceError> {
        let file = tempfile::tempfile_in(into).map_err(SourceError::Spool)?;
        Ok(Self {
            file: tokio::fs::File::from_std(file),
            hasher: Sha256::new(),
            left: limit,
        })
    }

    /// Adds bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or(SpoolError::Full)?;
        self.hasher.update(bytes);
        self.file.write_all(bytes).await.map_err(SpoolError::Disk)
    }

    /// The whole file, and the digest of what was written.
    pub(crate) async fn finish(mut self) -> Result<(File, Sha256Digest), SourceError> {
        self.file.flush().await.map_err(SourceError::Spool)?;
        let digest = Sha256Digest::from_bytes(self.hasher.finalize().into());
        Ok((self.file.into_std().await, digest))
    }
}

/// Writes all of `file` to the object `uri`.
pub(crate) async fn upload(
    objects: &Objects,
    file: &File,
    uri: &ObjectUri,
) -> Result<(), SourceError> {
    let failed = |source| SourceError::Store {
        uri: uri.clone(),
        source,
    };
    let file = file.try_clone().map_err(SourceError::Spool)?;
    let mut upload = objects.upload(uri.bucket(), uri.key());
    match send(&mut upload, tokio::fs::File::from_std(file)).await {
        Ok(()) => upload.complete().await.map_err(failed),
        Err(SendError::Disk(error)) => {
            upload.abort().await;
            Err(SourceError::Spool(error))
        }
        Err(SendError::Objects(error)) => {
            upload.abort().await;
            Err(failed(error))
        }
    }
}

/// Why a file did not become an object.
enum SendError {
    Disk(io::Error),
    Objects(ObjectsError),
}

async fn send(
    upload: &mut bus::objects::Upload,
    mut file: tokio::fs::File,
) -> Result<(), SendError> {
    file.rewind().await.map_err(SendError::Disk)?;
    loop {
        let mut piece = BytesMut::with_capacity(PIECE);
        if file.read_buf(&mut piece).await.map_err(SendError::Disk)? == 0 {
            return Ok(());
        }
        let written = upload.write(piece.freeze()).await;
        written.map_err(SendError::Objects)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_hashed_and_no_more_than_the_limit_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(directory.path(), 5).unwrap();
        spool.write(b"hello").await.unwrap();
        assert!(matches!(spool.write(b"!").await, Err(SpoolError::Full)));
        let (file, digest) = spool.finish().await.unwrap();
        assert_eq!(digest, Sha256Digest::of(b"hello"));
        assert_eq!(file.metadata().unwrap().len(), 5);
    }
}
