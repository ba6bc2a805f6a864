//! From a delivered message to an attempt: who asks, for which job, whether it has its answer already.
//!
//! What always holds: every message gets a result, also one that is no job at all; the first body with an id owns the id.
//! No attempt is recorded here: what a job needs may not be there yet.

use async_nats::jetstream::{AckKind, Message};
use jiff::Timestamp;
use schemas::Token;
use schemas::job::{Job, peek_id};
use schemas::names::JobSubject;
use schemas::reason::Reason;
use schemas::result::Timing;
use tempfile::TempDir;
use tracing::{error, info, warn};

use crate::attempt::{Attempt, Claimed, waited_since};
use crate::lifecycle::{Event, Lifecycle};
use crate::presence::Slot;
use crate::queue::Taken;
use crate::report::{Gathered, Subject};
use crate::services::Services;
use crate::verdict::Verdict;
use bus::jobs::{Record, RecordError};

/// Before a message is looked at again whose claim met another worker or a server that was away.
const LOOK_AGAIN_AFTER: std::time::Duration = std::time::Duration::from_secs(5);

/// Why a message was not claimed.
#[derive(Debug, thiserror::Error)]
enum ClaimError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("look for the job's result")]
    Results(#[from] bus::results::ResultsError),
    #[error("the delivery has no place in the stream: {0}")]
    Delivery(String),
    #[error("the subject {0} is not a job's")]
    Subject(String),
    #[error("make a scratch directory")]
    Scratch(#[from] std::io::Error),
}

/// Handles one delivered message to its end, in `slot` while it runs.
pub async fn handle(services: Services, taken: Taken, slot: Slot) {
    let Taken { message, cap: _cap } = taken;
    // A delivery's time counts from now, not from the first delivery.
    if let Err(error) = message.ack_with(AckKind::Progress).await {
        warn!(%error, "no sign of life sent");
    }
    match claim(&services, &message).await {
        Ok(Claim::Attempt(start)) => Box::pin(start.run(services, message, slot)).await,
        Ok(Claim::Answered) => {
            // The next delivery, if this is lost, finds the result as well.
            if let Err(error) = message.double_ack().await {
                warn!(%error, "not acknowledged");
            }
        }
        Err(error @ (ClaimError::Delivery(_) | ClaimError::Subject(_))) => {
            // There is nobody to answer, and it would come back for ever.
            error!(error = %bus::telemetry::Causes(&error), "thrown away");
            if let Err(error) = message.ack_with(AckKind::Term).await {
                warn!(%error, "not thrown away: it comes back when its time is over");
            }
        }
        Err(error) => {
            warn!(error = %bus::telemetry::Causes(&error), "not claimed, and given back");
            if let Err(error) = message.ack_with(AckKind::Nak(Some(LOOK_AGAIN_AFTER))).await {
                warn!(%error, "not given back: it comes back when its time is over");
            }
        }
    }
}

/// What a message turned out to be.
enum Claim {
    /// Something to bring to its end.
    Attempt(Box<Begin>),
    /// A job that has its result.
    Answered,
}

/// What an attempt begins with.
struct Begin {
    subject: Subject,
    job: Option<Job>,
    record: Option<Record>,
    gathered: Gathered,
    scratch: TempDir,
    may_retry: bool,
    first: Event,
}

impl Begin {
    async fn run(self: Box<Self>, services: Services, message: Message, slot: Slot) {
        let Self {
            subject,
            job,
            record,
            gathered,
            scratch,
            may_retry,
            first,
        } = *self;
        let attempt = Box::new(Attempt::new(Claimed {
            services,
            message,
            subject,
            job,
            record,
            gathered,
            slot,
            scratch,
        }));
        attempt.run(Lifecycle::new(may_retry), first).await;
    }
}

/// The parts of a delivery.
struct Delivery {
    subject: JobSubject,
    sequence: u64,
    queued_at: Timestamp,
}

impl Delivery {
    fn of(message: &Message) -> Result<Self, ClaimError> {
        let info = message
            .info()
            .map_err(|error| ClaimError::Delivery(error.to_string()))?;
        let queued_at = Timestamp::from_nanosecond(info.published.unix_timestamp_nanos());
        Ok(Self {
            subject: message
                .subject
                .parse()
                .map_err(|_| ClaimError::Subject(message.subject.to_string()))?,
            sequence: info.stream_sequence,
            queued_at: queued_at.map_err(|error| ClaimError::Delivery(error.to_string()))?,
        })
    }
}

async fn claim(services: &Services, message: &Message) -> Result<Claim, ClaimError> {
    let delivery = Delivery::of(message)?;
    let (tenant, body) = (&delivery.subject.tenant, &message.payload);
    let Some(id) = peek_id(body).map(Token::from) else {
        return refuse_unnamed(services, &delivery, nameless(body)).await;
    };
    let record = match Record::open(&services.jobs, tenant, &id, body).await {
        Ok(record) => record,
        Err(RecordError::Conflict) => {
            let problem = quoted(&format!("id: another job has {id}"), body);
            let verdict = Verdict::new(Reason::IdConflict, problem);
            return refuse_unnamed(services, &delivery, verdict).await;
        }
        Err(
            error @ (RecordError::Raced | RecordError::Bucket { .. } | RecordError::Read { .. }),
        ) => return Err(error.into()),
    };
    // Only now: another body with an id that has its result is not answered by it.
    if has_result(services, tenant, &id).await? {
        return Ok(Claim::Answered);
    }
    let job = match Job::parse(body) {
        Ok(job) => job,
        Err(error) => {
            let verdict = Verdict::new(Reason::InvalidJob, error.to_string());
            return refuse(services, &delivery, id, 1, verdict).await;
        }
    };
    if let Some(verdict) = too_late(&delivery, &job, record.counted()) {
        let attempt = record.counted().max(1);
        return refuse(services, &delivery, id, attempt, verdict).await;
    }
    begin(services, &delivery, id, job, record)
}

/// A message that is attempted.
fn begin(
    services: &Services,
    delivery: &Delivery,
    id: Token,
    job: Job,
    record: Record,
) -> Result<Claim, ClaimError> {
    let number = record.attempt();
    info!(job = %id, tenant = %delivery.subject.tenant, attempt = number, "claimed");
    Ok(Claim::Attempt(Box::new(Begin {
        gathered: Gathered {
            planned: job.steps.iter().map(|step| step.name.clone()).collect(),
            ..claimed_now(delivery)
        },
        subject: subject(services, delivery, id, number),
        may_retry: record.counted() + 1 < job.retry.max_attempts,
        job: Some(job),
        scratch: Attempt::scratch(services)?,
        record: Some(record),
        first: Event::Done,
    })))
}

/// What a body without an id that can be used is told.
fn nameless(body: &[u8]) -> Verdict {
    let problem = match Job::parse(body) {
        Ok(job) => format!("id: {} cannot be used", job.id),
        Err(error) => error.to_string(),
    };
    Verdict::new(Reason::InvalidJob, quoted(&problem, body))
}

/// [`refuse`] for a body that has no id of its own.
async fn refuse_unnamed(
    services: &Services,
    delivery: &Delivery,
    verdict: Verdict,
) -> Result<Claim, ClaimError> {
    let name = invalid_name(delivery.sequence);
    refuse(services, delivery, name, 1, verdict).await
}

/// A message that gets its verdict without an attempt.
async fn refuse(
    services: &Services,
    delivery: &Delivery,
    name: Token,
    attempt: u32,
    verdict: Verdict,
) -> Result<Claim, ClaimError> {
    if has_result(services, &delivery.subject.tenant, &name).await? {
        return Ok(Claim::Answered);
    }
    info!(job = %name, reason = %verdict.reason, message = verdict.message, "refused");
    Ok(Claim::Attempt(Box::new(Begin {
        subject: subject(services, delivery, name, attempt),
        job: None,
        record: None,
        gathered: claimed_now(delivery),
        scratch: Attempt::scratch(services)?,
        may_retry: false,
        first: Event::Ended(verdict),
    })))
}

async fn has_result(
    services: &Services,
    tenant: &Token,
    job_id: &Token,
) -> Result<bool, ClaimError> {
    Ok(bus::results::fetch(&services.jetstream, tenant, job_id)
        .await?
        .is_some())
}

/// A job that nobody waits for any more, or that has failed its hosts often enough.
fn too_late(delivery: &Delivery, job: &Job, attempts: u32) -> Option<Verdict> {
    if attempts >= job.retry.max_attempts {
        let message = format!("{attempts} attempts failed for the hosts' own trouble");
        Some(Verdict::new(Reason::MaxAttempts, message))
    } else if attempts == 0 && waited_since(delivery.queued_at) > job.timeouts.queue() {
        let message = format!(
            "it waited longer than timeouts.queue_s, {} s",
            job.timeouts.queue_s
        );
        Some(Verdict::new(Reason::QueueExpired, message))
    } else {
        None
    }
}

fn subject(services: &Services, delivery: &Delivery, job_id: Token, attempt: u32) -> Subject {
    Subject {
        tenant: delivery.subject.tenant.clone(),
        trust: delivery.subject.trust,
        job_id,
        attempt,
        worker: services.config.name.clone(),
    }
}

fn claimed_now(delivery: &Delivery) -> Gathered {
    let timing = Timing {
        queued_at: Some(delivery.queued_at),
        claimed_at: Some(Timestamp::now()),
        ..Timing::default()
    };
    Gathered {
        timing,
        ..Gathered::default()
    }
}

/// The name that the result of a body without a usable id has.
fn invalid_name(sequence: u64) -> Token {
    format!("invalid-{sequence}")
        .parse()
        .expect("a word and a number make a token")
}

/// A problem, and the start of the body that has it: its publisher has nothing else to know it by.
fn quoted(problem: &str, body: &[u8]) -> String {
    let start = String::from_utf8_lossy(&body[..body.len().min(200)]);
    format!(
        "{problem}; the body begins with \"{}\"",
        start.escape_debug()
    )
}
