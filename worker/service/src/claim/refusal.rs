//! What is told at the claim: to a body that is no job of its own, and to a job that is not attempted any more.

use schemas::job::Job;
use schemas::reason::Reason;
use schemas::{Tenant, Token};

use super::delivery::Delivery;
use crate::attempt::waited_since;
use crate::verdict::Verdict;

/// 200 bytes of a body that has no name of its own: its publisher has nothing else to know it by.
const QUOTED_BYTES: usize = 200;

/// A job that nobody waits for any more, or that has failed its hosts often enough.
pub(super) fn too_late(delivery: &Delivery, job: &Job, attempts: u32) -> Option<Verdict> {
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

/// A job that asks for more than its tenant may have.
pub(super) fn too_much(tenant: &Tenant, job: &Job) -> Option<Verdict> {
    let error = tenant.limits.check(job).err()?;
    Some(Verdict::new(Reason::InvalidJob, error.to_string()))
}

/// What a body without an id that can be used is told.
pub(super) fn nameless(body: &[u8]) -> Verdict {
    let problem = match Job::parse(body) {
        Ok(job) => format!("id: {} cannot be used", job.id),
        Err(error) => error.to_string(),
    };
    Verdict::new(Reason::InvalidJob, quoted(&problem, body))
}

/// What a body is told whose id another body owns.
pub(super) fn conflicting(id: &Token, body: &[u8]) -> Verdict {
    let problem = quoted(&format!("id: another job has {id}"), body);
    Verdict::new(Reason::IdConflict, problem)
}

/// A problem, and the start of the body that has it.
fn quoted(problem: &str, body: &[u8]) -> String {
    let start = String::from_utf8_lossy(&body[..body.len().min(QUOTED_BYTES)]);
    format!(
        "{problem}; the body begins with \"{}\"",
        start.escape_debug()
    )
}
