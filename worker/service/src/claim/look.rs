//! What a job that is ours turned out to be: one to attempt, one to refuse, one that has its result.
//!
//! What always holds: the end of a lost worker's log is marked before its end is written down, so a death between the two leaves a mark
//! too many and not one too few.

use schemas::Token;
use tracing::{info, warn};

use super::delivery::Delivery;
use super::refusal::{too_late, too_much};
use super::{Begin, Claim, ClaimError, Known};
use crate::lifecycle::Event;
use crate::services::Services;
use crate::verdict::Verdict;

/// What a job that is ours turned out to be.
enum Found {
    /// To be attempted.
    Ready,
    /// To end before an attempt.
    Refused(Verdict),
    /// One that got its result before it was ours.
    Answered,
}

/// Looks at a job that is ours now: whether it is to be attempted.
pub(super) async fn look(
    services: &Services,
    delivery: Delivery,
    id: Token,
    mut known: Known,
) -> Result<Claim, ClaimError> {
    let (attempt, first) = match found(services, &delivery, &id, &mut known).await {
        Ok(Found::Ready) => {
            let attempt = known.record.attempt();
            info!(job = %id, tenant = %delivery.subject.tenant, attempt, "claimed");
            (attempt, Event::Done)
        }
        // It has no attempt of its own: it is told with the number of the last.
        Ok(Found::Refused(verdict)) => {
            info!(job = %id, reason = %verdict.reason, message = verdict.message, "refused");
            let attempts = known.record.attempts().len().max(1);
            let last = u32::try_from(attempts).unwrap_or(u32::MAX);
            (last, Event::Ended(verdict))
        }
        Ok(Found::Answered) => return Ok(Claim::Answered(Some(known.lease))),
        Err(error) => {
            known.lease.release().await;
            return Err(error);
        }
    };
    Ok(Claim::Attempt(Box::new(Begin {
        delivery,
        name: id,
        attempt,
        known: Some(known),
        first,
    })))
}

async fn found(
    services: &Services,
    delivery: &Delivery,
    id: &Token,
    known: &mut Known,
) -> Result<Found, ClaimError> {
    let tenant = &delivery.subject.tenant;
    let (answered, cancelled, allowed) = tokio::join!(
        has_result(services, tenant, id),
        known.cancel.look(),
        services.sources.tenant(tenant),
    );
    if answered? {
        return Ok(Found::Answered);
    }
    if known.record.lost().is_some() {
        // It was read before the lease was ours: its worker may have given the job back in between.
        known.record.refresh().await?;
    }
    if let Some(lost) = known.record.lost() {
        warn!(job = %id, attempt = lost.number, worker = %lost.worker, "its worker was lost");
        // Before it is written down: whoever finds that written marks nothing more.
        bus::log_end::say_lost(&services.jetstream, tenant, id, &lost).await;
        known.record.mark_lost().await?;
    }
    if cancelled? {
        return Ok(Found::Refused(Verdict::cancelled()));
    }
    if let Some(verdict) = too_late(delivery, &known.job, known.record.counted()) {
        return Ok(Found::Refused(verdict));
    }
    let allowed = allowed.map_err(ClaimError::Tenant)?;
    let verdict = too_much(&allowed, &known.job);
    Ok(verdict.map_or(Found::Ready, Found::Refused))
}

/// Whether it has its result, be it one that can be read here or not.
pub(super) async fn has_result(
    services: &Services,
    tenant: &Token,
    job_id: &Token,
) -> Result<bool, ClaimError> {
    Ok(bus::results::has(&services.jetstream, tenant, job_id).await?)
}
