//! The fake driver: the conformance suite, and the trouble that only it can be asked for.

#![expect(clippy::unwrap_used, reason = "a panic is a test's way of failing")]

use std::time::Duration;

use vm::conformance::{self, Capabilities};
use vm::fake::FakeDriver;
use vm::{BootSpec, Driver, ExecEvent, Exit, Identity, Machine, Slot, SnapshotFiles, Vm, VmError};
use wire::{Command, ExecSpec, User};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fake_driver_passes_the_conformance_suite() {
    let bench = Bench::new();
    let boot = bench.boot_spec();
    let rig = conformance::prepare(&bench.driver, boot, bench.dir.path())
        .await
        .unwrap();
    let capabilities = Capabilities { own_kernel: false };
    let report = conformance::run(&rig, capabilities, None).await;
    assert!(report.failed.is_empty(), "{:#?}", report.failed);
    let counted = report.passed.len() + report.skipped.len();
    assert_eq!(counted, conformance::cases().len());
    assert_eq!(report.took.len(), counted);
}

#[tokio::test]
async fn a_fork_that_is_to_fail_fails_once() {
    let bench = Bench::new();
    let snapshot = bench.bake().await;
    bench.driver.fail_next_fork();
    assert!(matches!(
        bench.fork(&snapshot).await,
        Err(VmError::Vmm { .. })
    ));
    assert!(bench.fork(&snapshot).await.is_ok());
}

#[tokio::test]
async fn a_guest_that_is_to_die_is_gone_after_its_first_output() {
    let bench = Bench::new();
    let snapshot = bench.bake().await;
    bench.driver.kill_guest_after_first_output();
    let vm = bench.fork(&snapshot).await.unwrap();
    assert_eq!(output_until_the_end(&*vm).await, b"hello\n");
    assert_eq!(vm.stop(Duration::ZERO).await, Exit::PoweredOff);
}

#[tokio::test]
async fn a_vmm_that_is_to_fail_says_so_when_it_is_stopped() {
    let bench = Bench::new();
    let snapshot = bench.bake().await;
    bench.driver.kill_vmm_after_first_output();
    let vm = bench.fork(&snapshot).await.unwrap();
    assert_eq!(output_until_the_end(&*vm).await, b"hello\n");
    assert!(matches!(vm.stop(Duration::ZERO).await, Exit::VmmFailed(_)));
}

#[tokio::test]
async fn a_dropped_vm_leaves_no_slot_behind() {
    let bench = Bench::new();
    let snapshot = bench.bake().await;
    let vm = bench.fork(&snapshot).await.unwrap();
    let mut execution = vm.agent().exec(&shell("echo ready; sleep 1000")).unwrap();
    assert!(matches!(execution.next().await, Ok(ExecEvent::Output(..))));
    drop(vm);
    let slots = std::fs::read_dir(bench.dir.path().join("slots")).unwrap();
    assert_eq!(slots.count(), 0);
}

/// Says `hello` and waits for the end of the guest, which comes with no end of the command.
async fn output_until_the_end(vm: &dyn Vm) -> Vec<u8> {
    let mut execution = vm.agent().exec(&shell("echo hello; sleep 1000")).unwrap();
    let mut seen = Vec::new();
    loop {
        match execution.next().await {
            Ok(ExecEvent::Output(_, bytes)) => seen.extend(bytes),
            Ok(ExecEvent::Ended(ended)) => panic!("a dead guest says {ended:?}"),
            Err(error) => {
                assert!(error.is_session_end());
                return seen;
            }
        }
    }
}

/// A driver and a directory to work in.
struct Bench {
    driver: FakeDriver,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            driver: FakeDriver::default(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn boot_spec(&self) -> BootSpec {
        let disk = self.dir.path().join("blank");
        std::fs::write(&disk, b"").unwrap();
        BootSpec {
            kernel: "/no/kernel".into(),
            initrd: "/no/initrd".into(),
            disk,
            machine: Machine {
                vcpu: 1,
                memory_mib: 128,
            },
        }
    }

    async fn bake(&self) -> SnapshotFiles {
        let vm = self.driver.boot(self.boot_spec(), self.slot()).await;
        let into = self.dir.path().join("baked");
        std::fs::create_dir(&into).unwrap();
        vm.unwrap().snapshot(&into).await.unwrap()
    }

    async fn fork(&self, snapshot: &SnapshotFiles) -> Result<Box<dyn Vm>, VmError> {
        self.driver
            .fork(snapshot, self.slot(), &Identity::fresh("fake"))
            .await
    }

    fn slot(&self) -> Slot {
        Slot::create(&self.dir.path().join("slots")).unwrap()
    }
}

fn shell(script: &str) -> ExecSpec {
    ExecSpec {
        command: Command::Shell(script.into()),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        cwd: "/".into(),
        user: User::BUILD,
        timeout: Duration::from_mins(1),
        kill_grace: Duration::ZERO,
    }
}
