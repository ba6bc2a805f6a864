//! QEMU's machine type `microvm`.
//!
//! Two kinds of start. A *bake* (boot, derive) has its memory in a file of its slot that it shares with us, so that
//! freezing it costs only the device state. A *fork* maps a sealed copy of a baked memory privately and writes its disk
//! into an overlay that has no name.
//!
//! ```text
//! boot:    kernel + initramfs + disk ─▶ agent answers
//! derive:  copies of memory and disk, state loaded ─▶ thaw ─▶ agent answers
//! fork:    sealed memory and baked disk, state loaded ─▶ thaw ─▶ agent answers
//! freeze:  settle, hang up, stop, migrate (device state only) to a file, holes into the memory where it is zero
//! ```
//!
//! What always holds: everything a QEMU process needs is passed as an open descriptor or lies in its slot; it has no
//! network, starts nothing and can write to nothing else.

mod command;
mod guest;
mod process;
mod qmp;
mod tail;
mod tsc;
mod version;
mod victim;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::UnixStream;
use tokio::time::timeout;
use vm::{
    AgentClient, BakeVm, BootSpec, Driver, HostProfile, Identity, Lifetime, Slot, SnapshotFiles,
    Vm, VmError, lifetime,
};

use crate::sealed::SealedMemories;
use crate::sparse;
use command::{DISK, Disk, MEMORY, Memory, Start};
use guest::QemuVm;
use process::Process;
use version::{cpu_model, version_in};

/// What an operator says about QEMU.
#[derive(Clone, Debug)]
pub struct QemuConfig {
    /// The program.
    pub program: PathBuf,
    /// What executes guest code: `tcg` (software emulation) or `kvm`.
    pub accelerator: String,
    /// How long a guest may take from power on to its agent's answer.
    pub boot_limit: Duration,
    /// How long a restored guest may take to answer.
    pub fork_limit: Duration,
}

impl Default for QemuConfig {
    fn default() -> Self {
        Self {
            program: "qemu-system-x86_64".into(),
            accelerator: "tcg".into(),
            // Fifty times what a boot takes under emulation on an idle machine (2.4 s).
            boot_limit: Duration::from_mins(2),
            // A hundred times what a fork takes there (0.15 s to 0.3 s).
            fork_limit: Duration::from_secs(30),
        }
    }
}

/// The driver.
#[derive(Debug)]
pub struct Qemu {
    config: QemuConfig,
    profile: HostProfile,
    memories: SealedMemories,
}

impl Qemu {
    /// Asks the program for its version. Everything else is found out when a guest is started.
    pub fn new(config: QemuConfig) -> Result<Self, VmError> {
        let output = Command::new(&config.program)
            .arg("--version")
            .output()
            .map_err(|source| VmError::Start {
                program: config.program.clone(),
                source,
            })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = version_in(&text).ok_or_else(|| VmError::Vmm {
            doing: format!("read the version of {}", config.program.display()),
            problem: format!("it says {:?}", text.trim()),
        })?;
        let profile = HostProfile {
            driver: "qemu".into(),
            vmm_version: version.number.into(),
            accelerator: config.accelerator.clone(),
            cpu_model: cpu_model(&config.accelerator, version.build)?,
        };
        Ok(Self {
            config,
            profile,
            memories: SealedMemories::default(),
        })
    }

    /// Starts a process and brings its guest as far as `wake` does, within `limit`.
    async fn start(
        &self,
        start: Start,
        slot: Slot,
        wake: Wake<'_>,
        limit: Duration,
    ) -> Result<QemuVm, VmError> {
        let (mut process, agent) = Process::start(&self.config, &start, &slot)?;
        let _lifetime = Lifetime::begin(process.kill_switch(), limit + lifetime::MARGIN);
        match timeout(limit, wake.wake(&mut process, agent)).await {
            Ok(Ok(agent)) => {
                let profile = self.profile.clone();
                Ok(QemuVm {
                    agent,
                    process,
                    slot,
                    machine: start.machine,
                    profile,
                })
            }
            Ok(Err(error)) => Err(process.explain(error).await),
            Err(_) => Err(process.silent(wake.doing(), limit)),
        }
    }
}

