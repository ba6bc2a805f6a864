//! The gate on the fake driver: what passes, and each thing that does not.

use tempfile::TempDir;
use vm::fake::FakeDriver;
use vm::{BootSpec, Machine};
use wire::{Entry, EntryKind, PutSpec, User};

use super::*;

const CANARY: &str = "canary-0123456789";

/// A frozen guest.
struct Frozen {
    driver: FakeDriver,
    files: SnapshotFiles,
    directory: TempDir,
}

impl Frozen {
    /// A guest with one file in `root`: `/build/src` is its disk, `/run` its memory.
    async fn with_file(root: &str, bytes: &[u8]) -> Self {
        let (driver, directory) = (FakeDriver::default(), tempfile::tempdir().unwrap());
        let disk = directory.path().join("disk");
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
        let slot = Slot::create(directory.path()).unwrap();
        let vm = driver.boot(boot, slot).await.unwrap();
        let spec = PutSpec {
            root: root.to_owned(),
            owner: User::BUILD,
        };
        let mut put = vm.agent().put(&spec).unwrap();
        let entry = Entry {
            path: "file".to_owned(),
            kind: EntryKind::File {
                size: bytes.len() as u64,
            },
            mode: 0o644,
            mtime: 1,
        };
        put.entry(&entry).await.unwrap();
        for chunk in bytes.chunks(1 << 16) {
            put.bytes(chunk).await.unwrap();
        }
        put.finish().await.unwrap();
        let into = directory.path().join("frozen");
        std::fs::create_dir(&into).unwrap();
        let files = vm.snapshot(&into).await.unwrap();
        Self {
            driver,
            files,
            directory,
        }
    }

    async fn plain() -> Self {
        Self::with_file(BUILD_ROOT, b"plain").await
    }

    async fn check(&self) -> Result<GateReport, BakeError> {
        let canaries = [
            "another-canary-0123".to_owned().try_into().unwrap(),
            CANARY.to_owned().try_into().unwrap(),
        ];
        check(&self.driver, &self.files, self.directory.path(), &canaries).await
    }

    async fn refusal(&self) -> String {
        let error = self.check().await.unwrap_err();
        assert_eq!(error.reason(), "gate_failed");
        assert_eq!(error.fault(), store::Fault::Job);
        let text = error.to_string();
        assert!(!text.contains(CANARY), "{text}");
        text.strip_prefix("the snapshot is not fit to be published: ")
            .unwrap()
            .to_owned()
    }
}

#[tokio::test]
async fn two_forks_that_are_two_guests_on_one_disk_pass() {
    let report = Frozen::plain().await.check().await.unwrap();
    assert!(report.entropy_differs && report.uuid_differs && report.disks_agree);
    assert_eq!((report.forks.len(), report.canaries), (2, 2));
    assert_eq!(report.forks[0].clock_skew_ms, 0);
}

#[tokio::test]
async fn nothing_of_the_forks_is_left() {
    let frozen = Frozen::plain().await;
    frozen.check().await.unwrap();
    let left = crate::files::list(frozen.directory.path()).unwrap();
    assert_eq!(left, [frozen.directory.path().join("frozen")]);
}

#[tokio::test]
async fn forks_with_the_same_random_bytes_are_refused() {
    let frozen = Frozen::plain().await;
    frozen.driver.repeat_random_bytes();
    frozen.driver.repeat_random_bytes();
    let problem = "two forks give the same random bytes";
    assert_eq!(frozen.refusal().await, problem);
}

#[tokio::test]
async fn forks_that_see_different_disks_are_refused() {
    let frozen = Frozen::plain().await;
    frozen.driver.show_another_disk();
    assert_eq!(frozen.refusal().await, "two forks see different disks");
}

#[tokio::test]
async fn a_clock_that_is_late_is_refused() {
    let frozen = Frozen::plain().await;
    frozen.driver.set_clock_late();
    let problem = frozen.refusal().await;
    assert!(problem.starts_with("a fork's clock is -3"), "{problem}");
}

#[tokio::test]
async fn a_fork_that_does_not_start_is_the_hosts_trouble() {
    let frozen = Frozen::plain().await;
    frozen.driver.fail_next_fork();
    let error = frozen.check().await.unwrap_err();
    assert_eq!(error.fault(), store::Fault::Host);
}

#[tokio::test]
async fn a_canary_is_found_on_the_disk_and_in_memory() {
    for (root, name) in [(BUILD_ROOT, "disk"), ("/run/x", "memory")] {
        let mut bytes = vec![b'x'; 2 << 20];
        bytes[1_500_000..][..CANARY.len()].copy_from_slice(CANARY.as_bytes());
        let frozen = Frozen::with_file(root, &bytes).await;
        assert_eq!(frozen.refusal().await, format!("canary 1 is in its {name}"));
    }
}

#[tokio::test]
async fn a_canary_across_the_border_of_two_blocks_is_found() {
    let frozen = Frozen::plain().await;
    let memory = frozen.files.memory();
    let mut bytes = vec![b'x'; 2 << 20];
    bytes[(1 << 20) - 5..][..CANARY.len()].copy_from_slice(CANARY.as_bytes());
    std::fs::write(memory, bytes).unwrap();
    assert_eq!(frozen.refusal().await, "canary 1 is in its memory");
}

#[test]
fn a_guests_time_is_compared_with_the_whole_time_of_the_answer() {
    let at = Duration::from_millis;
    assert_eq!(skew(at(1500), at(1000), at(2000)), 0);
    assert_eq!(skew(at(900), at(1000), at(2000)), -100);
    assert_eq!(skew(at(2300), at(1000), at(2000)), 300);
}

#[test]
fn a_canary_is_long_enough_and_never_shown() {
    assert!(Secret::try_from("short".to_owned()).is_err());
    let secret = Secret::try_from(CANARY.to_owned()).unwrap();
    assert_eq!(format!("{secret:?}"), "Secret(…)");
}
