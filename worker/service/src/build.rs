//! The part of an attempt that happens in a VM: fork, setup where there is no snapshot of it, tree, steps, artifacts.
//!
//! What always holds: whatever ends an attempt, its VM is stopped before the result is published; a VM that nothing ends is killed when all
//! time limits of its job are over.

use std::time::Duration;

use async_trait::async_trait;
use egress::Counters;
use schemas::Job;
use schemas::Token;
use schemas::guest::{BUILD_GID, BUILD_ROOT, BUILD_UID, HOSTNAME};
use schemas::reason::Reason;
use schemas::result::Start;
use setup::{Happened, News, Room, SetupError};
use source::SourceError;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use vm::{Identity, Lifetime, Slot, Vm};
use wire::{PutSpec, User};

use crate::artifacts::COLLECT_WITHIN;
use crate::breaker::Health;
use crate::log::{JobLog, LogError};
use crate::resolve::Resolved;
use crate::services::Services;
use crate::steps::{self, Limits};
use crate::verdict::{self, Verdict};

/// What a guest that is done gets to switch itself off: nothing in it is kept.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// 10 min to put the source into the guest: the largest that is taken, where a busy host emulates the guest's processor.
const PUT_WITHIN: Duration = Duration::from_mins(10);

/// What a VM may live beyond the limits of its job's own: the worker's limits, and [`vm::lifetime::MARGIN`] above all of them.
pub fn life_beyond_limits() -> Duration {
    PUT_WITHIN + steps::GUEST_MARGIN + COLLECT_WITHIN + vm::lifetime::MARGIN
}

/// A tree that is not whole in the guest.
#[derive(Debug)]
pub enum PutError {
    /// The job has this verdict.
    Verdict(Verdict),
    /// The guest is gone.
    Guest(String),
}

/// A VM with the job's tree in it.
pub struct Build {
    vm: Box<dyn Vm>,
    /// What kills it if nothing else does.
    lifetime: Lifetime,
    /// The next step's place in the job's list.
    pub next_step: usize,
    /// The limits over all steps; they begin with the first.
    limits: Option<Limits>,
}

impl Build {
    /// Forks the snapshot, for `job`.
    pub async fn fork(
        services: &Services,
        resolved: &Resolved,
        job: &Job,
    ) -> Result<Self, Verdict> {
        let slot = Slot::create(&services.state.slots()).map_err(|error| Verdict::from(&error))?;
        let identity = Identity::fresh(HOSTNAME);
        let forked = services.driver.fork(&resolved.files, slot, &identity).await;
        let vm = forked.map_err(|error| Verdict::from(&error))?;
        let longest = longest_life(resolved, job) + services.life_beyond_limits;
        Ok(Self {
            lifetime: Lifetime::begin(vm.kill_switch(), longest),
            vm,
            next_step: 0,
            limits: None,
        })
    }

    /// Runs the environment's setup in a fork of the template, which puts the inputs in. Its output goes to the job's `log`;
    /// its way out is closed when this returns.
    pub async fn set_up(
        &self,
        services: &Services,
        resolved: &Resolved,
        tenant: &Token,
        log: &mut JobLog,
    ) -> Result<Counters, PutError> {
        let environment = &resolved.environment;
        let failed = |error: &SetupError| {
            PutError::Verdict(verdict::of_failed_setup(&environment.name, error))
        };
        let tenant = services.sources.tenant(tenant).await;
        let tenant = tenant.map_err(|error| PutError::Verdict(Verdict::from(&error)))?;
        let registries = &services.config.registries;
        let way_out = setup::way_out(&environment.network, registries, &tenant);
        let way_out = way_out.map_err(|error| failed(&error))?;
        let room = Room {
            what: format!("environment {}", environment.name),
            definition: environment,
            source_date_epoch: resolved.epoch,
        };
        let news = IntoLog {
            log: Mutex::new((log, None)),
            health: &services.health,
        };
        let agent = self.vm.agent();
        let set_up = room.set_up(agent, &resolved.archive, way_out, &news).await;
        if let (_, Some(error)) = news.log.into_inner() {
            return Err(PutError::Verdict(Verdict::host(Reason::HostFailed, &error)));
        }
        set_up.map_err(|error| {
            if error.is_session_end() {
                PutError::Guest(error.to_string())
            } else {
                failed(&error)
            }
        })
    }

    /// Puts the source in: every entry but the inputs, which are there already.
    pub async fn put_source(&self, resolved: &Resolved) -> Result<(), PutError> {
        let spec = PutSpec {
            root: BUILD_ROOT.into(),
            owner: User {
                uid: BUILD_UID,
                gid: BUILD_GID,
            },
        };
        let inputs = resolved.inputs();
        let put = resolved
            .archive
            .put_into(self.vm.agent(), &spec, &inputs, resolved.epoch);
        match timeout(PUT_WITHIN, put).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(SourceError::Agent(error))) if error.is_session_end() => {
                Err(PutError::Guest(error.to_string()))
            }
            Ok(Err(error)) => Err(PutError::Verdict(Verdict::from(&error))),
            Err(_) => {
                let message = format!("the guest did not take the source within {PUT_WITHIN:?}");
                Err(PutError::Verdict(Verdict::new(Reason::HostFailed, message)))
            }
        }
    }

    /// The session with the guest's agent.
    pub fn agent(&self) -> &vm::AgentClient {
        self.vm.agent()
    }

    /// The limits over all steps, which begin when this is first asked for.
    pub fn limits(&mut self, timeouts: &schemas::job::Timeouts) -> Limits {
        *self.limits.get_or_insert_with(|| Limits {
            run_until: Instant::now() + timeouts.run(),
            idle: timeouts.idle(),
            kill_grace: timeouts.kill_grace(),
        })
    }

    /// Ends the VM.
    pub async fn stop(self) {
        self.vm.stop(STOP_GRACE).await;
    }

    /// Ends the VM at once.
    pub fn kill(self) {
        self.vm.kill_switch().kill();
    }

    /// Ends a VM whose guest is gone, and says whose fault that was.
    pub async fn lost(self, why: &str) -> Verdict {
        let outlived = self.lifetime.is_over();
        let verdict = verdict::of_lost_guest(self.vm.stop(STOP_GRACE).await);
        if outlived {
            let message = "the VM outlived all time limits of its job";
            return Verdict::new(Reason::HostFailed, message);
        }
        Verdict::new(verdict.reason, format!("{}: {why}", verdict.message))
    }
}

/// What a job itself says of how long its VM may live: its setup where that runs here, and its steps.
fn longest_life(resolved: &Resolved, job: &Job) -> Duration {
    let setup = match resolved.start {
        Start::Fork => Duration::ZERO,
        Start::Cold => setup::longest(&resolved.environment.setup),
    };
    setup + job.timeouts.run() + job.timeouts.kill_grace()
}

/// Writes a setup's output to the job's log; the first error is kept for when the setup is over.
struct IntoLog<'a> {
    log: Mutex<(&'a mut JobLog, Option<LogError>)>,
    health: &'a Health,
}

#[async_trait]
impl News for IntoLog<'_> {
    async fn tell(&self, happened: Happened<'_>) {
        match happened {
            Happened::Output { step, lane, bytes } => {
                self.health.guest_ran();
                let (log, failed) = &mut *self.log.lock().await;
                let written = log.write(step, steps::stream(lane), bytes).await;
                if let (Err(error), None) = (written, &failed) {
                    *failed = Some(error);
                }
            }
            Happened::StepFinished { .. } => self.health.guest_ran(),
            Happened::StepStarted { .. } | Happened::WayOutClosed { .. } => {}
        }
    }
}
