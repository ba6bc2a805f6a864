//! One attempt at a claimed job: does what [`crate::lifecycle`] says, and tells it what came of it.
//!
//! What always holds: the job is kept ours by the loop that also supervises the work, so a worker whose loop hangs loses the job instead of
//! holding it, and work on a job that was lost is dropped at once; an attempt is recorded before its VM starts, and never for a job that is
//! parked.

mod finish;
mod guest;
mod heart;
mod hold;
mod parking;
mod prepare;

use std::sync::Arc;

use async_nats::jetstream::Message;
use bus::jobs::Record;
use futures_util::FutureExt as _;
use schemas::event::EventKind;
use schemas::job::Job;
use schemas::source::ArchiveSource;
use tempfile::TempDir;
use tokio::sync::watch;
use tracing::warn;

pub(crate) use hold::{Hold, say};
pub(crate) use parking::waited_since;

use crate::build::Build;
use crate::cancels::Cancel;
use crate::events::Events;
use crate::lifecycle::{Action, Event, Lifecycle, State};
use crate::log::JobLog;
use crate::presence::Slot;
use crate::report::{Gathered, Subject};
use crate::resolve::{Missing, Resolved};
use crate::services::Services;
use crate::verdict::Verdict;

/// What the claim of a message found.
pub struct Claimed {
    /// What jobs share.
    pub services: Services,
    /// The message.
    pub message: Message,
    /// Whose result it will be.
    pub subject: Subject,
    /// What to do; none for a message that is no job.
    pub job: Option<Job>,
    /// What the job did so far; none as above.
    pub record: Option<Record>,
    /// What tells it to end; none as above.
    pub cancel: Option<Cancel>,
    /// What is known of it already.
    pub gathered: Gathered,
    /// The right to run it here.
    pub slot: Slot,
}

/// A job, and all that one attempt at it has gathered.
pub struct Attempt {
    services: Services,
    message: Message,
    subject: Subject,
    /// What to do; none for a message that is no job.
    job: Option<Job>,
    record: Option<Record>,
    cancel: Option<Cancel>,
    events: Arc<Events>,
    /// The right to run it here; none while it is parked.
    slot: Option<Slot>,
    /// Its scratch files; none before its source is fetched, and while it is parked.
    scratch: Option<TempDir>,
    /// Where its source lies in S3, once it was fetched.
    stored: Option<ArchiveSource>,
    /// What it is parked for.
    missing: Option<Box<Missing>>,
    resolved: Option<Box<Resolved>>,
    build: Option<Build>,
    log: Option<JobLog>,
    /// It is recorded, and the end of its log is not marked yet.
    log_is_due: bool,
    gathered: Gathered,
}

impl Attempt {
    /// For a message that was claimed.
    pub fn new(claimed: Claimed) -> Self {
        let Claimed {
            services,
            message,
            subject,
            job,
            record,
            cancel,
            gathered,
            slot,
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
            cancel,
            events: Arc::new(events),
            slot: Some(slot),
            scratch: None,
            stored: None,
            missing: None,
            resolved: None,
            build: None,
            log: None,
            log_is_due: false,
            gathered,
        }
    }

    /// Brings the job to its end. `first` is what the claim found: [`Event::Done`], or a verdict.
    pub async fn run(mut self: Box<Self>, mut hold: Hold, mut lifecycle: Lifecycle, first: Event) {
        if first == Event::Done {
            self.events.say(EventKind::Claimed, None, None).await;
        }
        let mut event = first;
        loop {
            let action = lifecycle.next(&event);
            if action == Action::Stop {
                break;
            }
            event = self.next_event(action, &lifecycle, &mut hold).await;
            if event == Event::LeaseLost {
                self.abandon(&mut hold).await;
            }
        }
        hold.release().await;
    }

    /// Does one thing to its end, unless something else ends it first.
    async fn next_event(
        &mut self,
        action: Action,
        lifecycle: &Lifecycle,
        hold: &mut Hold,
    ) -> Event {
        let state = lifecycle.state();
        let mut give_back = self.services.give_back.clone();
        let mut draining = self.services.draining.clone();
        let mut cancel = self.cancel.clone();
        tokio::select! {
            event = self.act(action, lifecycle, hold) => event,
            () = asked(&mut give_back), if state.may_be_cut() => Event::Drained,
            // It has begun nothing here that would be lost.
            () = asked(&mut draining), if state == State::Parked => Event::Drained,
            () = cancelled(cancel.as_mut()), if state.is_cut_by_cancel() => {
                self.events.say(EventKind::Cancelling, None, None).await;
                Event::Cancelled
            }
        }
    }

    /// Does one thing, and keeps the job ours meanwhile; both are polled by this one loop. What is said after an acknowledgement would be
    /// said of another delivery.
    async fn act(&mut self, action: Action, lifecycle: &Lifecycle, hold: &mut Hold) -> Event {
        match action {
            Action::Acknowledge => hold.acknowledge().await.into(),
            Action::GiveBack(why) => {
                self.hand_back(why, lifecycle.verdict(), hold).boxed().await;
                Event::Done
            }
            Action::Park => self.park(hold).boxed().await,
            Action::Resolve
            | Action::Fork
            | Action::RunStep
            | Action::Collect
            | Action::StoreLog
            | Action::Report
            | Action::Stop => {
                // Behind a pointer, and of a type that is written in one word: all that an attempt does is large.
                let work = self.perform(action, lifecycle.verdict()).boxed();
                hold.during(work).await.unwrap_or(Event::LeaseLost)
            }
        }
    }

    async fn perform(&mut self, action: Action, verdict: &Verdict) -> Event {
        match action {
            Action::Resolve => Box::pin(self.resolve()).await,
            Action::Fork => Box::pin(self.fork()).await.into(),
            Action::RunStep => Box::pin(self.run_step()).await,
            Action::Collect => Box::pin(self.collect(verdict)).await,
            Action::StoreLog => Box::pin(self.store_log(verdict)).await.into(),
            Action::Report => Box::pin(self.report(verdict)).await.into(),
            Action::Park | Action::Acknowledge | Action::GiveBack(_) | Action::Stop => Event::Done,
        }
    }

    /// Ends the work on a job that another worker may have by now, and says nothing of it.
    async fn abandon(&mut self, hold: &mut Hold) {
        if let Some(build) = self.build.take() {
            build.kill();
        }
        self.log = None;
        warn!("the job's lease was lost: its work is dropped, and nothing is said of it");
        hold.lose().await;
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

/// Returns once this worker is told to do so.
async fn asked(told: &mut watch::Receiver<bool>) {
    if told.wait_for(|asked| *asked).await.is_err() {
        // Nobody can ask any more.
        std::future::pending::<()>().await;
    }
}

/// Returns once the job's end is asked for.
async fn cancelled(cancel: Option<&mut Cancel>) {
    match cancel {
        Some(cancel) => cancel.asked().await,
        None => std::future::pending().await,
    }
}
