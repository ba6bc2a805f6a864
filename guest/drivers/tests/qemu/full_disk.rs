//! A host whose disk is full: a guest that writes ends, none is started, and the host is to blame.

use std::path::{Path, PathBuf};
use std::time::Duration;

use drivers::Qemu;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use vm::conformance::Rig;
use vm::{Driver, Exit, Identity, Slot};
use wire::{Command, ExecSpec, User};

/// Room for QEMU's overlay of a guest that has just been restored, and not for what the guest then writes.
const SMALL: &str = "size=8m";

pub(crate) async fn a_guest_on_a_full_disk_is_the_hosts_trouble(qemu: &Qemu, rig: &Rig<'_>) {
    let Some(disk) = SmallDisk::mount(&rig.slots.join("small")) else {
        println!("skipped: a guest on a full disk is the host's trouble: only root can mount one");
        return;
    };
    let slot = Slot::create(&disk.0).unwrap();
    let marker = slot.dir().to_owned();
    let identity = Identity::fresh("full");
    let vm = qemu.fork(&rig.snapshot, slot, &identity).await.unwrap();

    let execution = vm.agent().exec(&write_64_mib()).unwrap();
    let ended = execution.output(4096).await;
    assert!(ended.is_err(), "the guest goes on: {ended:?}");
    match vm.stop(Duration::from_secs(10)).await {
        Exit::VmmFailed(problem) => {
            assert!(problem.contains("No space left on device"), "{problem}");
            assert!(problem.contains(marker.to_str().unwrap()), "{problem}");
        }
        exit @ (Exit::PoweredOff | Exit::Killed) => panic!("{exit:?}"),
    }
    assert!(!marker.exists(), "the slot goes with its VM");
}

/// Nothing is left for QEMU's overlay: the guest does not start, and why is said.
pub(crate) async fn nothing_is_started_on_a_disk_that_is_full(qemu: &Qemu, rig: &Rig<'_>) {
    let Some(disk) = SmallDisk::mount(&rig.slots.join("full")) else {
        println!("skipped: nothing is started on a disk that is full: only root can mount one");
        return;
    };
    let slot = Slot::create(&disk.0).unwrap();
    let marker = slot.dir().to_owned();
    let filled = std::fs::write(disk.0.join("filler"), vec![1; 16 << 20]);
    assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let identity = Identity::fresh("full");
    let forked = qemu.fork(&rig.snapshot, slot, &identity).await;
    let error = forked.err().expect("there is no room for it");
    let said = error.to_string();
    assert!(said.contains("No space left on device"), "{said}");
    assert!(!marker.exists(), "the slot goes with its VM");
}

fn write_64_mib() -> ExecSpec {
    ExecSpec {
        command: Command::Shell("head -c 67108864 /dev/urandom >large; sync; echo done".into()),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        cwd: "/build/src".into(),
        user: User::BUILD,
        timeout: Duration::from_mins(2),
        kill_grace: Duration::ZERO,
    }
}

/// A filesystem of its own, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one, if this process may.
    fn mount(at: &Path) -> Option<Self> {
        if !nix::unistd::Uid::effective().is_root() {
            return None;
        }
        std::fs::create_dir(at).unwrap();
        mount(
            Some("tmpfs"),
            at,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(SMALL),
        )
        .unwrap();
        Some(Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}
