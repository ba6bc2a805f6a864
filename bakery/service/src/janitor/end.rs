//! How a job ends that no worker has: decided here, and written down as a result. No server and no clock is asked.

use std::time::Duration;

use jiff::Timestamp;
use schemas::reason::Reason;
use schemas::record::Attempt;
use schemas::refusal::Refusal;
use schemas::result::{Egress, ResultSchema, StepResult, Termination, Timing};
use schemas::{Job, JobResult, JobSubject, Token};

use super::waiting::later;

/// How a job ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// Under which name its result stands.
    pub(super) name: Token,
    reason: Reason,
    message: String,
    past_attempts: Vec<Attempt>,
    /// Every step of the job: none has a result of its own.
    steps: Vec<Token>,
}

/// What is known of a job that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) job: &'a Job,
    pub(super) queued_at: Timestamp,
    /// Attempts that count.
    pub(super) counted: u32,
    pub(super) cancelled: bool,
}

impl End {
    /// Of a job that nobody holds; none where it goes on: a worker will take it, as soon as there is one.
    ///
    /// One that had an attempt does not expire. One whose attempts are used up is left to the next worker, who tells of them.
    pub(super) fn of(known: Known<'_>, attempts: &[Attempt], now: Timestamp) -> Option<Self> {
        let Known { job, queued_at, .. } = known;
        let expired = known.counted == 0 && later(queued_at, job.timeouts.queue()) <= now;
        let (reason, message) = if known.cancelled {
            (Reason::Cancelled, "it was cancelled".to_owned())
        } else if expired {
            let seconds = job.timeouts.queue_s;
            let message = format!("it waited longer than timeouts.queue_s, {seconds} s");
            (Reason::QueueExpired, message)
        } else {
            return None;
        };
        Some(Self {
            name: job.id.into(),
            reason,
            message,
            past_attempts: attempts.to_vec(),
            steps: job.steps.iter().map(|step| step.name.clone()).collect(),
        })
    }

    /// The result, given by `bakery`.
    pub(super) fn result(
        self,
        bakery: &Token,
        subject: &JobSubject,
        queued_at: Timestamp,
        now: Timestamp,
    ) -> JobResult {
        let not_run = |name| StepResult::new(name, Termination::NotRun, Duration::ZERO);
        JobResult {
            schema: ResultSchema,
            job_id: self.name,
            tenant: subject.tenant.clone(),
            trust: subject.trust,
            attempt: last_of(&self.past_attempts),
            worker: bakery.clone(),
            past_attempts: self.past_attempts,
            status: self.reason.status(),
            reason: self.reason.into(),
            message: self.message,
            exit_code: None,
            failed_step: None,
            steps: self.steps.into_iter().map(not_run).collect(),
            environment: None,
            source: None,
            artifacts: Vec::new(),
            artifacts_manifest: None,
            log: None,
            egress: Egress::default(),
            timing: Timing {
                queued_at: Some(queued_at),
                finished_at: Some(now),
                ..Timing::default()
            },
            usage: None,
        }
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self {
            name: refusal.name,
            reason: refusal.reason,
            message: refusal.message,
            past_attempts: Vec::new(),
            steps: Vec::new(),
        }
    }
}

/// The number of the last attempt, or 1 where there was none: so does a worker tell of a job that it ends without another.
fn last_of(attempts: &[Attempt]) -> u32 {
    u32::try_from(attempts.len()).map_or(u32::MAX, |count| count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &[u8] = include_bytes!("../../../../schemas/examples/job.json");

    /// The reason that a job gets which was queued at 0 s.
    fn reason(counted: u32, cancelled: bool, at: i64) -> Option<Reason> {
        let mut job = Job::parse(JOB).unwrap();
        job.timeouts.queue_s = 60;
        let known = Known {
            job: &job,
            queued_at: Timestamp::UNIX_EPOCH,
            counted,
            cancelled,
        };
        let now = Timestamp::from_second(at).unwrap();
        End::of(known, &[], now).map(|end| end.reason)
    }

    #[test]
    fn a_job_ends_when_it_is_cancelled_and_when_its_time_is_over_unless_it_had_an_attempt() {
        assert_eq!(reason(0, false, 59), None);
        assert_eq!(reason(0, false, 60), Some(Reason::QueueExpired));
        assert_eq!(reason(1, false, 60), None);
        for counted in [0, 1, 9] {
            assert_eq!(reason(counted, true, 60), Some(Reason::Cancelled));
        }
    }

    #[test]
    fn a_result_is_that_of_the_last_attempt_or_of_the_first_that_never_was() {
        let attempt = Attempt::begin("worker-1".parse().unwrap(), Timestamp::UNIX_EPOCH);
        assert_eq!(last_of(&[]), 1);
        assert_eq!(last_of(&[attempt.clone(), attempt]), 2);
    }
}
