//! After the VM: log, dead letter, result; or the job is given back.
//!
//! What always holds: the log is whole before the result, and the result is stored before the message is acknowledged; how an attempt ended
//! without a result is written down before its job is given back.

use std::time::Duration;

use bus::jobs::Record;
use bus::results::Stored;
use bus::retry::{Failure, delay_after};
use bus::telemetry::Causes;
use jiff::Timestamp;
use schemas::event::EventKind;
use schemas::reason::{Reason, Status};
use schemas::record::{Attempt as Past, AttemptEndKind};
use tokio::time::timeout;
use tracing::{Instrument as _, info, info_span, warn};

use super::Attempt;
use super::hold::Hold;
use crate::lifecycle::Why;
use crate::report::{PUBLISH_FOR, Subject};
use crate::services::Services;
use crate::verdict::Verdict;
use crate::{dead, log, report};

/// 5 min to store a log of the longest length that is kept: 64 MiB at 2 Mbit/s.
const STORE_LOG_WITHIN: Duration = Duration::from_mins(5);

impl Attempt {
    /// Stores the log. The VM goes first: nothing more is read out of it.
    pub(super) async fn store_log(&mut self, verdict: &Verdict) -> Result<(), Verdict> {
        if let Some(build) = self.build.take() {
            build.stop().await;
        }
        let span = info_span!("upload");
        let stored = timeout(
            STORE_LOG_WITHIN,
            self.store_whole_log(verdict).instrument(span),
        );
        stored.await.unwrap_or_else(|_| {
            let message = format!("the log was not stored within {STORE_LOG_WITHIN:?}");
            Err(Verdict::new(Reason::UploadFailed, message))
        })?;
        self.gathered.timing.uploaded_at = Some(Timestamp::now());
        Ok(())
    }

    async fn store_whole_log(&mut self, verdict: &Verdict) -> Result<(), Verdict> {
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        let ours = verdict.reason.status() == Status::Error;
        let why = ours.then_some(verdict.message.as_str());
        log.mark_end(why).await;
        // Not before: this may be cut off.
        self.log_is_due = false;
        let stored = log.store(&self.services.objects).await;
        self.gathered.log = stored.map_err(|error| Verdict::host(Reason::UploadFailed, &error))?;
        self.log = None;
        Ok(())
    }

    /// Publishes the result, and a dead letter before it where the job ran out of attempts.
    pub(super) async fn report(&mut self, verdict: &Verdict) -> Result<(), Verdict> {
        drop(self.build.take());
        let reported = async {
            self.end_log(&verdict.message).await;
            self.bury(verdict).await?;
            self.publish(verdict).await
        };
        reported.instrument(info_span!("report")).await
    }

    async fn publish(&mut self, verdict: &Verdict) -> Result<(), Verdict> {
        let mut gathered = std::mem::take(&mut self.gathered);
        gathered.timing.finished_at = Some(Timestamp::now());
        gathered.past_attempts = self.past_attempts().to_vec();
        let result = report::result(&self.subject, verdict, gathered);
        let Services {
            client,
            jetstream,
            objects,
            ..
        } = &self.services;
        let published = bus::retry::with(PUBLISH_FOR, "publish the result", || {
            let publishing = report::publish(client, jetstream, objects, result.clone());
            async { publishing.await.map_err(Failure::Transient) }
        });
        let stored = Box::pin(published)
            .await
            .map_err(|error| Verdict::host(Reason::HostFailed, &error))?;
        info!(job = %self.subject.job_id, reason = %verdict.reason, ?stored, "finished");
        let ours = match stored {
            Stored::First => true,
            Stored::AlreadyThere => self.is_from_here().await,
        };
        if ours {
            let message = Some(verdict.message.clone());
            self.events.say(EventKind::Finished, None, message).await;
        }
        Ok(())
    }

    /// Whether the result that is there is this attempt's own, of a report whose confirmation was lost.
    async fn is_from_here(&self) -> bool {
        let Subject {
            tenant,
            job_id,
            attempt,
            worker,
            ..
        } = &self.subject;
        let found = bus::results::fetch(&self.services.jetstream, tenant, job_id).await;
        matches!(found, Ok(Some(result)) if (&result.worker, &result.attempt) == (worker, attempt))
    }

