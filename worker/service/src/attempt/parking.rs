//! While a job is parked: it waits for its snapshot, and keeps nothing but its message and its lease.
//!
//! What always holds: no attempt is recorded for a job that is parked, but for a wait that a host's trouble ended.

use std::time::Duration;

use bus::jobs::Record;
use jiff::Timestamp;
use schemas::event::EventKind;
use tokio::time::{Instant, timeout};
use tracing::info;

use super::Attempt;
use super::hold::Hold;
use crate::lifecycle::Event;
use crate::park::{Parked, Waited};
use crate::resolve::Missing;

/// 250 ms for a slot: each look at the queue has one for a moment, also where there is nothing to run.
const SLOT_WITHIN: Duration = Duration::from_millis(250);

impl Attempt {
    /// Waits for the bake without a slot, without a tenant's place and without scratch files, then takes both if there are any.
    pub(super) async fn park(&mut self, hold: &mut Hold) -> Event {
        hold.release_place().await;
        let waited = Box::pin(self.wait_parked());
        let event = hold.during(waited).await.unwrap_or(Event::LeaseLost);
        let goes_on = event == Event::Done;
        if goes_on
            && !hold
                .take_place(&self.services.caps, &self.subject.tenant)
                .await
        {
            self.slot = None;
            return Event::NoSlot;
        }
        event
    }

    async fn wait_parked(&mut self) -> Event {
        let Some(place) = self.services.presence.park() else {
            return Event::NoPlace;
        };
        drop((self.slot.take(), self.scratch.take()));
        let missing = self.missing.take();
        let missing = missing.expect("only a job that misses something is parked");
        let what = missing.in_words();
        info!(job = %self.subject.job_id, what, "parked");
        let waits = format!("waits for the bake of {what}");
        self.events.say(EventKind::Parked, None, Some(waits)).await;
        let waited = self.wait(&missing).await;
        drop(place);
        match waited {
            Waited::LookAgain => {
                match timeout(SLOT_WITHIN, self.services.presence.permit()).await {
                    Ok(permit) => {
                        self.slot = Some(self.services.presence.fill(permit));
                        Event::Done
                    }
                    Err(_) => Event::NoSlot,
                }
            }
            Waited::Failed(verdict, log) => {
                // A host's trouble is tried again, and no more often than any other.
                if verdict.is_retried()
                    && let Some(unrecorded) = self.begin().await
                {
                    return unrecorded;
                }
                self.gathered.log = log;
                Event::Ended(verdict)
            }
        }
    }

    async fn wait(&self, missing: &Missing) -> Waited {
        let parked = Parked {
            services: &self.services,
            tenant: &self.subject.tenant,
            missing,
            inline: self.job().environment.inline().is_some(),
            source: self
                .stored
                .as_ref()
                .expect("the source is fetched before a snapshot is missed"),
            events: &self.events,
            until: Instant::now() + self.patience(),
        };
        parked.wait().await
    }

    /// How much longer the job may wait. One that a host failed has been taken out of the queue in time: its wait counts from
    /// that attempt, however often it is parked after it.
    fn patience(&self) -> Duration {
        let failed_at = self.record.as_ref().and_then(Record::last_attempt_at);
        let since = failed_at.or(self.gathered.timing.queued_at);
        let waited = since.map_or(Duration::ZERO, waited_since);
        self.job().timeouts.queue().saturating_sub(waited)
    }
}

/// Since then. A clock of this host that is behind the server's makes nothing old.
pub(crate) fn waited_since(queued_at: Timestamp) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(queued_at)).unwrap_or_default()
}
