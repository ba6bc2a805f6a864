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

    /// When the last attempt that counts began; none before the first.
    pub fn last_attempt_at(&self) -> Option<Timestamp> {
        let mut counted = self.record.attempts.iter().filter(|one| !one.returned);
        counted.next_back().map(|attempt| attempt.started_at)
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
    /// those before it. The write of [`JobRecord::begin`] may have been cut off: it is asked for whether it was stored.
    pub async fn give_back(&mut self) -> Result<(), RecordError> {
        let begun = self.record.attempts.last_mut().filter(|_| self.begun);
        let Some(last) = begun else {
            return Ok(());
        };
        let unmarked = last.clone();
        last.returned = true;
        match self.write().await {
            Err(RecordError::Raced) => {
                self.revision = self.revision_where_last_is(&unmarked).await?;
                self.write().await
            }
            written @ (Ok(()) | Err(RecordError::Conflict | RecordError::Bucket(_))) => written,
        }
    }

    /// The revision that the record has now, if that attempt is the last in it.
    async fn revision_where_last_is(&self, attempt: &Attempt) -> Result<u64, RecordError> {
        let entry = self.bucket.entry(&self.key).await.map_err(bucket_error)?;
        let entry = entry.ok_or(RecordError::Raced)?;
        let found: Record = serde_json::from_slice(&entry.value).map_err(bucket_error)?;
        if found.attempts.last() == Some(attempt) {
            Ok(entry.revision)
        } else {
            Err(RecordError::Raced)
        }
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

#[cfg(test)]
mod tests {
    use async_nats::jetstream;

    use super::*;

    /// A record of a new job in a bucket of a real nats-server; none where there is no server.
    async fn record() -> Option<(JobRecord, Token)> {
        let Ok(url) = std::env::var("NATS_URL") else {
            eprintln!("skipped: no NATS_URL");
            return None;
        };
        let jetstream = jetstream::new(async_nats::connect(url).await.unwrap());
        bus::streams::provision(&jetstream, 1).await.unwrap();
        let jobs = jetstream.get_key_value(schemas::names::bucket::JOBS);
        let jobs = jobs.await.unwrap();
        let id = Token::parse(uuid::Uuid::new_v4().to_string()).unwrap();
        Some((open(&jobs, &id).await, id))
    }

    async fn open(jobs: &kv::Store, id: &Token) -> JobRecord {
        let tenant = "record".parse().unwrap();
        JobRecord::open(jobs, &tenant, id, b"body").await.unwrap()
    }

    #[tokio::test]
    async fn an_attempt_whose_write_was_cut_off_can_be_given_back() {
        let Some((mut record, id)) = record().await else {
            return;
        };
        let before = record.revision;
        record.begin(&"worker-1".parse().unwrap()).await.unwrap();
        assert!(record.last_attempt_at().is_some());
        // The server stored it, and its answer was not waited for.
        record.revision = before;
        record.give_back().await.unwrap();
        let found = open(&record.bucket, &id).await;
        assert_eq!((found.attempts(), found.next_attempt()), (0, 2));
        assert_eq!(found.last_attempt_at(), None);
    }

    #[tokio::test]
    async fn an_attempt_of_another_worker_is_not_given_back() {
        let Some((mut record, id)) = record().await else {
            return;
        };
        let mut other = open(&record.bucket, &id).await;
        other.begin(&"worker-2".parse().unwrap()).await.unwrap();
        let begun = record.begin(&"worker-1".parse().unwrap()).await;
        assert!(matches!(begun, Err(RecordError::Raced)));
        let given_back = record.give_back().await;
        assert!(matches!(given_back, Err(RecordError::Raced)));
        assert_eq!(open(&record.bucket, &id).await.attempts(), 1);
    }
}
