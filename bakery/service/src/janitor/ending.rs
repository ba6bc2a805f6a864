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
use bus::results::{self, ResultsError, Stored};
use jiff::Timestamp;
use schemas::event::{Event, EventKind, EventSchema};
use schemas::names::{event_subject, job_lease};
use schemas::reason::Reason;
use schemas::record::Attempt;
use schemas::refusal::{Refusal, job_id};
use schemas::result::{ResultSchema, StepResult, Termination, Timing};
use schemas::{Job, JobResult, JobSubject, Token};
use tracing::{info, warn};

use super::QueueError;
use super::waiting::{Due, later};

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

/// How a job ends, and under which name.
struct End {
    name: Token,
    reason: Reason,
    message: String,
    /// Attempts that count, at least 1.
    attempt: u32,
    past_attempts: Vec<Attempt>,
    steps: Vec<Token>,
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
                let Some((reason, message)) = verdict(&job, queued.at, &record, cancelled) else {
                    return Ok(Looked::Again(ATTEMPT_LOOK_AGAIN));
                };
                record.mark_lost().await?;
                End {
                    name: id.clone(),
                    reason,
                    message,
                    attempt: record.counted().max(1),
                    past_attempts: record.attempts().to_vec(),
                    steps: job.steps.into_iter().map(|step| step.name).collect(),
                }
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
        let result = self.result(queued, end);
        if results::publish_once(&self.jetstream, &result).await? == Stored::First {
            info!(job = %result.job_id, tenant = %result.tenant, reason = %result.reason, "ended in the queue");
            self.tell(&result, next_attempt).await;
        }
        self.delete(queued.sequence).await?;
        Ok(())
    }

    fn result(&self, queued: &Queued, end: End) -> JobResult {
        let not_run = |name| StepResult::new(name, Termination::NotRun, Duration::ZERO);
        JobResult {
            schema: ResultSchema,
            job_id: end.name,
            tenant: queued.subject.tenant.clone(),
            trust: queued.subject.trust,
            attempt: end.attempt,
            worker: self.bakery.clone(),
            past_attempts: end.past_attempts,
            status: end.reason.status(),
            reason: end.reason.into(),
            message: end.message,
            exit_code: None,
            failed_step: None,
            steps: end.steps.into_iter().map(not_run).collect(),
            environment: None,
            source: None,
            artifacts: Vec::new(),
            artifacts_manifest: None,
            log: None,
            egress: schemas::result::Egress::default(),
            timing: Timing {
                queued_at: Some(queued.at),
                finished_at: Some(Timestamp::now()),
                ..Timing::default()
            },
            usage: None,
        }
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
                .map_err(QueueError::of("read the subject of a job"))?,
            at: stored_at(&message),
            body: message.payload,
        })
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self {
            name: refusal.name,
            reason: refusal.reason,
            message: refusal.message,
            attempt: 1,
            past_attempts: Vec::new(),
            steps: Vec::new(),
        }
    }
}

/// When the stream stored a message.
pub(super) fn stored_at(message: &StreamMessage) -> Timestamp {
    let time = Timestamp::from_nanosecond(message.time.unix_timestamp_nanos());
    time.expect("a server's clock shows a time of this era")
}

/// How a job ends that nobody holds, and why; none where it goes on.
fn verdict(
    job: &Job,
    queued_at: Timestamp,
    record: &Record,
    cancelled: bool,
) -> Option<(Reason, String)> {
    let attempts = record.counted();
    if cancelled {
        let message = match attempts {
            0 => "it was cancelled before it ran",
            _ => "it was cancelled, and its worker was lost",
        };
        Some((Reason::Cancelled, message.to_owned()))
    } else if attempts == 0 && later(queued_at, job.timeouts.queue()) <= Timestamp::now() {
        let seconds = job.timeouts.queue_s;
        let message = format!("it waited longer than timeouts.queue_s, {seconds} s");
        Some((Reason::QueueExpired, message))
    } else {
        None
    }
}
