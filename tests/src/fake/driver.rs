//! The fake driver, whose guests end as their snapshot says, or all alike on a host that is told so.

use std::fs;

use async_trait::async_trait;
use vm::fake::FakeDriver;
use vm::{BakeVm, BootSpec, Driver, HostProfile, Identity, Slot, SnapshotFiles, Vm, VmError};

use super::Fate;

/// One fake driver for each fate, so that trouble that is planned for one start is never taken by another.
#[derive(Debug, Default)]
pub struct FatefulDriver {
    /// That of every guest, whatever its snapshot says.
    always: Option<Fate>,
    steady: FakeDriver,
    dying: FakeDriver,
    failing: FakeDriver,
    refusing: FakeDriver,
}

impl FatefulDriver {
    /// One whose guests all have this fate; where there is none, that of their snapshot.
    pub fn new(always: Option<Fate>) -> Self {
        Self {
            always,
            ..Self::default()
        }
    }

    /// The driver for one start from `from`, with the trouble of its fate planned.
    fn of(&self, from: &SnapshotFiles) -> Result<&FakeDriver, VmError> {
        let path = from.state();
        let text = fs::read_to_string(&path).map_err(VmError::io("read", &path))?;
        // A snapshot that no fate was written into is steady.
        Ok(match self.always.or_else(|| Fate::parse(&text)) {
            None | Some(Fate::Steady) => &self.steady,
            Some(Fate::GuestDies) => {
                self.dying.kill_guest_after_first_output();
                &self.dying
            }
            Some(Fate::VmmFails) => {
                self.failing.kill_vmm_after_first_output();
                &self.failing
            }
            Some(Fate::StartFails) => {
                self.refusing.fail_next_fork();
                &self.refusing
            }
        })
    }
}

#[async_trait]
impl Driver for FatefulDriver {
    fn profile(&self) -> &HostProfile {
        self.steady.profile()
    }

    async fn boot(&self, spec: BootSpec, slot: Slot) -> Result<Box<dyn BakeVm>, VmError> {
        self.steady.boot(spec, slot).await
    }

    async fn derive(
        &self,
        from: &SnapshotFiles,
        slot: Slot,
        identity: &Identity,
    ) -> Result<Box<dyn BakeVm>, VmError> {
        self.of(from)?.derive(from, slot, identity).await
    }

    async fn fork(
        &self,
        from: &SnapshotFiles,
        slot: Slot,
        identity: &Identity,
    ) -> Result<Box<dyn Vm>, VmError> {
        self.of(from)?.fork(from, slot, identity).await
    }
}
