//! One fake guest as a [`Vm`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::task::AbortOnDropHandle;

use super::guest::Guest;
use super::{Trouble, freeze, server};
use crate::agent::AgentClient;
use crate::driver::{BakeVm, Exit, HostProfile, Vm, VmError};
use crate::kill_switch::KillSwitch;
use crate::slot::Slot;
use crate::snapshot::{Machine, SnapshotFiles};

/// Bytes that the pipe between host and agent holds: two frames, so that channels have to wait for each other.
const PIPE: usize = 128 * 1024;

/// A guest whose tree lies in its slot.
#[derive(Debug)]
pub(super) struct FakeVm {
    agent: AgentClient,
    guest: Arc<Guest>,
    server: AbortOnDropHandle<()>,
    machine: Machine,
    profile: HostProfile,
    /// Last: removed when the guest is gone.
    _slot: Slot,
}

impl FakeVm {
    /// Starts the agent of the guest whose tree is in `slot`.
    pub(super) async fn start(
        slot: Slot,
        machine: Machine,
        profile: &HostProfile,
        trouble: Option<Trouble>,
        asleep: bool,
    ) -> Result<Self, VmError> {
        let guest = Arc::new(Guest::new(slot.path("root"), trouble, asleep));
        let (host, stream) = tokio::io::duplex(PIPE);
        let server = tokio::spawn(server::serve(stream, Arc::clone(&guest)));
        let connected = AgentClient::connect(host).await;
        let agent = connected.map_err(|source| VmError::Agent {
            doing: "greet the agent",
            source,
        })?;
        Ok(Self {
            agent,
            guest,
            server: AbortOnDropHandle::new(server),
            machine,
            profile: profile.clone(),
            _slot: slot,
        })
    }
}

impl Drop for FakeVm {
    fn drop(&mut self) {
        self.guest.kill();
    }
}

#[async_trait]
impl Vm for FakeVm {
    fn agent(&self) -> &AgentClient {
        &self.agent
    }

    fn kill_switch(&self) -> KillSwitch {
        let guest = Arc::downgrade(&self.guest);
        let what = format!("fake guest in {}", self.guest.root().display());
        KillSwitch::new(what, move || {
            if let Some(guest) = guest.upgrade() {
                guest.kill();
            }
        })
    }

    async fn stop(self: Box<Self>, grace: Duration) -> Exit {
        let powered_off = async {
            if self.agent.power_off().await.is_ok() {
                self.guest.ended().await;
            }
        };
        // In time or not: what counts is whether the guest has ended.
        drop(tokio::time::timeout(grace, powered_off).await);
        self.guest.exit().unwrap_or(Exit::Killed)
    }
}

#[async_trait]
impl BakeVm for FakeVm {
    async fn snapshot(mut self: Box<Self>, into: &Path) -> Result<SnapshotFiles, VmError> {
        let settled = self.agent.settle().await;
        settled.map_err(|source| VmError::Agent {
            doing: "settle the guest",
            source,
        })?;
        self.agent.disconnect().await;
        // A server that panicked has left the tree at rest just as well.
        drop((&mut self.server).await);
        freeze(self.guest.root(), into, self.machine, &self.profile).await
    }
}
