//! A job's log: published while it grows, spooled to a file, stored whole at the end.
//!
//! The spool is what counts. The live log goes to a task of its own, which waits for the server's confirmations; when it
//! cannot keep up for [`PATIENCE`], chunks are left out of the live log and counted, and the build goes on.
//!
//! What always holds: no more than the cap is kept, whatever a build writes; the last chunk is marked and published before
//! the result is.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::context::PublishAckFuture;
use async_nats::{HeaderMap, jetstream};
use bus::objects::{Objects, ObjectsError};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use schemas::log::{ChunkHeader, LogStream};
use schemas::names::{log_object, log_subject};
use schemas::result::LogRef;
use schemas::{ObjectUri, Sha256Digest, Token};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::task::JoinHandle;

/// Chunks that wait to be published: 4 MiB at most.
const QUEUE: usize = 64;

/// Chunks that are published and not yet confirmed.
const UNCONFIRMED: usize = 32;

/// How long a build is held up by a live log that does not take more, once; after that it is not waited for until it does.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the end waits for the last chunks to be confirmed.
const LAST_CHUNKS: Duration = Duration::from_secs(10);

/// Bytes of the spool that are uploaded at a time.
const READ_SIZE: usize = 256 * 1024;

/// Why a log could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The host's own disk.
    #[error("spool the log")]
    Spool(#[source] std::io::Error),
    /// The object store.
    #[error("store the log")]
    Store(#[source] ObjectsError),
}

/// The log of one attempt, while it grows.
#[derive(Debug)]
pub struct JobLog {
    spool: File,
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
        let spool = tempfile::tempfile_in(dir).map_err(LogError::Spool)?;
        Ok(Self {
            spool: File::from_std(spool),
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
        self.spool.write_all(kept).await.map_err(LogError::Spool)?;
        self.hasher.update(kept);
        self.size += kept.len() as u64;
        for chunk in kept.chunks(schemas::log::MAX_CHUNK_BYTES) {
            self.live.send(Some(step), stream, chunk, false).await;
        }
        Ok(())
    }

    /// Marks the end, and stores the whole; a job without output has no log.
    pub async fn store(mut self, objects: &Objects) -> Result<Option<LogRef>, LogError> {
        if self.size == 0 {
            return Ok(None);
        }
        self.live.send(None, LogStream::System, &[], true).await;
        let chunks_lost = self.live.finish().await;
        self.spool.flush().await.map_err(LogError::Spool)?;
        self.spool.rewind().await.map_err(LogError::Spool)?;
        let bucket = objects.buckets().logs.clone();
        let mut upload = objects.upload(&bucket, &self.object);
        loop {
            let mut part = vec![0; READ_SIZE];
            let count = self.spool.read(&mut part).await.map_err(LogError::Spool)?;
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
            digest: Sha256Digest::from_bytes(self.hasher.finalize().into()).into(),
            size_bytes: self.size,
            truncated: self.truncated,
            chunks_lost,
        }))
    }
}

/// The live log.
#[derive(Debug)]
struct Live {
    chunks: mpsc::Sender<(HeaderMap, Bytes)>,
    publisher: JoinHandle<()>,
    /// Chunks that the server has.
    confirmed: Arc<AtomicU64>,
    attempt: u32,
    seq: u64,
    /// The publisher did not take a chunk in time, and has taken none since.
    stuck: bool,
}

impl Live {
    fn start(jetstream: jetstream::Context, subject: String, attempt: u32) -> Self {
        let (chunks, queue) = mpsc::channel(QUEUE);
        let confirmed = Arc::new(AtomicU64::new(0));
        let publisher = tokio::spawn(publish(jetstream, subject, queue, Arc::clone(&confirmed)));
        Self {
            chunks,
            publisher,
            confirmed,
            attempt,
            seq: 0,
            stuck: false,
        }
    }

    async fn send(&mut self, step: Option<&Token>, stream: LogStream, bytes: &[u8], eof: bool) {
        self.seq += 1;
        let header = ChunkHeader {
            attempt: self.attempt,
            step: step.cloned(),
            stream,
            seq: self.seq,
            time: Timestamp::now(),
            eof,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in header.to_pairs() {
            headers.insert(name, value);
        }
        let patience = if self.stuck { Duration::ZERO } else { PATIENCE };
        let sent = self
            .chunks
            .send_timeout((headers, Bytes::copy_from_slice(bytes)), patience)
            .await;
        self.stuck = match sent {
            Ok(()) => false,
            Err(SendTimeoutError::Timeout(_) | SendTimeoutError::Closed(_)) => true,
        };
    }

    /// Waits until what was sent is confirmed, and gives the number of chunks that were not.
    async fn finish(self) -> u64 {
        drop(self.chunks);
        let waiting = self.publisher.abort_handle();
        if tokio::time::timeout(LAST_CHUNKS, self.publisher)
            .await
            .is_err()
        {
            waiting.abort();
        }
        self.seq - self.confirmed.load(Ordering::Relaxed)
    }
}

/// Publishes chunks in order, some of them unconfirmed at a time.
async fn publish(
    jetstream: jetstream::Context,
    subject: String,
    mut queue: mpsc::Receiver<(HeaderMap, Bytes)>,
    confirmed: Arc<AtomicU64>,
) {
    let mut unconfirmed = FuturesUnordered::new();
    while let Some((headers, bytes)) = queue.recv().await {
        let published = jetstream.publish_with_headers(subject.clone(), headers, bytes);
        if let Ok(confirmation) = published.await {
            unconfirmed.push(confirmation.into_future());
        }
        if unconfirmed.len() >= UNCONFIRMED {
            count(unconfirmed.next().await.as_ref(), &confirmed);
        }
    }
    while let Some(done) = unconfirmed.next().await {
        count(Some(&done), &confirmed);
    }
}

/// What a [`PublishAckFuture`] gives in the end.
type Confirmed = <PublishAckFuture as IntoFuture>::Output;

fn count(done: Option<&Confirmed>, confirmed: &AtomicU64) {
    if let Some(Ok(_)) = done {
        confirmed.fetch_add(1, Ordering::Relaxed);
    }
}
