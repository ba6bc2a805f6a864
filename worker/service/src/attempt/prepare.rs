//! Before there is a VM: everything is looked for, the attempt is recorded, or the job is parked.
//!
//! What always holds: no attempt is recorded for a job that is parked; one is for every other end of the search, and for a wait that
//! a host's trouble ended.

use std::time::Duration;

use jiff::Timestamp;
use schemas::digest::PrefixedDigest;
use schemas::event::EventKind;
use schemas::reason::Reason;
use schemas::result::{EnvironmentUsed, SourceUsed};
use schemas::source::Source;
use source::Archive;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Attempt;
use crate::lifecycle::Event;
use crate::park::{Parked, Waited};
use crate::report::Subject;
use crate::resolve::{self, Domain, Missing, Resolution, Resolved};
use crate::verdict::Verdict;
use bus::jobs::{Record, RecordError};

impl Attempt {
    /// Looks for everything, and records the attempt unless the job is to be parked: a host's trouble counts as well.
    pub(super) async fn resolve(&mut self) -> Event {
        let found = match self.look().await {
            Ok(Resolution::Missing(missing)) => {
                self.missing = Some(missing);
                return Event::Missing;
            }
            Ok(Resolution::Ready(resolved)) => Ok(resolved),
            Err(verdict) => Err(verdict),
        };
        if let Some(unrecorded) = self.begin().await {
            return unrecorded;
        }
        match found {
            Ok(resolved) => {
                self.gathered.environment = Some(self.environment_used(&resolved));
                self.resolved = Some(resolved);
                Event::Done
            }
            Err(verdict) => Event::Ended(verdict),
        }
    }

    async fn look(&mut self) -> Result<Resolution, Verdict> {
        let (tenant, trust) = (self.subject.tenant.clone(), self.subject.trust);
        let job = self.job();
        let on_missing = job.on_missing;
        let environment = resolve::environment(&self.services, &tenant, &job.environment).await?;
        let archive = self.fetch_source().await?;
        let domain = Domain {
            tenant: &tenant,
            trust,
        };
        resolve::snapshot(&self.services, domain, environment, archive, on_missing).await
    }

    /// The source, from wherever it lies; the second time, from S3.
    async fn fetch_source(&mut self) -> Result<Archive, Verdict> {
        let scratch = match self.scratch.take() {
            Some(scratch) => scratch,
            None => Self::scratch(&self.services)
                .map_err(|error| Verdict::host(Reason::HostFailed, &error))?,
        };
        let scratch = self.scratch.insert(scratch);
        let job = self
            .job
            .as_ref()
            .expect("a message without a job has its verdict from the claim");
        let again = self.stored.clone().map(Source::Archive);
        let source = again.as_ref().unwrap_or(&job.source);
        let Subject { tenant, trust, .. } = &self.subject;
        let sources = &self.services.sources;
        let fetched = sources.fetch(tenant, *trust, source, scratch.path()).await;
        let fetched = fetched.map_err(|error| Verdict::from(&error))?;
        if self.stored.is_none() {
            let digest = fetched.digest;
            self.gathered.source = Some(SourceUsed { digest });
            self.gathered.timing.source_ready_at = Some(Timestamp::now());
            self.events.say(EventKind::SourceReady, None, None).await;
            self.stored = Some(fetched.stored);
        }
        Ok(fetched.archive)
    }

    /// Records the attempt; gives what happened instead where it cannot.
    async fn begin(&mut self) -> Option<Event> {
        let record = self
            .record
            .as_mut()
            .expect("a message without a job begins nothing");
        let Subject {
            tenant,
            job_id,
            attempt,
            ..
        } = &self.subject;
        match record.begin(&self.services.config.name).await {
            Ok(()) => {
                info!(job = %job_id, %tenant, attempt, "attempt begins");
                None
            }
            Err(error) => {
                warn!(job = %job_id, error = %bus::telemetry::Causes(&error), "no attempt recorded");
                Some(match error {
                    RecordError::Raced => Event::Raced,
                    RecordError::Conflict
                    | RecordError::Bucket { .. }
                    | RecordError::Read { .. } => Event::NoRecord,
                })
            }
        }
    }

    fn environment_used(&self, resolved: &Resolved) -> EnvironmentUsed {
        let profile = self.services.driver.profile();
        EnvironmentUsed {
            name: resolved.environment.name.clone(),
            template: resolved.environment.template.clone(),
            key: PrefixedDigest(resolved.key),
            snapshot: resolved.snapshot.digest.into(),
            start: resolved.start,
            driver: profile.driver.clone(),
            accelerator: profile.accelerator.clone(),
        }
    }

    /// Waits for the bake without a slot and without scratch files, then takes a slot if there is one.
    pub(super) async fn park(&mut self) -> Event {
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
            Waited::LookAgain => match self.services.presence.try_permit() {
                Some(permit) => {
                    self.slot = Some(self.services.presence.fill(permit));
                    Event::Done
                }
                None => Event::NoSlot,
            },
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
