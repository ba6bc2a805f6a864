//! After the VM: log, result, acknowledgement; or the message goes back.
//!
//! What always holds: the result is stored before the message is acknowledged.

use std::time::Duration;

use async_nats::jetstream::AckKind;
use bus::results::Stored;
use jiff::Timestamp;
use schemas::event::EventKind;
use schemas::reason::Reason;
use schemas::record::AttemptEndKind;
use tokio::time::timeout;
use tracing::{info, warn};

use super::Attempt;
use crate::lifecycle::Why;
use crate::report;
use crate::services::Services;
use crate::verdict::Verdict;

/// How long a result is tried to be published before the build is done once more: a server restarts within it.
const PUBLISH_FOR: bus::retry::Policy = bus::retry::Policy {
    give_up_after: Some(Duration::from_mins(2)),
    ..bus::retry::Policy::FOREVER
};

/// How long the last words of an attempt may take to leave.
const FLUSH_FOR: Duration = Duration::from_secs(5);

/// Before another worker takes a job that this one gave back: at once, for all practical purposes.
const GIVEN_BACK_AFTER: Duration = Duration::from_secs(1);

impl Attempt {
    /// Stores the log. The VM goes first: nothing more is read out of it.
    pub(super) async fn store_log(&mut self) -> Result<(), Verdict> {
        if let Some(build) = self.build.take() {
            build.stop().await;
        }
        if let Some(log) = self.log.take() {
            let stored = log.store(&self.services.objects).await;
            self.gathered.log =
                stored.map_err(|error| Verdict::host(Reason::UploadFailed, &error))?;
        }
        self.gathered.timing.uploaded_at = Some(Timestamp::now());
        Ok(())
    }

    pub(super) async fn report(&mut self, verdict: &Verdict) -> Result<(), Verdict> {
        drop(self.build.take());
        let mut gathered = std::mem::take(&mut self.gathered);
        gathered.timing.finished_at = Some(Timestamp::now());
        let result = report::result(&self.subject, verdict, gathered);
        let Services {
            client,
            jetstream,
            objects,
            ..
        } = &self.services;
        let published = bus::retry::with(PUBLISH_FOR, "publish the result", || {
            let publishing = report::publish(client, jetstream, objects, result.clone());
            async { publishing.await.map_err(bus::retry::Failure::Transient) }
        });
        let stored = Box::pin(published)
            .await
            .map_err(|error| Verdict::host(Reason::HostFailed, &error))?;
        info!(job = %self.subject.job_id, reason = %verdict.reason, ?stored, "finished");
        if stored == Stored::AlreadyThere {
            return Ok(());
        }
        self.events
            .say(EventKind::Finished, None, Some(verdict.message.clone()))
            .await;
        Ok(())
    }

    pub(super) async fn acknowledge(&mut self) -> Result<(), Verdict> {
        let acknowledged = self.message.double_ack().await;
        // The next delivery finds the result and acknowledges again.
        acknowledged.map_err(|error| Verdict::new(Reason::HostFailed, error.to_string()))
    }

    /// Gives the job to the next attempt, or to another worker.
    pub(super) async fn hand_back(&mut self, why: Why, verdict: &Verdict) -> Result<(), Verdict> {
        drop(self.build.take());
        let job = &self.subject.job_id;
        match why {
            Why::Trouble => {
                warn!(%job, reason = %verdict.reason, message = verdict.message, "will be tried again");
                let message = Some(verdict.message.clone());
                self.events.say(EventKind::Retrying, None, message).await;
            }
            Why::NoRecord | Why::NoPlace | Why::NoSlot => {
                info!(%job, ?why, "given back");
                self.events.say(EventKind::Returned, None, None).await;
            }
        }
        self.nak(why.delay()).await;
        Ok(())
    }

    /// Gives the job back because this worker ends: the attempt does not count.
    pub(super) async fn give_back(mut self: Box<Self>) {
        drop(self.build.take());
        if let Some(record) = &mut self.record
            && let Err(error) = record
                .end(AttemptEndKind::Returned, None, "the worker ends")
                .await
        {
            warn!(job = %self.subject.job_id, error = %bus::telemetry::Causes(&error), "attempt not marked as returned");
        }
        self.events.say(EventKind::Returned, None, None).await;
        self.nak(GIVEN_BACK_AFTER).await;
        info!(job = %self.subject.job_id, "given back");
    }

    async fn nak(&self, delay: Duration) {
        let told = self.message.ack_with(AckKind::Nak(Some(delay))).await;
        let flushed = timeout(FLUSH_FOR, self.services.client.flush()).await;
        if told.is_err() || !matches!(flushed, Ok(Ok(()))) {
            warn!(job = %self.subject.job_id, "not given back: it comes back when its time is over");
        }
    }
}
