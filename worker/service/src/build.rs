//! The part of an attempt that happens in a VM: fork, setup where there is no snapshot of it, tree, steps, artifacts.
//!
//! What always holds: whatever ends an attempt, its VM is stopped before the result is published.

use std::time::Duration;

use async_trait::async_trait;
use egress::Counters;
use schemas::Token;
use schemas::guest::{BUILD_GID, BUILD_ROOT, BUILD_UID, HOSTNAME};
use schemas::reason::Reason;
use setup::{Happened, News, Room, SetupError};
use source::SourceError;
use tokio::sync::Mutex;
use tokio::time::Instant;
use vm::{Identity, Slot, Vm};
use wire::{PutSpec, User};

use crate::log::{JobLog, LogError};
use crate::resolve::Resolved;
use crate::services::Services;
use crate::steps::{self, Limits};
use crate::verdict::{self, Verdict};

/// What a guest that is done gets to switch itself off: nothing in it is kept.
const STOP_GRACE: Duration = Duration::from_secs(2);

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
    /// The next step's place in the job's list.
    pub next_step: usize,
    /// The limits over all steps; they begin with the first.
    limits: Option<Limits>,
}

impl Build {
    /// Forks the snapshot.
    pub async fn fork(services: &Services, resolved: &Resolved) -> Result<Self, Verdict> {
        let slot = Slot::create(&services.state.slots()).map_err(|error| Verdict::from(&error))?;
        let identity = Identity::fresh(HOSTNAME);
        let forked = services.driver.fork(&resolved.files, slot, &identity).await;
        let vm = forked.map_err(|error| Verdict::from(&error))?;
        Ok(Self {
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
        let news = IntoLog(Mutex::new((log, None)));
        let agent = self.vm.agent();
        let set_up = room.set_up(agent, &resolved.archive, way_out, &news).await;
        if let (_, Some(error)) = news.0.into_inner() {
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
        match put.await {
            Ok(_) => Ok(()),
            Err(SourceError::Agent(error)) if error.is_session_end() => {
                Err(PutError::Guest(error.to_string()))
            }
            Err(error) => Err(PutError::Verdict(Verdict::from(&error))),
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

    /// Ends a VM whose guest is gone, and says whose fault that was.
    pub async fn lost(self, why: &str) -> Verdict {
        let verdict = verdict::of_lost_guest(self.vm.stop(STOP_GRACE).await);
        Verdict::new(verdict.reason, format!("{}: {why}", verdict.message))
    }
}

/// Writes a setup's output to the job's log; the first error is kept for when the setup is over.
struct IntoLog<'a>(Mutex<(&'a mut JobLog, Option<LogError>)>);

#[async_trait]
impl News for IntoLog<'_> {
    async fn tell(&self, happened: Happened<'_>) {
        match happened {
            Happened::Output { step, lane, bytes } => {
                let (log, failed) = &mut *self.0.lock().await;
                let written = log.write(step, steps::stream(lane), bytes).await;
                if let (Err(error), None) = (written, &failed) {
                    *failed = Some(error);
                }
            }
            Happened::StepStarted { .. }
            | Happened::StepFinished { .. }
            | Happened::WayOutClosed { .. } => {}
        }
    }
}
