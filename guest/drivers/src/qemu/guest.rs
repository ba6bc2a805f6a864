//! One guest of QEMU whose agent answers.
//!
//! What always holds: whatever ends it takes its process along, and the slot after that.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use tracing::{info, warn};
use vm::{
    AgentClient, BakeVm, Exit, HostProfile, KillSwitch, Machine, Slot, SnapshotFiles, Vm, VmError,
};

use super::command::{DISK, MEMORY};
use super::process::{self, Process};
use super::{agent_error, move_file};
use crate::sparse;

/// A guest whose agent answers.
#[derive(Debug)]
pub(super) struct QemuVm {
    pub(super) agent: AgentClient,
    pub(super) process: Process,
    pub(super) slot: Slot,
    pub(super) machine: Machine,
    pub(super) profile: HostProfile,
}

#[async_trait]
impl Vm for QemuVm {
    fn agent(&self) -> &AgentClient {
        &self.agent
    }

    fn kill_switch(&self) -> KillSwitch {
        self.process.kill_switch()
    }

    async fn stop(mut self: Box<Self>, grace: Duration) -> Exit {
        // The guest may be dead already; then waiting for its process is all there is to do.
        let until = tokio::time::Instant::now() + grace;
        drop(tokio::time::timeout_at(until, self.agent.power_off()).await);
        self.process
            .wait(until.saturating_duration_since(tokio::time::Instant::now()))
            .await
    }
}

#[async_trait]
impl BakeVm for QemuVm {
    async fn snapshot(mut self: Box<Self>, into: &Path) -> Result<SnapshotFiles, VmError> {
        match self.freeze(into).await {
            Ok(files) => Ok(files),
            Err(error) => Err(self.process.explain(error).await),
        }
    }
}

impl QemuVm {
    async fn freeze(&mut self, into: &Path) -> Result<SnapshotFiles, VmError> {
        self.settle().await?;
        // The agent meets every fork with a new session: hang up before the freeze.
        self.agent.disconnect().await;
        self.process.save_state(&into.join("state")).await?;
        self.process.quit().await?;
        for name in [MEMORY, DISK] {
            move_file(&self.slot.path(name), &into.join(name)).await?;
        }
        dig(&into.join(MEMORY)).await?;
        for name in [MEMORY, "state", DISK] {
            process::make_read_only(&into.join(name))?;
        }
        SnapshotFiles::create(into, self.machine, &self.profile)
    }

    /// Makes the guest ready to be frozen, and logs how ready it is. What is not done makes the snapshot larger and no worse a VM.
    async fn settle(&self) -> Result<(), VmError> {
        let settled = self.agent.settle().await;
        let settled = settled.map_err(agent_error("settle the guest"))?;
        let (zeroed, left) = (settled.zeroed_bytes >> 20, settled.left_bytes >> 20);
        let (trimmed, took) = (settled.trimmed_bytes >> 20, settled.took);
        match settled.problem {
            None => info!(
                zeroed_mib = zeroed,
                left_mib = left,
                trimmed_mib = trimmed,
                ?took,
                "settled"
            ),
            Some(problem) => warn!(
                zeroed_mib = zeroed,
                trimmed_mib = trimmed,
                problem,
                "not settled"
            ),
        }
        Ok(())
    }
}

/// Makes holes of the zeroes in a file.
async fn dig(path: &Path) -> Result<(), VmError> {
    let own = path.to_owned();
    let dug = tokio::task::spawn_blocking(move || sparse::dig(&own)).await;
    let bytes = dug
        .expect("digging reports errors and does not panic")
        .map_err(VmError::io("make holes in", path))?;
    info!(dug_mib = bytes >> 20, "memory is sparse");
    Ok(())
}
