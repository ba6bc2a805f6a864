//! Before there is a VM: everything is looked for, and the attempt is recorded.
//!
//! What always holds: no attempt is recorded for a job that is to be parked; one is for every other end of the search.

use jiff::Timestamp;
use schemas::digest::PrefixedDigest;
use schemas::event::EventKind;
use schemas::reason::Reason;
use schemas::result::{EnvironmentUsed, SourceUsed};
use schemas::source::Source;
use source::Archive;
use tempfile::TempDir;
use tracing::{Instrument as _, info, info_span, warn};

use super::Attempt;
use crate::lifecycle::Event;
use crate::report::Subject;
use crate::resolve::{self, Domain, Resolution, Resolved};
use crate::services::Services;
use crate::verdict::{Suspect, Verdict};

impl Attempt {
    /// Looks for everything, and records the attempt unless the job is to be parked: a host's trouble counts as well.
    pub(super) async fn resolve(&mut self) -> Event {
        let found = match self.look().await {
            Ok(Resolution::Missing(missing)) => {
                self.missing = Some(missing);
                return Event::Missing;
            }
            Ok(Resolution::Ready(resolved)) => Ok(resolved),
            Err(verdict) => {
                self.blame(&verdict);
                Err(verdict)
            }
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

    /// Counts what may be this host's fault, as long as no command of a guest ran.
    pub(super) fn blame(&self, verdict: &Verdict) {
        match verdict.suspect() {
            Suspect::Other => {}
            Suspect::Host => self.services.health.host_failed(&verdict.message),
        }
    }

    async fn look(&mut self) -> Result<Resolution, Verdict> {
        let (tenant, trust) = (self.subject.tenant.clone(), self.subject.trust);
        let job = self.job();
        let on_missing = job.on_missing;
        let environment = resolve::environment(&self.services, &tenant, &job.environment).await?;
        let archive = self.fetch_source().instrument(info_span!("source")).await?;
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
            None => scratch(&self.services)
                .map_err(|error| Verdict::host(Reason::HostFailed, &error).of_host())?,
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
    pub(super) async fn begin(&mut self) -> Option<Event> {
        let Subject {
            tenant,
            job_id,
            attempt,
            worker,
            ..
        } = &self.subject;
        let record = self.record.as_mut();
        let record = record.expect("a message without a job begins nothing");
        // Before, since the write may be cut off after the server has stored it.
        self.log_is_due = true;
        match record.begin(worker).await {
            Ok(()) => {
                info!(job = %job_id, %tenant, attempt, "attempt begins");
                None
            }
            Err(error) => {
                // Its number may be another's.
                self.log_is_due = false;
                warn!(job = %job_id, error = %bus::telemetry::Causes(&error), "no attempt recorded");
                Some(Event::NoRecord)
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
}

/// A directory for the scratch files of one attempt.
fn scratch(services: &Services) -> std::io::Result<TempDir> {
    // The state directory may have been deleted since the last job.
    let work = services.state.work();
    std::fs::create_dir_all(&work)?;
    tempfile::tempdir_in(work)
}
