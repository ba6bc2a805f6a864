//! One attempt at a claimed job: does what [`crate::lifecycle`] says, and tells it what came of it.
//!
//! What always holds: the message is kept alive by the loop that also supervises the work, so a worker whose loop hangs
//! loses the job instead of holding it.

use std::time::Duration;

use async_nats::jetstream::{AckKind, Message};
use bus::results::Stored;
use jiff::Timestamp;
use schemas::Source;
use schemas::digest::PrefixedDigest;
use schemas::event::EventKind;
use schemas::job::Job;
use schemas::reason::Reason;
use schemas::result::{EnvironmentUsed, SourceDigests, SourceUsed, Start};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::artifacts::{self, CollectError};
use crate::build::{Build, PutError};
use crate::events::Events;
use crate::lifecycle::{Action, Event, Lifecycle};
use crate::log::JobLog;
use crate::record::JobRecord;
use crate::report::{self, Gathered, Subject};
use crate::resolve::{self, Resolved};
use crate::services::Services;
use crate::steps::{self, StepLost};
use crate::verdict::Verdict;

/// Between two signs of life: three fit into the 30 s after which the server gives the job to somebody else.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How long a result is tried to be published before the build is done once more: a server restarts within it.
const PUBLISH_FOR: bus::retry::Policy = bus::retry::Policy {
    give_up_after: Some(Duration::from_mins(2)),
    ..bus::retry::Policy::FOREVER
};

/// How long the last words of an attempt may take to leave.
const FLUSH_FOR: Duration = Duration::from_secs(5);

/// Before a job is tried again after the host's trouble: long enough for a server to come back.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Before another worker takes a job that this one gave back: at once, for all practical purposes.
const GIVEN_BACK_AFTER: Duration = Duration::from_secs(1);

/// A job, and all that one attempt at it has gathered.
pub struct Attempt {
    services: Services,
    message: Message,
    subject: Subject,
    /// What to do; none for a message that got its verdict at the claim.
    job: Option<Job>,
    record: Option<JobRecord>,
    events: Events,
    scratch: TempDir,
    resolved: Option<Resolved>,
    build: Option<Build>,
    log: Option<JobLog>,
    gathered: Gathered,
}

impl Attempt {
    /// A directory for the scratch files of one attempt.
    pub fn scratch(services: &Services) -> std::io::Result<TempDir> {
        // The state directory may have been deleted since the last job.
        let work = services.state.work();
        std::fs::create_dir_all(&work)?;
        tempfile::tempdir_in(work)
    }

    /// For a message that was claimed.
    pub fn new(
        services: Services,
        message: Message,
        subject: Subject,
        job: Option<Job>,
        record: Option<JobRecord>,
        gathered: Gathered,
        scratch: TempDir,
    ) -> Self {
        let Subject {
            tenant,
            job_id,
            attempt,
            ..
        } = &subject;
        let events = Events::new(&services.client, tenant, job_id, *attempt);
        Self {
            services,
            message,
            subject,
            job,
            record,
            events,
            scratch,
            resolved: None,
            build: None,
            log: None,
            gathered,
        }
    }

    /// Brings the job to its end. `first` is what the claim found: [`Event::Done`], or a verdict.
    pub async fn run(mut self: Box<Self>, mut lifecycle: Lifecycle, first: Event) {
        let mut give_back = self.services.give_back.clone();
        let mut event = first;
        loop {
            let action = lifecycle.next(&event);
            if action == Action::Stop {
                break;
            }
            event = tokio::select! {
                event = self.act(action, &lifecycle) => event,
                () = asked(&mut give_back), if may_be_cut(action) => {
                    return Box::pin(self.give_back()).await;
                }
            };
        }
        info!(job = %self.subject.job_id, reason = %lifecycle.verdict().reason, "finished");
    }

    /// Does one thing, and keeps the message alive meanwhile. Both are polled by this one loop; a sign of life that does not
    /// get away holds up neither the work nor its limits.
    async fn act(&mut self, action: Action, lifecycle: &Lifecycle) -> Event {
        let message = self.message.clone();
        tokio::select! {
            event = self.perform(action, lifecycle) => event,
            () = heartbeats(&message), if action != Action::Acknowledge && action != Action::GiveBack => {
                unreachable!("a heart beats until the work is done")
            }
        }
    }

