//! While there is a VM: fork, setup, source, steps, artifacts.
//!
//! What always holds: a VM whose guest is gone is ended at once, for how it ended says whose fault that was; what happens from a guest's
//! first command on says nothing of this host.

use std::convert::Infallible;
use std::sync::Arc;

use jiff::Timestamp;
use schemas::event::EventKind;
use schemas::reason::Reason;
use schemas::result::{Egress, Start};
use schemas::step::Step;
use tokio::time::timeout;
use tracing::{Instrument as _, info_span};

use super::Attempt;
use crate::artifacts::{self, COLLECT_WITHIN, CollectError, Way};
use crate::build::{Build, PutError};
use crate::cancels::Cancel;
use crate::lifecycle::Event;
use crate::log::JobLog;
use crate::report::Subject;
use crate::steps::{self, StepEnd, StepLost, Surroundings};
use crate::verdict::Verdict;

impl Attempt {
    /// Starts the VM, sets it up if it is a template's, and puts the source in.
    pub(super) async fn fork(&mut self) -> Result<(), Verdict> {
        let begun = self.begin_guest().instrument(info_span!("fork")).await;
        begun.inspect_err(|verdict| self.blame(verdict))?;
        let filled = self.fill_guest().await;
        if let (Err(verdict), false) = (&filled, self.has_set_up()) {
            self.blame(verdict);
        }
        filled
    }

    /// Whether commands of a setup run in the guest before the steps do.
    fn has_set_up(&self) -> bool {
        match self.resolved.as_ref().map(|resolved| resolved.start) {
            Some(Start::Cold) => true,
            Some(Start::Fork) | None => false,
        }
    }

    async fn begin_guest(&mut self) -> Result<(), Verdict> {
        let log = self.start_log()?;
        self.log = Some(log);
        let (resolved, job) = (self.resolved.as_ref(), self.job());
        let resolved = resolved.expect("a job is resolved before it is forked");
        let build = Build::fork(&self.services, resolved, job).await?;
        self.build = Some(build);
        self.gathered.timing.vm_ready_at = Some(Timestamp::now());
        self.events.say(EventKind::Forked, None, None).await;
        Ok(())
    }

    async fn fill_guest(&mut self) -> Result<(), Verdict> {
        let resolved = self.resolved.as_ref();
        let resolved = resolved.expect("a job is resolved before it is forked");
        let (build, log) = (self.build.as_ref(), self.log.as_mut());
        let build = build.expect("a guest was begun");
        let log = log.expect("a log is started with the guest");
        let tenant = &self.subject.tenant;
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

    fn start_log(&self) -> Result<JobLog, Verdict> {
        let Subject {
            tenant,
            job_id,
            attempt,
            ..
        } = &self.subject;
        let scratch = self
            .scratch
            .as_ref()
            .expect("the source was fetched into a directory");
        let cap = self.services.config.log_max_bytes;
        let jetstream = &self.services.jetstream;
        JobLog::start(jetstream, tenant, job_id, *attempt, cap, scratch.path())
            .map_err(|error| Verdict::host(Reason::HostFailed, &error).of_host())
    }

    /// Runs the next step, and tells of it before and afterwards.
    pub(super) async fn run_step(&mut self) -> Event {
        let (step, last) = self.next_step();
        let started = EventKind::StepStarted;
        self.events.say(started, Some(&step.name), None).await;
        let timing = &mut self.gathered.timing;
        timing.steps_started_at.get_or_insert_with(Timestamp::now);
        let span = info_span!("step", step = %step.name);
        let ran = self.run_until_cancelled(&step).instrument(span).await;
        self.gathered.timing.steps_finished_at = Some(Timestamp::now());
        let end = match ran {
            Ok(end) => end,
            Err(StepLost::Guest(_)) if self.is_cancelled() => return Event::Cancelled,
            Err(StepLost::Guest(why)) => return self.lose_guest(&why).await,
            Err(StepLost::Log(error)) => {
                return Event::Ended(Verdict::host(Reason::HostFailed, &error));
            }
        };
        self.gathered.add_usage(&end.usage);
        self.gathered.steps.push(end.result);
        let message = end.verdict.as_ref().map(|verdict| verdict.message.clone());
        let finished = EventKind::StepFinished;
        self.events.say(finished, Some(&step.name), message).await;
        if self.is_cancelled() {
            return Event::Cancelled;
        }
        match end.verdict {
            Some(verdict) => Event::Ended(verdict),
            None if last => Event::LastDone,
            None => Event::Done,
        }
    }

    /// The step whose turn it is, and whether it is the last.
    fn next_step(&mut self) -> (Step, bool) {
        let build = self
            .build
            .as_mut()
            .expect("a job is forked before its steps run");
        let job = self
            .job
            .as_ref()
            .expect("a message without a job runs no steps");
        let step = job.steps[build.next_step].clone();
        build.next_step += 1;
        (step, build.next_step == job.steps.len())
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(Cancel::is_asked)
    }

    /// Runs the step, which is told to end when the job's end is asked for; that is said at once.
    async fn run_until_cancelled(&mut self, step: &Step) -> Result<StepEnd, StepLost> {
        let (events, mut cancel) = (Arc::clone(&self.events), self.cancel.clone());
        let say = async {
            super::cancelled(cancel.as_mut()).await;
            events
                .say(EventKind::Cancelling, Some(&step.name), None)
                .await;
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            ran = self.run_in_guest(step) => ran,
            never = say => match never {},
        }
    }

    async fn run_in_guest(&mut self, step: &Step) -> Result<StepEnd, StepLost> {
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
        let cancel = self.cancel.as_mut();
        let around = Surroundings {
            env: [&resolved.environment.env, &job.env],
            epoch: resolved.epoch,
            limits: build.limits(&job.timeouts),
            cancel: cancel.expect("whoever claims a job listens for its end"),
            log,
            health: &self.services.health,
        };
        steps::run(build.agent(), step, around).await
    }

    pub(super) async fn collect(&mut self, verdict: &Verdict) -> Event {
        let Some(build) = &self.build else {
            return Event::Done;
        };
        let succeeded = *verdict == Verdict::success();
        let job = self
            .job
            .as_ref()
            .expect("a message without a job has no artifacts");
        let way = Way {
            agent: build.agent(),
            objects: &self.services.objects,
            tenant: &self.subject.tenant,
            events: &self.events,
        };
        let collected =
            artifacts::collect(way, &job.artifacts, succeeded, &mut self.gathered.artifacts);
        match timeout(COLLECT_WITHIN, collected.instrument(info_span!("upload"))).await {
            Ok(Ok(())) => Event::Done,
            Ok(Err(CollectError::Verdict(verdict))) => Event::Ended(verdict),
            Ok(Err(CollectError::Guest(why))) => self.lose_guest(&why).await,
            Err(_) => {
                let message = format!("the artifacts were not stored within {COLLECT_WITHIN:?}");
                Event::Ended(Verdict::new(Reason::UploadFailed, message))
            }
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
}

/// What the proxy counted, in the words of messages.
fn in_messages(counters: egress::Counters) -> Egress {
    Egress {
        allowed: counters.allowed,
        denied: counters.denied,
        denied_hosts: counters.denied_hosts.into_iter().collect(),
    }
}
