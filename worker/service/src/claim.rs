//! From a delivered message to an attempt: who asks, for which job, whether it has its answer already, and whether it is ours.
//!
//! ```text
//! no usable id, another body's id, no job ──────────────────────────▶ refused
//!     │ a job
//! has its result ───────────────────────────────────────────────────▶ acknowledged
//!     │ none yet
//! lease ─── somebody else's ────────────────────────────────────────▶ given back
//!     │ ours
//! a result meanwhile ───────────────────────────────────────────────▶ acknowledged
//!     │
//! the last attempt's worker was lost: written down
//!     │
//! cancelled, out of attempts, too late, above the tenant's limits ──▶ refused
//!     │
//! attempted
//! ```
//!
//! What always holds: every message gets a result, also one that is no job at all; the first body with an id owns the id; nothing is said
//! of a job whose lease another holds. No attempt is recorded here: what a job needs may not be there yet.

mod delivery;
mod look;
mod refusal;

use std::time::Duration;

use async_nats::jetstream::{AckKind, Message, kv};
use bus::jobs::{Record, RecordError};
use bus::lease::{Lease, LeaseError};
use bus::telemetry::Causes;
use futures_util::FutureExt as _;
use schemas::Token;
use schemas::job::{Job, peek_id};
use schemas::names::job_lease;
use schemas::reason::Reason;
use source::SourceError;
use tracing::field::{Empty, display};
use tracing::{Instrument as _, Span, error, info, info_span, warn};

use crate::attempt::{Attempt, Claimed, Hold, say};
use crate::cancels::Cancel;
use crate::lifecycle::{Event, Lifecycle};
use crate::presence::Slot;
use crate::queue::Taken;
use crate::services::Services;
use crate::verdict::Verdict;
use delivery::Delivery;
use look::{has_result, look};
use refusal::{conflicting, nameless};