    async fn perform(&mut self, action: Action, lifecycle: &Lifecycle) -> Event {
        match action {
            Action::Resolve => self.resolve().await.into(),
            Action::Fork => self.fork().await.into(),
            Action::RunStep => self.run_step().await,
            Action::Collect => self.collect(lifecycle.verdict()).await,
            Action::StoreLog => self.store_log().await.into(),
            Action::Report => Box::pin(self.report(lifecycle.verdict())).await.into(),
            Action::Acknowledge => self.acknowledge().await.into(),
            Action::GiveBack => self.retry(lifecycle.verdict()).await.into(),
            Action::Stop => Event::Done,
        }
    }

    fn job(&self) -> &Job {
        self.job
            .as_ref()
            .expect("a message without a job has its verdict from the claim")
    }

    async fn resolve(&mut self) -> Result<(), Verdict> {
        self.events.say(EventKind::Claimed, None, None).await;
        let (tenant, trust) = (&self.subject.tenant, self.subject.trust);
        let resolved = resolve::resolve(
            &self.services,
            tenant,
            trust,
            self.job(),
            self.scratch.path(),
        )
        .await?;
        let Source::Archive(archive) = &self.job().source else {
            todo!()
        };
        self.gathered.source = Some(SourceUsed {
            digest: SourceDigests {
                sha256: archive.digest.sha256,
                git_commit: None,
            },
        });
        self.gathered.environment = Some(self.environment_used(&resolved));
        self.gathered.timing.source_ready_at = Some(Timestamp::now());
        self.events.say(EventKind::SourceReady, None, None).await;
        self.resolved = Some(resolved);
        Ok(())
    }

    fn environment_used(&self, resolved: &Resolved) -> EnvironmentUsed {
        let profile = self.services.driver.profile();
        EnvironmentUsed {
            name: resolved.environment.name.clone(),
            template: resolved.environment.template.clone(),
            key: PrefixedDigest(resolved.snapshot.manifest.key),
            snapshot: resolved.snapshot.digest.into(),
            start: Start::Fork,
            driver: profile.driver.clone(),
            accelerator: profile.accelerator.clone(),
        }
    }

    async fn fork(&mut self) -> Result<(), Verdict> {
        let resolved = self
            .resolved
            .as_ref()
            .expect("a job is resolved before it is forked");
        let Subject {
            tenant,
            job_id,
            attempt,
            ..
        } = &self.subject;
        let cap = self.services.config.log_max_bytes;
        let log = JobLog::start(
            &self.services.jetstream,
            tenant,
            job_id,
            *attempt,
            cap,
            self.scratch.path(),
        );
        self.log = Some(log.map_err(|error| Verdict::host(Reason::HostFailed, &error))?);
        let build = Build::fork(&self.services, resolved).await?;
        self.gathered.timing.vm_ready_at = Some(Timestamp::now());
        self.events.say(EventKind::Forked, None, None).await;
        let put = build.put_source(resolved).await;
        self.build = Some(build);
        match put {
            Ok(()) => Ok(()),
            Err(PutError::Verdict(verdict)) => Err(verdict),
            Err(PutError::Guest(why)) => Err(self.lost_verdict(&why).await),
        }
    }

    async fn run_step(&mut self) -> Event {
        let resolved = self
            .resolved
            .as_ref()
            .expect("a job is resolved before its steps run");
        let build = self
            .build
            .as_mut()
            .expect("a job is forked before its steps run");
        let log = self.log.as_mut().expect("a log is started with the fork");
        let job = self
            .job
            .as_ref()
            .expect("a message without a job runs no steps");
        let step = &job.steps[build.next_step];
        build.next_step += 1;
        let last = build.next_step == job.steps.len();
        self.events
            .say(EventKind::StepStarted, Some(&step.name), None)
            .await;
        self.gathered
            .timing
            .steps_started_at
            .get_or_insert_with(Timestamp::now);
        let limits = build.limits(&job.timeouts);
        let env = [&resolved.environment.env, &job.env];
        let ran = steps::run(build.agent(), step, env, resolved.epoch, limits, log).await;
        self.gathered.timing.steps_finished_at = Some(Timestamp::now());
        let end = match ran {
            Ok(end) => end,
            Err(StepLost::Guest(why)) => return self.lose_guest(&why).await,
            Err(StepLost::Log(error)) => {
                return Event::Ended(Verdict::host(Reason::HostFailed, &error));
            }
        };
        self.gathered.add_usage(&end.usage);
        self.gathered.steps.push(end.result);
        let message = end.verdict.as_ref().map(|verdict| verdict.message.clone());
        self.events
            .say(EventKind::StepFinished, Some(&step.name), message)
            .await;
        match end.verdict {
            Some(verdict) => Event::Ended(verdict),
            None if last => Event::LastDone,
            None => Event::Done,
        }
    }

