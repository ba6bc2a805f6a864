//! The record of a job in the bucket `build-jobs`: who owns its id, and each attempt at it.
//!
//! ```text
//! open ──▶ mark_lost ──▶ begin ──▶ (result)          the attempt has no end of its own
//!                          └─────▶ end(Failed)       the host failed
//!                          └─────▶ end(Returned)     the worker was told to end: does not count
//!                          └─ dies: the next holder's mark_lost
//! ```
//!
//! What always holds: the first body seen with an id owns the id; an attempt is written before its VM starts, by compare-and-set, so two
//! workers never make the same one. Deliveries are never counted.

use async_nats::jetstream::kv::{self, CreateErrorKind, UpdateErrorKind};
use jiff::Timestamp;
use schemas::names::job_record;
use schemas::reason::Reason;
use schemas::record::{Attempt, AttemptEnd, AttemptEndKind, JobRecord};
use schemas::{FieldError, Sha256Digest, Token};

/// Why a job's record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Another body owns the id.
    #[error("another job has this id")]
    Conflict,
    /// Somebody else wrote it at this moment.
    #[error("another worker has the job")]
    Raced,
    /// The bucket cannot be reached.
    #[error("the record {key} in build-jobs")]
    Bucket {
        /// The record.
        key: String,
        /// What the client said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The bucket holds something else there.
    #[error("read the record {key} in build-jobs")]
    Read {
        /// The record.
        key: String,
        /// What it is not.
        #[source]
        source: FieldError,
    },
}

/// The record of one job, as this process last saw it. Whoever writes to it holds the job's lease.
#[derive(Debug)]
pub struct Record {
    bucket: kv::Store,
    key: String,
    seen: JobRecord,
    revision: u64,
    /// The number of the attempt that this process began.
    begun: Option<u32>,
}

/// An attempt whose worker was never heard of again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostAttempt {
    /// Its number, from 1.
    pub number: u32,
    /// The worker.
    pub worker: Token,
}

/// The record of a job, if it has one: for whoever only reads.
pub async fn fetch(
    bucket: &kv::Store,
    tenant: &Token,
    job_id: &Token,
) -> Result<Option<JobRecord>, RecordError> {
    let key = job_record(tenant, job_id);
    let value = bucket.get(&key).await.map_err(failed(&key))?;
    value.map(|body| parse(&key, &body)).transpose()
}

impl Record {
    /// Makes the record, or finds it; refuses a body that does not own the id.
    pub async fn open(
        bucket: &kv::Store,
        tenant: &Token,
        job_id: &Token,
        body: &[u8],
    ) -> Result<Self, RecordError> {
        let key = job_record(tenant, job_id);
        let new = JobRecord::new(Sha256Digest::of(body));
        let (record, revision) = match bucket.create(&key, encode(&new)).await {
            Ok(revision) => (new, revision),
            Err(error) if error.kind() == CreateErrorKind::AlreadyExists => {
                let entry = bucket.entry(&key).await.map_err(failed(&key))?;
                let entry = entry.ok_or(RecordError::Raced)?;
                let found = parse(&key, &entry.value)?;
                if found.sha256 != new.sha256 {
                    return Err(RecordError::Conflict);
                }
                (found, entry.revision)
            }
            Err(error) => return Err(failed(&key)(error)),
        };
        Ok(Self {
            bucket: bucket.clone(),
            key,
            seen: record,
            revision,
            begun: None,
        })
    }

    /// Reads it again, for whoever opened it before the job's lease was its own: what others wrote until then is seen.
    pub async fn refresh(&mut self) -> Result<(), RecordError> {
        let entry = self.bucket.entry(&self.key).await;
        let entry = entry.map_err(failed(&self.key))?;
        let entry = entry.ok_or(RecordError::Raced)?;
        self.seen = parse(&self.key, &entry.value)?;
        self.revision = entry.revision;
        Ok(())
    }

    /// Every attempt, in order.
    pub fn attempts(&self) -> &[Attempt] {
        &self.seen.attempts
    }

    /// Attempts that count.
    pub fn counted(&self) -> u32 {
        self.seen.counted()
    }

    /// When the last attempt that counts began; none before the first.
    pub fn last_attempt_at(&self) -> Option<Timestamp> {
        let mut counted = self.seen.attempts.iter().filter(|one| one.counts());
        counted.next_back().map(|attempt| attempt.started_at)
    }

