//! Ends a job that waits in the queue and that no worker has: its time is over, or it was cancelled.
//!
//! ```text
//! read the message ─ gone ───────────────────────────────────────────▶ forget it
//!   │
//! whose id? ─ nobody's, or another body's ─▶ take the lease of its own name ─▶ result ─▶ delete the message ─▶ forget it
//!   │
//! an attempt, and no cancel ─────────────────────────────────────────▶ look again
//!   │
//! take the job's lease ─ held ───────────────────────────────────────▶ look again
//!   │
//! has a result ──────────────────────────────────────────────────────▶ delete the message ─▶ forget it
//! cancelled, or no attempt and its time over ─▶ result ─▶ event ─▶ delete the message ─▶ forget it
//! ```
//!
//! What always holds: a result is stored before its message is deleted; of a job that a worker holds nothing is touched; whatever breaks
//! off in the middle is done again from the start, and the stream of results takes the first.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use async_nats::jetstream::{Context, kv};
use bus::jobs::{Record, RecordError};
use bus::lease::{LeaseError, Leases};
use bus::log_end;
use bus::results::{self, ResultsError, Stored};
use jiff::Timestamp;
use schemas::event::{Event, EventKind, EventSchema};
use schemas::names::{event_subject, job_lease};
use schemas::refusal::{Refusal, job_id};
use schemas::{Job, JobResult, JobSubject, Token};
use tracing::{info, warn};

use super::QueueError;
use super::end::{End, Known};
use super::waiting::Due;

/// 5 s: as long as a worker gives a message back for that it finds held.
const HELD_LOOK_AGAIN: Duration = Duration::from_secs(5);

/// 1 min: a job that had an attempt may be given back without having spent it, and then its time in the queue counts again.
const ATTEMPT_LOOK_AGAIN: Duration = Duration::from_mins(1);

/// Ends jobs in the name of one bakery.
pub(super) struct Ending {
    pub(super) client: Client,
    pub(super) jetstream: Context,
    pub(super) queue: Stream<()>,
    pub(super) leases: Leases,
    pub(super) records: kv::Store,
    pub(super) bakery: Token,
}

/// What a look at a message found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// It is gone, now at the latest.
    Gone,
    /// It is somebody's business, for this long at least.
    Again(Duration),
}

/// Why a job was not ended. Time mends all of it: the server is away, or somebody else is at it.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Results(#[from] ResultsError),
}

/// A message as it lies in the queue.
struct Queued {
    sequence: u64,
    subject: JobSubject,
    body: bytes::Bytes,
    at: Timestamp,
}

impl Ending {
    /// Looks at a message that is due, and ends its job if it is to be ended.
    pub(super) async fn look(&self, due: Due) -> Result<Looked, EndError> {
        let Some(queued) = self.read(due.sequence).await? else {
            return Ok(Looked::Gone);
        };
        let Some(id) = job_id(&queued.body) else {
            let refusal = Refusal::unnamed(queued.sequence, &queued.body);
            return self.refuse(&queued, refusal).await;
        };
        match self.record(&queued, &id).await {
            Ok(record) if record.counted() > 0 && !due.cancelled => {
                Ok(Looked::Again(ATTEMPT_LOOK_AGAIN))
            }
            Ok(_) => {
                let ending = Box::pin(self.end_job(&queued, &id, due.cancelled));
                self.under_lease(&queued.subject.tenant, &id, ending).await
            }
            Err(RecordError::Conflict) => {
                let refusal = Refusal::conflict(queued.sequence, &id, &queued.body);
                self.refuse(&queued, refusal).await
            }
            Err(
                error
                @ (RecordError::Raced | RecordError::Bucket { .. } | RecordError::Read { .. }),
            ) => Err(error.into()),
        }
    }

    /// Deletes a message, which may be gone already.
    pub(super) async fn delete(&self, sequence: u64) -> Result<(), QueueError> {
        let deleted = self.queue.delete_message(sequence).await;
        let Err(error) = deleted else { return Ok(()) };
        if self.message(sequence).await?.is_none() {
            return Ok(());
        }
        Err(QueueError::of("delete a message")(error))
    }

