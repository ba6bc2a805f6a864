//! The part of an attempt that happens in a VM: fork, tree, steps, artifacts.
//!
//! What always holds: whatever ends an attempt, its VM is stopped before the result is published.

use std::time::Duration;

use schemas::guest::{BUILD_GID, BUILD_ROOT, BUILD_UID, HOSTNAME};
use source::SourceError;
use tokio::time::Instant;
use vm::{Identity, Slot, Vm};
use wire::{PutSpec, User};

use crate::resolve::Resolved;
use crate::services::Services;
use crate::steps::Limits;
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
        let Verdict { reason, message } = verdict::of_lost_guest(self.vm.stop(STOP_GRACE).await);
        Verdict::new(reason, format!("{message}: {why}"))
    }
}
