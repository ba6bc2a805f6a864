//! A job's log: published while it grows, spooled to a file, stored whole at the end.
//!
//! The spool is what counts; the live log may have gaps, and holds no build up.
//!
//! What always holds: no more than the cap is kept, whatever a build writes; the last chunk of an attempt is marked and published before
//! its result is, and before its job is given back.

mod end;
mod live;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::jetstream;
use bus::objects::{Objects, ObjectsError};
use schemas::log::LogStream;
use schemas::names::{log_object, log_subject};
use schemas::result::LogRef;
use schemas::{ObjectUri, Sha256Digest, Token};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

pub use end::say_only;
use live::Live;

/// How long the end waits for the last chunks to be confirmed.
const LAST_CHUNKS: Duration = Duration::from_secs(10);

/// The same for a job that is given back: whoever ends is waited for by others.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Bytes of the spool that are uploaded at a time.
const READ_SIZE: usize = 256 * 1024;

/// Why a log could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The host's own disk.
    #[error("spool the log in {directory}")]
    Spool {
        /// Where its spool is.
        directory: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The object store.
    #[error("store the log")]
    Store(#[source] ObjectsError),
}

/// The log of one attempt, while it grows.
#[derive(Debug)]
pub struct JobLog {
    spool: File,
    /// Where the spool is, which has no name there.
    directory: PathBuf,
    hasher: Sha256,
    size: u64,
    cap: u64,
    truncated: bool,
    live: Live,
    object: String,
}

impl JobLog {
    /// Starts the log of one attempt at a job. `dir` is a directory for its spool, which has no name there.
    pub fn start(
        jetstream: &jetstream::Context,
        tenant: &Token,
        job_id: &Token,
        attempt: u32,
        cap: u64,
        dir: &Path,
    ) -> Result<Self, LogError> {
        let spool = tempfile::tempfile_in(dir).map_err(failed_in(dir))?;
        Ok(Self {
            spool: File::from_std(spool),
            directory: dir.to_owned(),
            hasher: Sha256::new(),
            size: 0,
            cap,
            truncated: false,
            live: Live::start(jetstream.clone(), log_subject(tenant, job_id), attempt),
            object: log_object(tenant, job_id, attempt),
        })
    }

    /// Adds output of a step.
    pub async fn write(
        &mut self,
        step: &Token,
        stream: LogStream,
        bytes: &[u8],
    ) -> Result<(), LogError> {
        let room = usize::try_from(self.cap - self.size).unwrap_or(usize::MAX);
        let kept = &bytes[..bytes.len().min(room)];
        self.truncated |= kept.len() < bytes.len();
        if kept.is_empty() {
            return Ok(());
        }
        self.spool
            .write_all(kept)
            .await
            .map_err(failed_in(&self.directory))?;
        self.hasher.update(kept);
        self.size += kept.len() as u64;
        for chunk in kept.chunks(schemas::log::MAX_CHUNK_BYTES) {
            self.live.send(step, stream, chunk).await;
        }
        Ok(())
    }

    /// Marks the end of an attempt that has no result, with the reason. Does nothing to a log whose end is marked.
    pub async fn end(&mut self, why: &str) {
        self.live.end(&line(why)).await;
        self.live.finish(LAST_WORDS).await;
    }

    /// Marks the end of an attempt that will have a result, with the reason where the host failed. Does nothing to a log whose end is
    /// marked.
    pub async fn mark_end(&mut self, why: Option<&str>) {
        self.live.end(&why.map_or_else(Vec::new, line)).await;
    }

    /// Stores the whole, whose end is marked; a job without output has no log. What was cut off may be done again.
    pub async fn store(&mut self, objects: &Objects) -> Result<Option<LogRef>, LogError> {
        let chunks_lost = self.live.finish(LAST_CHUNKS).await;
        if self.size == 0 {
            return Ok(None);
        }
        self.spool
            .flush()
            .await
            .map_err(failed_in(&self.directory))?;
        self.spool
            .rewind()
            .await
            .map_err(failed_in(&self.directory))?;
        let bucket = objects.buckets().logs.clone();
        let mut upload = objects.upload(&bucket, &self.object);
        loop {
            let mut part = vec![0; READ_SIZE];
            let count = self
                .spool
                .read(&mut part)
                .await
                .map_err(failed_in(&self.directory))?;
            if count == 0 {
                break;
            }
            part.truncate(count);
            upload.write(part.into()).await.map_err(LogError::Store)?;
        }
        upload.complete().await.map_err(LogError::Store)?;
        Ok(Some(LogRef {
            uri: ObjectUri::new(&bucket, &self.object)
                .expect("a bucket and a key of tokens make an address"),
            digest: Sha256Digest::from_bytes(self.hasher.clone().finalize().into()).into(),
            size_bytes: self.size,
            truncated: self.truncated,
            chunks_lost,
        }))
    }
}

fn failed_in(directory: &Path) -> impl FnOnce(std::io::Error) -> LogError {
    move |source| LogError::Spool {
        directory: directory.to_owned(),
        source,
    }
}

/// A remark of the worker's own, as a line of the log.
fn line(text: &str) -> Vec<u8> {
    format!("{text}\n").into_bytes()
}