/// How a guest wakes.
#[derive(Clone, Copy)]
enum Wake<'a> {
    /// From nothing.
    Boot,
    /// From a state; then it is made its own.
    Restore(&'a Identity),
}

impl Wake<'_> {
    fn doing(self) -> &'static str {
        match self {
            Wake::Boot => "boot the guest",
            Wake::Restore(_) => "restore the guest",
        }
    }

    /// Lets the guest run until its agent has answered.
    async fn wake(self, process: &mut Process, agent: UnixStream) -> Result<AgentClient, VmError> {
        match self {
            Wake::Boot => process.resume().await?,
            Wake::Restore(_) => process.load_state().await?,
        }
        let agent = AgentClient::connect(agent)
            .await
            .map_err(agent_error("greet the guest's agent"))?;
        if let Wake::Restore(identity) = self {
            agent
                .thaw(identity)
                .await
                .map_err(agent_error("thaw the guest"))?;
        }
        Ok(agent)
    }
}

#[async_trait]
impl Driver for Qemu {
    fn profile(&self) -> &HostProfile {
        &self.profile
    }

    async fn boot(&self, spec: BootSpec, slot: Slot) -> Result<Box<dyn BakeVm>, VmError> {
        move_file(&spec.disk, &slot.path(DISK)).await?;
        let start = Start {
            machine: spec.machine,
            memory: Memory::New,
            disk: Disk::Own,
            boot: Some((spec.kernel, spec.initrd)),
            state: None,
        };
        Ok(Box::new(
            self.start(start, slot, Wake::Boot, self.config.boot_limit)
                .await?,
        ))
    }

    async fn derive(
        &self,
        from: &SnapshotFiles,
        slot: Slot,
        identity: &Identity,
    ) -> Result<Box<dyn BakeVm>, VmError> {
        from.check(&self.profile)?;
        copy_file(&from.memory(), &slot.path(MEMORY)).await?;
        copy_file(&from.disk(), &slot.path(DISK)).await?;
        let start = Start {
            machine: from.machine(),
            memory: Memory::Own,
            disk: Disk::Own,
            boot: None,
            state: Some(from.state()),
        };
        Ok(Box::new(
            self.start(start, slot, Wake::Restore(identity), self.config.fork_limit)
                .await?,
        ))
    }

    async fn fork(
        &self,
        from: &SnapshotFiles,
        slot: Slot,
        identity: &Identity,
    ) -> Result<Box<dyn Vm>, VmError> {
        from.check(&self.profile)?;
        let memory = from.memory();
        let sealed = self
            .memories
            .get(&memory)
            .await
            .map_err(VmError::io("load", &memory))?;
        let start = Start {
            machine: from.machine(),
            memory: Memory::Sealed(sealed),
            disk: Disk::Overlay(from.disk()),
            boot: None,
            state: Some(from.state()),
        };
        Ok(Box::new(
            self.start(start, slot, Wake::Restore(identity), self.config.fork_limit)
                .await?,
        ))
    }
}

fn agent_error(doing: &'static str) -> impl FnOnce(vm::AgentError) -> VmError {
    move |source| VmError::Agent { doing, source }
}

/// Moves a file; between filesystems it is copied, holes and all.
async fn move_file(from: &Path, to: &Path) -> Result<(), VmError> {
    if tokio::fs::rename(from, to).await.is_ok() {
        return Ok(());
    }
    copy_file(from, to).await?;
    tokio::fs::remove_file(from)
        .await
        .map_err(VmError::io("remove", from))
}

async fn copy_file(from: &Path, to: &Path) -> Result<(), VmError> {
    let (source, target) = (from.to_owned(), to.to_owned());
    let copied = tokio::task::spawn_blocking(move || sparse::copy(&source, &target)).await;
    copied
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        // What fails is nearly always the writing.
        .map_err(VmError::io("copy a disk or a memory to", to))
}
