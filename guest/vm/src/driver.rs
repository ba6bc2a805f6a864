//! What a driver does: the traits, and what they take and give.
//!
//! ```text
//! boot ───▶ BakeVm ──snapshot──▶ SnapshotFiles ──fork──▶ Vm ──stop──▶ Exit
//!              ▲                        │
//!              └────────derive──────────┘
//! ```
//!
//! What always holds: a VM is ended by whatever takes it by value, and by dropping it; a baked VM is never resumed; a VM
//! that is forked cannot be frozen, because only [`BakeVm`] has the method.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

use crate::agent::{AgentClient, AgentError};
use crate::identity::Identity;
use crate::kill_switch::KillSwitch;
use crate::slot::Slot;
use crate::snapshot::{Machine, SnapshotFiles};

/// Starts microVMs. One value per process; one implementation per VMM.
#[async_trait]
pub trait Driver: Send + Sync {
    /// What this driver's snapshots are bound to; in logs, metrics, manifests and host classes.
    fn profile(&self) -> &HostProfile;

    /// Boots a fresh guest and returns once its agent has answered.
    async fn boot(&self, spec: BootSpec, slot: Slot) -> Result<Box<dyn BakeVm>, VmError>;

    /// Starts a guest from a full private copy of a snapshot, so that it can be frozen again.
    async fn derive(
        &self,
        from: &SnapshotFiles,
        slot: Slot,
        identity: &Identity,
    ) -> Result<Box<dyn BakeVm>, VmError>;

    /// Forks a baked guest: memory and disk private and copied on write, thawed, agent answering. The snapshot is only
    /// read; any number of forks may run at once.
    async fn fork(
        &self,
        from: &SnapshotFiles,
        slot: Slot,
        identity: &Identity,
    ) -> Result<Box<dyn Vm>, VmError>;
}

/// One running microVM. What ends it takes it by value; dropping it kills it.
#[async_trait]
pub trait Vm: Send + Sync {
    /// The session with the agent inside.
    fn agent(&self) -> &AgentClient;

    /// What kills this VM from any thread, without the async runtime. It may outlive the VM.
    fn kill_switch(&self) -> KillSwitch;

    /// Asks the guest to power off, waits `grace`, then kills it. Says how it ended, also when it had ended by itself
    /// before: that is how a dead guest is told from a dead VMM.
    async fn stop(self: Box<Self>, grace: Duration) -> Exit;
}

/// A microVM that can be frozen.
#[async_trait]
pub trait BakeVm: Vm {
    /// Settles the guest ([`AgentClient::settle`]) and freezes it, writes memory, device state and disk into the directory
    /// `into`, which must be there and empty, and ends it.
    async fn snapshot(self: Box<Self>, into: &Path) -> Result<SnapshotFiles, VmError>;
}

/// What a snapshot is bound to besides its content: restored anywhere else it would fail, or worse, run.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HostProfile {
    /// Name of the driver.
    pub driver: String,
    /// Exact version of the VMM.
    pub vmm_version: String,
    /// What executes guest code: `tcg`, `kvm`.
    pub accelerator: String,
    /// The virtual CPU, in whatever words the driver has for it; equal words, equal CPU.
    pub cpu_model: String,
}

impl std::fmt::Display for HostProfile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            driver,
            vmm_version,
            accelerator,
            cpu_model,
        } = self;
        write!(f, "{driver} {vmm_version} ({accelerator}, {cpu_model})")
    }
}

/// How to boot.
#[derive(Clone, Debug)]
pub struct BootSpec {
    /// Kernel image.
    pub kernel: PathBuf,
    /// Initial RAM filesystem whose `/init` is the agent.
    pub initrd: PathBuf,
    /// Root disk image, raw; taken over by the VM (moved where that is possible).
    pub disk: PathBuf,
    /// The machine.
    pub machine: Machine,
}

/// How a VM ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The guest switched itself off, or died and took its machine down in order.
    PoweredOff,
    /// It was killed: after the grace, or before by its [`KillSwitch`], which also tells the two apart
    /// ([`KillSwitch::is_pulled`]). Neither is the VMM's failure: whoever used the switch knows what it was.
    Killed,
    /// The VMM itself failed: the host's trouble.
    VmmFailed(String),
}

/// A VM that could not be started, frozen or spoken to.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The VMM could not be run.
    #[error("start {program}")]
    Start {
        /// Its path.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The VMM answered a request with an error, or not at all.
    #[error("{doing}: {problem}")]
    Vmm {
        /// What was asked of it.
        doing: String,
        /// What it said.
        problem: String,
    },
    /// The guest did not get as far as it should in time.
    #[error("{doing}: nothing within {limit:?}; the guest's console ends with {console:?}")]
    Silent {
        /// What was waited for.
        doing: String,
        /// How long.
        limit: Duration,
        /// Last lines of its console.
        console: String,
    },
    /// The agent would not or could not.
    #[error("{doing}")]
    Agent {
        /// What was asked of it.
        doing: &'static str,
        /// Why not.
        #[source]
        source: AgentError,
    },
    /// The snapshot cannot be used here.
    #[error("snapshot {dir}: {problem}")]
    Snapshot {
        /// Its directory.
        dir: PathBuf,
        /// Why not.
        problem: String,
    },
    /// The host's files.
    #[error("{doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl VmError {
    /// For `map_err`: `doing` something to `path` failed.
    pub fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| VmError::Io {
            doing,
            path,
            source,
        }
    }
}