    async fn collect(&mut self, verdict: &Verdict) -> Event {
        let Some(build) = &self.build else {
            return Event::Done;
        };
        let succeeded = *verdict == Verdict::success();
        let job = self
            .job
            .as_ref()
            .expect("a message without a job has no artifacts");
        let collected = artifacts::collect(
            build.agent(),
            &self.services.objects,
            &self.subject.tenant,
            &job.artifacts,
            succeeded,
            &mut self.gathered.artifacts,
        );
        match collected.await {
            Ok(()) => Event::Done,
            Err(CollectError::Verdict(verdict)) => Event::Ended(verdict),
            Err(CollectError::Guest(why)) => self.lose_guest(&why).await,
        }
    }

    async fn lose_guest(&mut self, why: &str) -> Event {
        Event::GuestLost(self.lost_verdict(why).await)
    }

    /// Ends the VM of a guest that is gone, and says whose fault that was.
    async fn lost_verdict(&mut self, why: &str) -> Verdict {
        match self.build.take() {
            Some(build) => build.lost(why).await,
            None => Verdict::new(Reason::GuestDied, why),
        }
    }

    /// Stores the log. The VM goes first: nothing more is read out of it.
    async fn store_log(&mut self) -> Result<(), Verdict> {
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

    async fn report(&mut self, verdict: &Verdict) -> Result<(), Verdict> {
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
        if stored == Stored::AlreadyThere {
            return Ok(());
        }
        self.events
            .say(EventKind::Finished, None, Some(verdict.message.clone()))
            .await;
        Ok(())
    }

    async fn acknowledge(&mut self) -> Result<(), Verdict> {
        let acknowledged = self.message.double_ack().await;
        // The next delivery finds the result and acknowledges again.
        acknowledged.map_err(|error| Verdict::new(Reason::HostFailed, error.to_string()))
    }

    /// Gives the job to the next attempt.
    async fn retry(&mut self, verdict: &Verdict) -> Result<(), Verdict> {
        drop(self.build.take());
        warn!(job = %self.subject.job_id, reason = %verdict.reason, message = verdict.message, "will be tried again");
        self.events
            .say(EventKind::Retrying, None, Some(verdict.message.clone()))
            .await;
        self.nak(RETRY_AFTER).await;
        Ok(())
    }

    /// Gives the job back because this worker ends: the attempt does not count.
    async fn give_back(mut self: Box<Self>) {
        drop(self.build.take());
        if let Some(record) = &mut self.record
            && let Err(error) = record.give_back().await
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

impl From<Result<(), Verdict>> for Event {
    fn from(result: Result<(), Verdict>) -> Self {
        match result {
            Ok(()) => Event::Done,
            Err(verdict) => Event::Ended(verdict),
        }
    }
}

/// Whether a worker that ends stops in the middle of this. What tells others how the job stands is brought to its end.
fn may_be_cut(action: Action) -> bool {
    match action {
        Action::Resolve | Action::Fork | Action::RunStep | Action::Collect | Action::StoreLog => {
            true
        }
        Action::Report | Action::Acknowledge | Action::GiveBack | Action::Stop => false,
    }
}

/// Tells the server again and again that the job is being worked on.
async fn heartbeats(message: &Message) {
    let mut beat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    loop {
        beat.tick().await;
        if let Err(error) = message.ack_with(AckKind::Progress).await {
            warn!(%error, "no sign of life sent");
        }
    }
}

/// Resolves when running jobs are to be given back.
async fn asked(give_back: &mut tokio::sync::watch::Receiver<bool>) {
    if give_back.wait_for(|asked| *asked).await.is_err() {
        // Nobody can ask any more.
        std::future::pending::<()>().await;
    }
}