    /// Whether an attempt was begun here: the last one.
    pub fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// The number of the attempt that was begun here, or else of the one that would begin now. Returned attempts have numbers too, so that
    /// no two logs have one name.
    pub fn attempt(&self) -> u32 {
        self.begun.unwrap_or_else(|| self.next())
    }

    /// The last attempt, where the record does not say how it ended and it was not begun here: whoever holds the job's lease now knows
    /// that its worker was lost. What else is to be said of it is said before [`Record::mark_lost`]: from then on nobody is told again.
    pub fn lost(&self) -> Option<LostAttempt> {
        let last = self.seen.attempts.last()?;
        if last.end.is_some() || self.begun.is_some() {
            return None;
        }
        Some(LostAttempt {
            number: u32::try_from(self.seen.attempts.len()).unwrap_or(u32::MAX),
            worker: last.worker.clone(),
        })
    }

    /// Writes down that the worker of [`Record::lost`] was lost, if there is one.
    pub async fn mark_lost(&mut self) -> Result<Option<LostAttempt>, RecordError> {
        let Some(lost) = self.lost() else {
            return Ok(None);
        };
        let message = format!("the worker {} was lost", lost.worker);
        if let Some(last) = self.seen.attempts.last_mut() {
            last.end = Some(AttemptEnd::now(AttemptEndKind::Lost, None, &message));
        }
        self.write().await?;
        Ok(Some(lost))
    }

    /// Writes down that an attempt begins: that of [`Record::attempt`].
    pub async fn begin(&mut self, worker: &Token) -> Result<(), RecordError> {
        self.begun = Some(self.next());
        let attempt = Attempt::begin(worker.clone(), Timestamp::now());
        self.seen.attempts.push(attempt);
        self.write().await
    }

    /// Writes down how the attempt ended that began here. Where none began, nothing is said of those before it. The write of
    /// [`Record::begin`] may have been cut off: it is asked for whether it was stored.
    pub async fn end(
        &mut self,
        kind: AttemptEndKind,
        reason: Option<Reason>,
        message: &str,
    ) -> Result<(), RecordError> {
        let begun = self.seen.attempts.last_mut();
        let Some(last) = begun.filter(|_| self.begun.is_some()) else {
            return Ok(());
        };
        let unmarked = last.clone();
        last.end = Some(AttemptEnd::now(kind, reason, message));
        match self.write().await {
            Err(RecordError::Raced) => {
                self.revision = self.revision_where_last_is(&unmarked).await?;
                self.write().await
            }
            written @ (Ok(())
            | Err(
                RecordError::Conflict | RecordError::Bucket { .. } | RecordError::Read { .. },
            )) => written,
        }
    }

    /// The revision that the record has now, if that attempt is the last in it.
    async fn revision_where_last_is(&self, attempt: &Attempt) -> Result<u64, RecordError> {
        let entry = self.bucket.entry(&self.key).await;
        let entry = entry.map_err(failed(&self.key))?;
        let entry = entry.ok_or(RecordError::Raced)?;
        if parse(&self.key, &entry.value)?.attempts.last() == Some(attempt) {
            Ok(entry.revision)
        } else {
            Err(RecordError::Raced)
        }
    }

    fn next(&self) -> u32 {
        u32::try_from(self.seen.attempts.len() + 1).unwrap_or(u32::MAX)
    }

    async fn write(&mut self) -> Result<(), RecordError> {
        let body = encode(&self.seen);
        let written = self.bucket.update(&self.key, body, self.revision).await;
        self.revision = written.map_err(|error| match error.kind() {
            UpdateErrorKind::WrongLastRevision => RecordError::Raced,
            UpdateErrorKind::InvalidKey | UpdateErrorKind::TimedOut | UpdateErrorKind::Other => {
                failed(&self.key)(error)
            }
        })?;
        Ok(())
    }
}

fn encode(record: &JobRecord) -> bytes::Bytes {
    serde_json::to_vec(record)
        .expect("a record of plain fields is JSON")
        .into()
}

fn parse(key: &str, body: &[u8]) -> Result<JobRecord, RecordError> {
    JobRecord::parse(body).map_err(|source| RecordError::Read {
        key: key.to_owned(),
        source,
    })
}

fn failed<E>(key: &str) -> impl FnOnce(E) -> RecordError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let key = key.to_owned();
    move |error| RecordError::Bucket {
        key,
        source: error.into(),
    }
}

#[cfg(test)]
mod tests;