/// 5 s before a message is looked at again that met another's lease, or a server that was away.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Why a message was not claimed.
#[derive(Debug, thiserror::Error)]
enum ClaimError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error("look for the job's result")]
    Results(#[from] bus::results::ResultsError),
    #[error("look whether the job is cancelled")]
    Cancels(#[from] kv::EntryError),
    #[error("look up what the tenant may ask for")]
    Tenant(#[source] SourceError),
    #[error("the delivery has no place in the stream: {0}")]
    Delivery(String),
    #[error("the subject {0} is not a job's")]
    Subject(String),
}

/// What a message turned out to be.
enum Claim {
    /// Something to bring to its end.
    Attempt(Box<Begin>),
    /// A job that has its result. The lease, where it was taken.
    Answered(Option<Lease>),
    /// A job that another worker has.
    Elsewhere,
}

/// What an attempt begins with.
struct Begin {
    delivery: Delivery,
    /// Its id, or the name for what has none.
    name: Token,
    attempt: u32,
    known: Option<Known>,
    first: Event,
}

/// What is known of a job that is ours.
struct Known {
    job: Job,
    record: Record,
    lease: Lease,
    cancel: Cancel,
}

/// Handles one delivered message to its end, in `slot` while it runs.
pub async fn handle(services: Services, taken: Taken, slot: Slot) {
    let span = info_span!(
        "job",
        otel.kind = "consumer",
        job = Empty,
        tenant = Empty,
        attempt = Empty
    );
    bus::trace::continues(&span, taken.message.headers.as_ref());
    Box::pin(handle_in_span(services, taken, slot))
        .instrument(span)
        .await;
}

async fn handle_in_span(services: Services, taken: Taken, slot: Slot) {
    let Taken { message, cap } = taken;
    // A delivery's time counts from now, not from the first delivery.
    say(&message, AckKind::Progress).await;
    let claimed = Box::pin(claim(&services, &message)).instrument(info_span!("claim"));
    let hold = |lease| Hold::new(message.clone(), lease, cap);
    match claimed.await {
        Ok(Claim::Attempt(begin)) => {
            Box::pin(begin.run(services, message.clone(), slot, hold)).await;
        }
        Ok(Claim::Answered(lease)) => {
            if let Err(verdict) = hold(lease).acknowledge().await {
                // The next delivery finds the result as well.
                warn!(error = verdict.message, "not acknowledged");
            }
        }
        Ok(Claim::Elsewhere) => hold(None).give_back(&services, LOOK_AGAIN_AFTER).await,
        Err(error @ (ClaimError::Delivery(_) | ClaimError::Subject(_))) => {
            // There is nobody to answer, and it would come back for ever.
            error!(error = %Causes(&error), "thrown away");
            if !say(&message, AckKind::Term).await {
                warn!("not thrown away: it comes back when its time is over");
            }
            hold(None).release().await;
        }
        Err(error) => {
            warn!(error = %Causes(&error), "not claimed, and given back");
            hold(None).give_back(&services, LOOK_AGAIN_AFTER).await;
        }
    }
}

impl Begin {
    async fn run(
        self: Box<Self>,
        services: Services,
        message: Message,
        slot: Slot,
        hold: impl FnOnce(Option<Lease>) -> Hold,
    ) {
        let Self {
            delivery,
            name,
            attempt,
            known,
            first,
        } = *self;
        let span = Span::current();
        span.record("job", display(&name));
        span.record("tenant", display(&delivery.subject.tenant));
        span.record("attempt", attempt);
        let may_retry = known.as_ref().is_some_and(Known::may_be_tried_again);
        let (job, record, cancel, lease) = known.map(Known::parts).unwrap_or_default();
        let attempt = Attempt::new(Claimed {
            subject: delivery.of_job(&services, name, attempt),
            gathered: delivery.gathered(job.as_ref()),
            services,
            message,
            job,
            record,
            cancel,
            slot,
        });
        let run = Box::new(attempt).run(hold(lease), Lifecycle::new(may_retry), first);
        run.boxed().await;
    }
}

impl Known {
    /// Whether an attempt is left after the next.
    fn may_be_tried_again(&self) -> bool {
        self.record.counted() + 1 < self.job.retry.max_attempts
    }

    fn parts(self) -> (Option<Job>, Option<Record>, Option<Cancel>, Option<Lease>) {
        let Self {
            job,
            record,
            lease,
            cancel,
        } = self;
        (Some(job), Some(record), Some(cancel), Some(lease))
    }
}

async fn claim(services: &Services, message: &Message) -> Result<Claim, ClaimError> {
    let delivery = Delivery::of(message)?;
    let (tenant, body) = (&delivery.subject.tenant, &message.payload);
    let Some(id) = peek_id(body).map(Token::from) else {
        return refuse_unnamed(services, delivery, nameless(body)).await;
    };
    let record = match Record::open(&services.jobs, tenant, &id, body).await {
        Ok(record) => record,
        Err(RecordError::Conflict) => {
            return refuse_unnamed(services, delivery, conflicting(&id, body)).await;
        }
        Err(
            error @ (RecordError::Raced | RecordError::Bucket { .. } | RecordError::Read { .. }),
        ) => return Err(error.into()),
    };
    // Only now: another body with an id that has its result is not answered by it.
    if has_result(services, tenant, &id).await? {
        return Ok(Claim::Answered(None));
    }
    let job = match Job::parse(body) {
        Ok(job) => job,
        Err(error) => {
            let verdict = Verdict::new(Reason::InvalidJob, error.to_string());
            return Ok(refused(delivery, id, verdict));
        }
    };
    let key = job_lease(tenant, &id);
    let Some(lease) = services
        .leases
        .take(&key, services.config.name.as_str())
        .await?
    else {
        info!(job = %id, "another worker has it");
        return Ok(Claim::Elsewhere);
    };
    let known = Known {
        cancel: services.cancels.of(tenant, &id),
        job,
        record,
        lease,
    };
    Box::pin(look(services, delivery, id, known)).await
}

/// Refuses a body that has no id of its own, unless it has its result.
async fn refuse_unnamed(
    services: &Services,
    delivery: Delivery,
    verdict: Verdict,
) -> Result<Claim, ClaimError> {
    let name = delivery.invalid_name();
    if has_result(services, &delivery.subject.tenant, &name).await? {
        return Ok(Claim::Answered(None));
    }
    Ok(refused(delivery, name, verdict))
}

/// A message that gets its verdict without being a job.
fn refused(delivery: Delivery, name: Token, verdict: Verdict) -> Claim {
    info!(job = %name, reason = %verdict.reason, message = verdict.message, "refused");
    Claim::Attempt(Box::new(Begin {
        delivery,
        name,
        attempt: 1,
        known: None,
        first: Event::Ended(verdict),
    }))
}
