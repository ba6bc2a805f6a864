//! A driver without VMs, for tests of what stands around them: a guest is a directory, and its commands are processes of
//! the host.
//!
//! ```text
//! slot/root/       what the guest takes for its root directory: /build/src is slot/root/build/src
//! slot/root/run/   the guest's memory: packed as `memory`, all else as `disk`
//! ```
//!
//! The agent is a task that speaks the real protocol over an in-memory pipe, so everything on the host's side of a VM is
//! the real thing, and the conformance suite holds for it. What only a kernel can give is missing: a command's absolute
//! paths are the host's, its user, hostname, clock and entropy are the host's, and a process that leaves its command's
//! process group escapes.
//!
//! Where the owner is killed, the main process of each command is killed with it; what that has started goes on to its own end.
//!
//! What always holds: a dropped VM has no process left in the process groups of its commands.

mod command;
mod files;
mod guest;
mod image;
mod probe;
mod processes;
mod proxy;
mod server;
mod session;
mod vm;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;

use crate::driver::{BakeVm, BootSpec, Driver, HostProfile, Vm, VmError};
use crate::identity::Identity;
use crate::slot::Slot;
use crate::snapshot::{Machine, SnapshotFiles};
use vm::FakeVm;

/// Starts guests that are directories. See the module's documentation.
#[derive(Debug)]
pub struct FakeDriver {
    profile: HostProfile,
    trouble: Mutex<VecDeque<Trouble>>,
}

/// What a start from a snapshot, or the VM it gives, runs into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// The start itself fails.
    StartFails,
    /// The guest dies once the host has the first output of a command.
    GuestDies,
    /// The VMM fails at that moment.
    VmmFails,
    /// The guest's random bytes are those of every other guest with this trouble.
    RandomRepeats,
    /// The guest's clock is an hour late.
    ClockIsLate,
    /// The guest sees another disk than the snapshot's.
    DiskDiffers,
}

impl Default for FakeDriver {
    fn default() -> Self {
        let profile = HostProfile {
            driver: "fake".into(),
            vmm_version: env!("CARGO_PKG_VERSION").into(),
            accelerator: "none".into(),
            cpu_model: "host".into(),
        };
        Self {
            profile,
            trouble: Mutex::default(),
        }
    }
}

/// Scripted trouble. Each call is for one start from a snapshot, by [`Driver::fork`] or [`Driver::derive`]; starts take
/// them in the order of the calls, one each, and run without trouble when none is left.
impl FakeDriver {
    /// The next start fails as if the VMM had refused the snapshot.
    pub fn fail_next_fork(&self) {
        self.plan(Trouble::StartFails);
    }

    /// The next VM's agent session just ends once the host has the first output of a command; [`Vm::stop`] then says
    /// [`crate::Exit::PoweredOff`], as it does for any guest that died.
    pub fn kill_guest_after_first_output(&self) {
        self.plan(Trouble::GuestDies);
    }

    /// As [`FakeDriver::kill_guest_after_first_output`], but it was the VMM that failed: [`Vm::stop`] says
    /// [`crate::Exit::VmmFailed`].
    pub fn kill_vmm_after_first_output(&self) {
        self.plan(Trouble::VmmFails);
    }

    /// The next VM's random bytes and UUIDs are those of every other VM with this trouble, as if its thaw had brought no entropy.
    pub fn repeat_random_bytes(&self) {
        self.plan(Trouble::RandomRepeats);
    }

    /// The next VM's clock is an hour late.
    pub fn set_clock_late(&self) {
        self.plan(Trouble::ClockIsLate);
    }

    /// The next VM says that it sees another disk than the snapshot's.
    pub fn show_another_disk(&self) {
        self.plan(Trouble::DiskDiffers);
    }

    fn plan(&self, trouble: Trouble) {
        self.queue().push_back(trouble);
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<Trouble>> {
        self.trouble
            .lock()
            .expect("nothing panics while it holds the queue")
    }

    async fn start_from(
        &self,
        from: &SnapshotFiles,
        slot: Slot,
        identity: &Identity,
    ) -> Result<Box<FakeVm>, VmError> {
        from.check(&self.profile)?;
        let trouble = self.queue().pop_front();
        if trouble == Some(Trouble::StartFails) {
            return Err(VmError::Vmm {
                doing: format!("load {}", from.dir().display()),
                problem: "refused, as the test asked".into(),
            });
        }
        image::unpack(&from.disk(), &slot.path("root")).await?;
        image::unpack(&from.memory(), &slot.path("root/run")).await?;
        let asleep = true;
        let vm = FakeVm::start(slot, from.machine(), &self.profile, trouble, asleep).await?;
        let thawed = vm.agent().thaw(identity).await;
        thawed.map_err(|source| VmError::Agent {
            doing: "thaw the guest",
            source,
        })?;
        Ok(Box::new(vm))
    }

    async fn boot_fresh(&self, spec: BootSpec, slot: Slot) -> Result<FakeVm, VmError> {
        image::unpack(&spec.disk, &slot.path("root")).await?;
        image::make_memory(&slot.path("root/run"))?;
        let doing = VmError::io("take over", &spec.disk);
        std::fs::remove_file(&spec.disk).map_err(doing)?;
        let (trouble, asleep) = (None, false);
        FakeVm::start(slot, spec.machine, &self.profile, trouble, asleep).await
    }
}

/// `kernel` and `initrd` of a [`BootSpec`] are not looked at. Its `disk` is a tar archive, which is what this driver's own
/// snapshots have as their disk; a file that is empty or begins with a kilobyte of zeros, as an ext4 image does, is an
/// empty tree.
#[async_trait]
impl Driver for FakeDriver {
    fn profile(&self) -> &HostProfile {
        &self.profile
    }

    async fn boot(&self, spec: BootSpec, slot: Slot) -> Result<Box<dyn BakeVm>, VmError> {
        Ok(Box::new(self.boot_fresh(spec, slot).await?))
    }

    async fn derive(
        &self,
        from: &SnapshotFiles,
        slot: Slot,
        identity: &Identity,
    ) -> Result<Box<dyn BakeVm>, VmError> {
        Ok(self.start_from(from, slot, identity).await?)
    }

    async fn fork(
        &self,
        from: &SnapshotFiles,
        slot: Slot,
        identity: &Identity,
    ) -> Result<Box<dyn Vm>, VmError> {
        Ok(self.start_from(from, slot, identity).await?)
    }
}

/// Writes the snapshot of a guest that is at rest.
async fn freeze(
    root: &Path,
    into: &Path,
    machine: Machine,
    profile: &HostProfile,
) -> Result<SnapshotFiles, VmError> {
    image::pack(&root.join("run"), &into.join("memory"), None).await?;
    image::pack(root, &into.join("disk"), Some("run")).await?;
    let state = into.join("state");
    std::fs::write(&state, "a fake guest at rest\n").map_err(VmError::io("write", &state))?;
    SnapshotFiles::create(into, machine, profile)
}
