//! One attempt at a claimed job: does what [`crate::lifecycle`] says, and tells it what came of it.
//!
//! What always holds: the message is kept alive by the loop that also supervises the work, so a worker whose loop hangs
//! loses the job instead of holding it; an attempt is recorded before its VM starts, and never for a job that is parked.

mod finish;
mod guest;
mod heart;
mod prepare;

use async_nats::jetstream::{AckKind, Message};
use schemas::event::EventKind;
use schemas::job::Job;
use schemas::source::ArchiveSource;
use tempfile::TempDir;
use tracing::warn;

pub(crate) use prepare::waited_since;

use crate::build::Build;
use crate::events::Events;
use crate::lifecycle::{Action, Event, Lifecycle};
use crate::log::JobLog;
use crate::presence::Slot;
use crate::report::{Gathered, Subject};
use crate::resolve::{Missing, Resolved};
use crate::services::Services;
use crate::verdict::Verdict;
use bus::jobs::Record;
use heart::Heart;

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
    pub record: Option<Record>,
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
    record: Option<Record>,
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
        let mut heart = Heart::new();
        let mut event = first;
        loop {
            let action = lifecycle.next(&event);
            if action == Action::Stop {
                break;
            }
            event = tokio::select! {
                event = self.act(action, &lifecycle, &mut heart) => event,
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

    /// Does one thing, and keeps the message alive meanwhile; both are polled by this one loop.
    async fn act(&mut self, action: Action, lifecycle: &Lifecycle, heart: &mut Heart) -> Event {
        let message = self.message.clone();
        let work = Box::pin(self.perform(action, lifecycle));
        if keeps_alive(action) {
            heart.during(work, || say_alive(&message)).await
        } else {
            work.await
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

/// Tells the server that the job is being worked on.
async fn say_alive(message: &Message) {
    if let Err(error) = message.ack_with(AckKind::Progress).await {
        warn!(%error, "no sign of life sent");
    }
}

/// Resolves when running jobs are to be given back.
async fn asked(give_back: &mut tokio::sync::watch::Receiver<bool>) {
    if give_back.wait_for(|asked| *asked).await.is_err() {
        // Nobody can ask any more.
        std::future::pending::<()>().await;
    }
}
