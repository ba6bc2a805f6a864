//! One attempt at a claimed job: does what [`crate::lifecycle`] says, and tells it what came of it.
//!
//! What always holds: the message is kept alive by the loop that also supervises the work, so a worker whose loop hangs
//! loses the job instead of holding it; an attempt is recorded before its VM starts, and never for a job that is parked.

use std::time::Duration;

use async_nats::jetstream::{AckKind, Message};
use bus::results::Stored;
use jiff::Timestamp;
use schemas::digest::PrefixedDigest;
use schemas::event::EventKind;
use schemas::job::Job;
use schemas::reason::Reason;
use schemas::result::{Egress, EnvironmentUsed, SourceUsed, Start};
use schemas::source::{ArchiveSource, Source};
use source::Archive;
use tempfile::TempDir;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::artifacts::{self, CollectError};
use crate::build::{Build, PutError};
use crate::events::Events;
use crate::lifecycle::{Action, Event, Lifecycle, Why};
use crate::log::JobLog;
use crate::park::{Parked, Waited};
use crate::presence::Slot;
use crate::record::{JobRecord, RecordError};
use crate::report::{self, Gathered, Subject};
use crate::resolve::{self, Domain, Missing, Resolution, Resolved};
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

/// Before another worker takes a job that this one gave back: at once, for all practical purposes.
const GIVEN_BACK_AFTER: Duration = Duration::from_secs(1);

/// What the claim of a message found.
pub struct Claimed {
    /// What jobs share.
    pub services: Services,
    /// The message.
    pub message: Message,
    /// Whose result it will be.
    pub subject: Subject,
    /// What to do; none for a message that got its verdict at the claim.
    pub job: Option<Job>,
    /// What the job did so far; none as above.
    pub record: Option<JobRecord>,
    /// What is known of it already.
    pub gathered: Gathered,
    /// The right to run it here.
    pub slot: Slot,
    /// A directory for its scratch files.
    pub scratch: TempDir,
}

