//! What a job did so far: its identity and its attempts, in the bucket `build-jobs`.
//!
//! What always holds: the first body seen with an id owns the id; an attempt is written before its VM starts, by
//! compare-and-set, so two workers never make the same one. Deliveries are never counted.

use async_nats::jetstream::kv::{self, CreateErrorKind, UpdateErrorKind};
use jiff::Timestamp;
use schemas::{Sha256Digest, Token};
use serde::{Deserialize, Serialize};

/// Attempts that a job has: a host's trouble that lasts over three of them is not one host's.
pub const MAX_ATTEMPTS: u32 = 3;

/// The value under `job.<tenant>.<job_id>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Digest of the body that owns the id.
    sha256: Sha256Digest,
    attempts: Vec<Attempt>,
}

/// One try at a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Attempt {
    worker: Token,
    started_at: Timestamp,
    /// Given back without the job's or the host's fault; does not count.
    #[serde(default)]
    returned: bool,
}

/// Why a job's record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Another body owns the id.
    #[error("another job has this id")]
    Conflict,
    /// Another worker wrote it at this moment.
    #[error("another worker has the job")]
    Raced,
    /// The bucket cannot be reached, or holds something else.
    #[error("the record of the job in build-jobs")]
    Bucket(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The record of one job, as this worker last saw it.
#[derive(Debug)]
pub struct JobRecord {
    bucket: kv::Store,
    key: String,
    record: Record,
    revision: u64,
    /// This worker wrote its last attempt.
    begun: bool,
}

impl JobRecord {
    /// Makes the record, or finds it; refuses a body that does not own the id.
    pub async fn open(
        bucket: &kv::Store,
        tenant: &Token,
        job_id: &Token,
        body: &[u8],
    ) -> Result<Self, RecordError> {
        let key = format!("job.{tenant}.{job_id}");
        let record = Record {
            sha256: Sha256Digest::of(body),
            attempts: Vec::new(),
        };
        let created = bucket.create(&key, encode(&record)).await;
        let (record, revision) = match created {
            Ok(revision) => (record, revision),
            Err(error) if error.kind() == CreateErrorKind::AlreadyExists => {
                let entry = bucket.entry(&key).await.map_err(bucket_error)?;
                let entry = entry.ok_or(RecordError::Raced)?;
                let found: Record = serde_json::from_slice(&entry.value).map_err(bucket_error)?;
                if found.sha256 != record.sha256 {
                    return Err(RecordError::Conflict);
                }
                (found, entry.revision)
            }
            Err(error) => return Err(bucket_error(error)),
        };
        Ok(Self {
            bucket: bucket.clone(),
            key,
            record,
            revision,
            begun: false,
        })
    }

    /// Attempts that count.
    pub fn attempts(&self) -> u32 {
        let counted = self
            .record
            .attempts
            .iter()
            .filter(|attempt| !attempt.returned)
            .count();
        u32::try_from(counted).unwrap_or(u32::MAX)
    }

    /// The number of the attempt that would begin now, from 1. Returned attempts have numbers too, so that no two logs have
    /// one name.
    pub fn next_attempt(&self) -> u32 {
        let after_last = self.record.attempts.len() + usize::from(!self.begun);
        u32::try_from(after_last).unwrap_or(u32::MAX)
    }

    /// Writes down that an attempt begins: that of [`JobRecord::next_attempt`].
    pub async fn begin(&mut self, worker: &Token) -> Result<(), RecordError> {
        let attempt = Attempt {
            worker: worker.clone(),
            started_at: Timestamp::now(),
            returned: false,
        };
        self.record.attempts.push(attempt);
        self.begun = true;
        self.write().await
    }

    /// Writes down that the attempt that began here was given back and does not count. Where none began, nothing is said of
    /// those before it.
    pub async fn give_back(&mut self) -> Result<(), RecordError> {
        let begun = self.record.attempts.last_mut().filter(|_| self.begun);
        let Some(last) = begun else {
            return Ok(());
        };
        last.returned = true;
        self.write().await
    }

    async fn write(&mut self) -> Result<(), RecordError> {
        let written = self
            .bucket
            .update(&self.key, encode(&self.record), self.revision)
            .await;
        self.revision = written.map_err(|error| match error.kind() {
            UpdateErrorKind::WrongLastRevision => RecordError::Raced,
            UpdateErrorKind::InvalidKey | UpdateErrorKind::TimedOut | UpdateErrorKind::Other => {
                bucket_error(error)
            }
        })?;
        Ok(())
    }
}

fn encode(record: &Record) -> bytes::Bytes {
    serde_json::to_vec(record)
        .expect("a record of plain fields is JSON")
        .into()
}

fn bucket_error(error: impl std::error::Error + Send + Sync + 'static) -> RecordError {
    RecordError::Bucket(Box::new(error))
}