    /// The attempts before this one.
    fn past_attempts(&self) -> &[Past] {
        let Some(record) = &self.record else {
            return &[];
        };
        match record.attempts() {
            [past @ .., _this] if record.has_begun() => past,
            past => past,
        }
    }

    /// Keeps a job for the operator that would be tried again if it had an attempt left.
    async fn bury(&self, verdict: &Verdict) -> Result<(), Verdict> {
        let Some(record) = self.record.as_ref().filter(|_| verdict.is_retried()) else {
            return Ok(());
        };
        let Self {
            services, subject, ..
        } = self;
        let job_id = &subject.job_id;
        // It ended otherwise meanwhile. Where that cannot be found out, a letter too many is better than none.
        let has_result = bus::results::has(&services.jetstream, &subject.tenant, job_id).await;
        if let Ok(true) = has_result {
            return Ok(());
        }
        let letter = dead::letter(&self.message, job_id, verdict, record.attempts());
        warn!(job = %job_id, reason = %verdict.reason, "given up");
        let published = dead::publish(&services.jetstream, &subject.tenant, &letter);
        let published = Box::pin(published).await;
        published.map_err(|error| Verdict::host(Reason::HostFailed, &error))
    }

    /// Gives the job to the next attempt, or to another worker.
    pub(super) async fn hand_back(&mut self, why: Why, verdict: &Verdict, hold: &mut Hold) {
        if let Some(build) = self.build.take() {
            build.kill();
        }
        // Another worker may have it by now: whatever is said would be said of its attempt.
        if !hold.is_sure() {
            warn!(job = %self.subject.job_id, "not given back: its lease is over");
            return;
        }
        self.end_attempt(why, verdict).await;
        let counted = self.record.as_ref().map_or(1, Record::counted);
        hold.give_back(&self.services, delay(why, counted)).await;
        info!(job = %self.subject.job_id, ?why, "given back");
    }

    async fn end_attempt(&mut self, why: Why, verdict: &Verdict) {
        match why {
            Why::Trouble => {
                let Verdict {
                    reason, message, ..
                } = verdict;
                warn!(job = %self.subject.job_id, %reason, message, "will be tried again");
                self.record_end(AttemptEndKind::Failed, Some(*reason), message)
                    .await;
                self.end_log(&format!("{message}; it will be tried again"))
                    .await;
                let message = Some(message.clone());
                self.events.say(EventKind::Retrying, None, message).await;
            }
            Why::Drained => self.end_returned("the worker ends").await,
            Why::NoRecord => self.end_returned("the attempt was not recorded").await,
            Why::NoPlace | Why::NoSlot => self.events.say(EventKind::Returned, None, None).await,
        }
    }

    async fn end_returned(&mut self, why: &str) {
        self.record_end(AttemptEndKind::Returned, None, why).await;
        self.end_log(&format!("given back: {why}")).await;
        let message = Some(why.to_owned());
        self.events.say(EventKind::Returned, None, message).await;
    }

    async fn record_end(&mut self, kind: AttemptEndKind, reason: Option<Reason>, message: &str) {
        if let Some(record) = &mut self.record
            && let Err(error) = record.end(kind, reason, message).await
        {
            warn!(job = %self.subject.job_id, error = %Causes(&error), "how the attempt ended is not written down");
        }
    }

    /// Marks the end of the log of an attempt that was recorded, where that is not done yet.
    async fn end_log(&mut self, why: &str) {
        if !self.log_is_due {
            return;
        }
        match &mut self.log {
            Some(log) => log.end(why).await,
            None => {
                let subject = &self.subject;
                let (tenant, job_id) = (&subject.tenant, &subject.job_id);
                let jetstream = &self.services.jetstream;
                log::say_only(jetstream, tenant, job_id, subject.attempt, why).await;
            }
        }
        self.log_is_due = false;
    }
}

/// Before the server gives the job to somebody again; `counted` of its attempts count.
fn delay(why: Why, counted: u32) -> Duration {
    match why {
        Why::Trouble => delay_after(counted),
        Why::NoRecord => Duration::from_secs(5),
        // A bake takes minutes; another worker has a place at once, and then this one is not asked again.
        Why::NoPlace => Duration::from_secs(30),
        // At once, for all practical purposes, and longer than its lease takes to be released: an idle worker looks for it then.
        Why::NoSlot => Duration::from_millis(200),
        // Long enough for this worker to be seen to end.
        Why::Drained => Duration::from_secs(1),
    }
}