    /// The job that nobody holds: this bakery has its lease. What was seen before that may have changed.
    async fn end_job(
        &self,
        queued: &Queued,
        id: &Token,
        cancelled: bool,
    ) -> Result<Looked, EndError> {
        let mut record = self.record(queued, id).await?;
        let tenant = &queued.subject.tenant;
        if results::fetch(&self.jetstream, tenant, id).await?.is_some() {
            self.delete(queued.sequence).await?;
            return Ok(Looked::Gone);
        }
        let end = match Job::parse(&queued.body) {
            Err(error) => End::from(Refusal::invalid(id.clone(), &error)),
            Ok(job) => {
                if cancelled && let Some(lost) = record.lost() {
                    log_end::say_lost(&self.jetstream, tenant, id, &lost).await;
                    record.mark_lost().await?;
                }
                let known = Known {
                    job: &job,
                    queued_at: queued.at,
                    counted: record.counted(),
                    cancelled,
                };
                let Some(end) = End::of(known, record.attempts(), Timestamp::now()) else {
                    return Ok(Looked::Again(ATTEMPT_LOOK_AGAIN));
                };
                end
            }
        };
        self.finish(queued, end, record.attempt()).await?;
        Ok(Looked::Gone)
    }

    /// A message that is no job of its own.
    async fn refuse(&self, queued: &Queued, refusal: Refusal) -> Result<Looked, EndError> {
        let name = refusal.name.clone();
        let refusing = Box::pin(async {
            self.finish(queued, refusal.into(), 1).await?;
            Ok(Looked::Gone)
        });
        self.under_lease(&queued.subject.tenant, &name, refusing)
            .await
    }

    /// Does `work` under the lease of a job, unless somebody has it.
    async fn under_lease(
        &self,
        tenant: &Token,
        name: &Token,
        work: impl Future<Output = Result<Looked, EndError>>,
    ) -> Result<Looked, EndError> {
        let key = job_lease(tenant, name);
        let Some(mut lease) = self.leases.take(&key, self.bakery.as_str()).await? else {
            return Ok(Looked::Again(HELD_LOOK_AGAIN));
        };
        let done = lease.while_held(work).await?;
        lease.release().await;
        done
    }

    /// Stores the result, tells of it, and deletes the message.
    async fn finish(&self, queued: &Queued, end: End, next_attempt: u32) -> Result<(), EndError> {
        let now = Timestamp::now();
        let result = end.result(&self.bakery, &queued.subject, queued.at, now);
        if results::publish_once(&self.jetstream, &result).await? == Stored::First {
            info!(job = %result.job_id, tenant = %result.tenant, reason = %result.reason, "ended in the queue");
            self.tell(&result, next_attempt).await;
        }
        self.delete(queued.sequence).await?;
        Ok(())
    }

    /// The event has the number of the attempt that would have been next, and is the only one of it. Nothing depends on it.
    async fn tell(&self, result: &JobResult, next_attempt: u32) {
        let event = Event {
            schema: EventSchema,
            job_id: result.job_id.clone(),
            attempt: next_attempt,
            seq: 1,
            time: Timestamp::now(),
            kind: EventKind::Finished.into(),
            step: None,
            message: Some(result.message.clone()),
        };
        let body = serde_json::to_vec(&event).expect("an event of plain fields is JSON");
        let subject = event_subject(&result.tenant, &result.job_id);
        if let Err(error) = self.client.publish(subject, body.into()).await {
            warn!(job = %result.job_id, %error, "event not published");
        }
    }

    async fn record(&self, queued: &Queued, id: &Token) -> Result<Record, RecordError> {
        let tenant = &queued.subject.tenant;
        Record::open(&self.records, tenant, id, &queued.body).await
    }

    async fn read(&self, sequence: u64) -> Result<Option<Queued>, QueueError> {
        let message = self.message(sequence).await?;
        message.map(Queued::read).transpose()
    }

    /// Asked of the stream's leader: another replica may not have heard yet of what was read a moment ago.
    async fn message(&self, sequence: u64) -> Result<Option<StreamMessage>, QueueError> {
        match self.queue.get_raw_message(sequence).await {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(QueueError::of("read a message")(error)),
        }
    }
}

impl Queued {
    fn read(message: StreamMessage) -> Result<Self, QueueError> {
        Ok(Self {
            sequence: message.sequence,
            subject: message
                .subject
                .parse()
                .map_err(QueueError::of("read the subject of a message"))?,
            at: stored_at(&message),
            body: message.payload,
        })
    }
}

/// When the stream stored a message.
pub(super) fn stored_at(message: &StreamMessage) -> Timestamp {
    let time = Timestamp::from_nanosecond(message.time.unix_timestamp_nanos());
    time.expect("a server's clock shows a time of this era")
}