/// A job, and all that one attempt at it has gathered.
pub struct Attempt {
    services: Services,
    message: Message,
    subject: Subject,
    /// What to do; none for a message that got its verdict at the claim.
    job: Option<Job>,
    record: Option<JobRecord>,
    events: Events,
    /// The right to run it here; none while it is parked.
    slot: Option<Slot>,
    /// Its scratch files; none while it is parked.
    scratch: Option<TempDir>,
    /// Where its source lies in S3, once it was fetched.
    stored: Option<ArchiveSource>,
    /// What it is parked for.
    missing: Option<Box<Missing>>,
    resolved: Option<Box<Resolved>>,
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
    pub fn new(claimed: Claimed) -> Self {
        let Claimed {
            services,
            message,
            subject,
            job,
            record,
            gathered,
            slot,
            scratch,
        } = claimed;
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
            slot: Some(slot),
            scratch: Some(scratch),
            stored: None,
            missing: None,
            resolved: None,
            build: None,
            log: None,
            gathered,
        }
    }

    /// Brings the job to its end. `first` is what the claim found: [`Event::Done`], or a verdict.
    pub async fn run(mut self: Box<Self>, mut lifecycle: Lifecycle, first: Event) {
        let mut give_back = self.services.give_back.clone();
        let mut draining = self.services.draining.clone();
        if first == Event::Done {
            self.events.say(EventKind::Claimed, None, None).await;
        }
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
                // It has begun nothing here that would be lost.
                () = asked(&mut draining), if action == Action::Park => {
                    return Box::pin(self.give_back()).await;
                }
            };
        }
    }

    /// Does one thing, and keeps the message alive meanwhile. Both are polled by this one loop; a sign of life that does not
    /// get away holds up neither the work nor its limits.
    async fn act(&mut self, action: Action, lifecycle: &Lifecycle) -> Event {
        let message = self.message.clone();
        tokio::select! {
            event = self.perform(action, lifecycle) => event,
            () = heartbeats(&message), if keeps_alive(action) => {
                unreachable!("a heart beats until the work is done")
            }
        }
    }

    async fn perform(&mut self, action: Action, lifecycle: &Lifecycle) -> Event {
        match action {
            Action::Resolve => Box::pin(self.resolve()).await,
            Action::Park => Box::pin(self.park()).await,
            Action::Fork => Box::pin(self.fork()).await.into(),
            Action::RunStep => self.run_step().await,
            Action::Collect => self.collect(lifecycle.verdict()).await,
            Action::StoreLog => self.store_log().await.into(),
            Action::Report => Box::pin(self.report(lifecycle.verdict())).await.into(),
            Action::Acknowledge => self.acknowledge().await.into(),
            Action::GiveBack(why) => self.hand_back(why, lifecycle.verdict()).await.into(),
            Action::Stop => Event::Done,
        }
    }

    fn job(&self) -> &Job {
        self.job
            .as_ref()
            .expect("a message without a job has its verdict from the claim")
    }

    /// Looks for everything, and records the attempt unless the job is to be parked: a host's trouble counts as well.
    async fn resolve(&mut self) -> Event {
        let found = match self.look().await {
            Ok(Resolution::Missing(missing)) => {
                self.missing = Some(missing);
                return Event::Missing;
            }
            Ok(Resolution::Ready(resolved)) => Ok(resolved),
            Err(verdict) => Err(verdict),
        };
        if let Err(error) = self.begin().await {
            warn!(job = %self.subject.job_id, error = %bus::telemetry::Causes(&error), "no attempt recorded");
            return match error {
                RecordError::Raced => Event::Raced,
                RecordError::Conflict | RecordError::Bucket(_) => Event::NoRecord,
            };
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

    async fn begin(&mut self) -> Result<(), RecordError> {
        let record = self
            .record
            .as_mut()
            .expect("a message without a job begins nothing");
        record.begin(&self.services.config.name).await?;
        let Subject {
            tenant,
            job_id,
            attempt,
            ..
        } = &self.subject;
        info!(job = %job_id, %tenant, attempt, "attempt begins");
        Ok(())
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
    async fn park(&mut self) -> Event {
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
                self.gathered.log = log;
                Event::Ended(verdict)
            }
        }
    }

    async fn wait(&self, missing: &Missing) -> Waited {
        let parked = Parked {
            services: &self.services,
            domain: Domain {
                tenant: &self.subject.tenant,
                trust: self.subject.trust,
            },
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

    /// How much longer the job may wait. One that a host failed has been taken out of the queue in time, and waits anew.
    fn patience(&self) -> Duration {
        let limit = self.job().timeouts.queue();
        let failed_before = self.record.as_ref().map_or(0, JobRecord::attempts) > 0;
        let since = self.gathered.timing.queued_at.filter(|_| !failed_before);
        let waited = since.map_or(Duration::ZERO, waited_since);
        limit.saturating_sub(waited)
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
        let scratch = self
            .scratch
            .as_ref()
            .expect("the source was fetched into a directory");
        let log = JobLog::start(
            &self.services.jetstream,
            tenant,
            job_id,
            *attempt,
            cap,
            scratch.path(),
        );
        let log = log.map_err(|error| Verdict::host(Reason::HostFailed, &error))?;
        let log = self.log.insert(log);
        let build = Build::fork(&self.services, resolved).await?;
        let build = self.build.insert(build);
        self.gathered.timing.vm_ready_at = Some(Timestamp::now());
        self.events.say(EventKind::Forked, None, None).await;
        let set_up = match resolved.start {
            Start::Fork => Ok(()),
            Start::Cold => {
                let set_up = build.set_up(&self.services, resolved, tenant, log).await;
                set_up.map(|counters| self.gathered.egress = in_messages(counters))
            }
        };
        let put = match set_up {
            Ok(()) => build.put_source(resolved).await,
            Err(error) => Err(error),
        };
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
        info!(job = %self.subject.job_id, reason = %verdict.reason, ?stored, "finished");
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

    /// Gives the job to the next attempt, or to another worker.
    async fn hand_back(&mut self, why: Why, verdict: &Verdict) -> Result<(), Verdict> {
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
        Action::Resolve
        | Action::Park
        | Action::Fork
        | Action::RunStep
        | Action::Collect
        | Action::StoreLog => true,
        Action::Report | Action::Acknowledge | Action::GiveBack(_) | Action::Stop => false,
    }
}

/// Whether the message is still ours meanwhile. What is said after an acknowledgement would be said of another delivery.
fn keeps_alive(action: Action) -> bool {
    match action {
        Action::Resolve
        | Action::Park
        | Action::Fork
        | Action::RunStep
        | Action::Collect
        | Action::StoreLog
        | Action::Report => true,
        Action::Acknowledge | Action::GiveBack(_) | Action::Stop => false,
    }
}

/// Since then. A clock of this host that is behind the server's makes nothing old.
pub(crate) fn waited_since(queued_at: Timestamp) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(queued_at)).unwrap_or_default()
}

/// What the proxy counted, in the words of messages.
fn in_messages(counters: egress::Counters) -> Egress {
    Egress {
        allowed: counters.allowed,
        denied: counters.denied,
        denied_hosts: counters.denied_hosts.into_iter().collect(),
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
