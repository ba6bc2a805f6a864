//! A guest that is being baked, and the end that it comes to whatever its bake does.
//!
//! What always holds: it is killed when its lifetime is over, and that is this host's trouble and no fault of what is baked.

use std::path::Path;
use std::time::Duration;

use schemas::step::Step;
use vm::{AgentClient, BakeVm, Exit, Lifetime, SnapshotFiles, lifetime};

use crate::error::BakeError;

/// 5 s for a guest whose bake failed to switch itself off: nothing of it is kept.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// 15 min for all but the setup steps: inputs go in, the guest settles (5 min at most, [`vm::agent::PATIENCE`]) and is frozen. On an
/// idle host each takes seconds.
const HANDLING: Duration = Duration::from_mins(15);

/// What a bake works with until it is frozen.
pub(super) struct Guest {
    vm: Box<dyn BakeVm>,
    lifetime: Lifetime,
    limit: Duration,
}

impl Guest {
    /// Takes over a VM that has just started, to run `steps` in it.
    pub(super) fn new(vm: Box<dyn BakeVm>, steps: &[Step]) -> Self {
        Self::with_limit(vm, setup::longest(steps) + HANDLING + lifetime::MARGIN)
    }

    fn with_limit(vm: Box<dyn BakeVm>, limit: Duration) -> Self {
        let lifetime = Lifetime::begin(vm.kill_switch(), limit);
        Self {
            vm,
            lifetime,
            limit,
        }
    }

    /// The session with its agent.
    pub(super) fn agent(&self) -> &AgentClient {
        self.vm.agent()
    }

    /// Freezes it into an empty directory.
    pub(super) async fn freeze(self, into: &Path) -> Result<SnapshotFiles, BakeError> {
        let frozen = self.vm.snapshot(into).await;
        if self.lifetime.is_over() {
            return Err(outlived(self.limit));
        }
        Ok(frozen?)
    }

    /// Ends it because its bake failed. Where its agent vanished, how it ended says whether this host was to blame.
    pub(super) async fn end(self, error: BakeError) -> BakeError {
        let vanished = error.is_session_end();
        match self.vm.stop(STOP_GRACE).await {
            Exit::VmmFailed(problem) if vanished => BakeError::VmmDied { problem },
            Exit::Killed if vanished && self.lifetime.is_over() => outlived(self.limit),
            Exit::VmmFailed(_) | Exit::PoweredOff | Exit::Killed => error,
        }
    }
}

fn outlived(limit: Duration) -> BakeError {
    BakeError::Outlived { limit }
}

#[cfg(test)]
mod tests {
    use setup::SetupError;
    use vm::fake::FakeDriver;
    use vm::{BootSpec, Driver, Machine, Slot};

    use super::*;

    async fn guest(directory: &Path, limit: Duration) -> Guest {
        let disk = directory.join("disk");
        std::fs::write(&disk, b"").unwrap();
        let boot = BootSpec {
            kernel: "/no/kernel".into(),
            initrd: "/no/initrd".into(),
            disk,
            machine: Machine {
                vcpu: 1,
                memory_mib: 128,
            },
        };
        let slot = Slot::create(directory).unwrap();
        let vm = FakeDriver::default().boot(boot, slot).await.unwrap();
        Guest::with_limit(vm, limit)
    }

    #[tokio::test]
    async fn a_guest_that_outlives_its_limits_is_the_hosts_trouble() {
        let directory = tempfile::tempdir().unwrap();
        let guest = guest(directory.path(), Duration::ZERO).await;
        guest.agent().ended().await;
        let vanished = guest.agent().sync().await.unwrap_err();
        let error = SetupError::from(source::SourceError::Agent(vanished));
        let error = guest.end(error.into()).await;
        assert!(matches!(error, BakeError::Outlived { .. }), "{error}");
        assert_eq!(error.reason(), "host_failed");
    }

    #[tokio::test]
    async fn a_guest_that_outlives_its_limits_is_not_frozen() {
        let directory = tempfile::tempdir().unwrap();
        let guest = guest(directory.path(), Duration::ZERO).await;
        guest.agent().ended().await;
        let into = tempfile::tempdir().unwrap();
        let frozen = guest.freeze(into.path()).await;
        assert!(matches!(frozen, Err(BakeError::Outlived { .. })));
    }
}
