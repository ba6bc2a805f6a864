//! The conformance suite over real QEMU, and what only a real VMM can show.
//!
//! The suite needs a kernel, a root disk and the agent; `make test` makes them once and names them in the environment.
#![expect(clippy::unwrap_used, reason = "a panic is a test's way of failing")]

mod full_disk;
mod owner;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use drivers::{Qemu, QemuConfig, initramfs, sparse};
use vm::conformance::{self, Capabilities};
use vm::{BootSpec, Driver, Identity, Lifetime, Machine, Slot};

/// Where `make test` puts the parts of a guest: `kernel`, `modules/`, `root.ext4`, `sourdough-agent`.
const PARTS: &str = "SOURDOUGH_GUEST";

fn parts() -> PathBuf {
    let parts = std::env::var_os(PARTS).map(PathBuf::from);
    parts.unwrap_or_else(|| panic!("{PARTS} is not set: run the tests through `make test`"))
}

/// A guest about to be booted: the disk is a copy, the rest is only read.
fn boot_spec(scratch: &Path) -> BootSpec {
    let parts = parts();
    let (initrd, disk) = (scratch.join("initramfs"), scratch.join("disk"));
    initramfs::write(
        &parts.join("sourdough-agent"),
        &parts.join("modules"),
        &initrd,
    )
    .unwrap();
    sparse::copy(&parts.join("root.ext4"), &disk).unwrap();
    let machine = Machine {
        vcpu: 1,
        memory_mib: 512,
    };
    BootSpec {
        kernel: parts.join("kernel"),
        initrd,
        disk,
        machine,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qemu_passes_the_conformance_suite() {
    // As below a home directory: the VMM's user must not need to pass through it.
    let private = std::fs::Permissions::from_mode(0o700);
    let scratch = tempfile::Builder::new()
        .permissions(private)
        .tempdir()
        .unwrap();
    let qemu = Qemu::new(QemuConfig::default()).unwrap();
    let baked = scratch.path().join("baked");
    std::fs::create_dir(&baked).unwrap();
    let rig = conformance::prepare(&qemu, boot_spec(scratch.path()), &baked)
        .await
        .unwrap();
    every_baked_file_refuses_a_writer(rig.snapshot.dir());

    let report = conformance::run(&rig, Capabilities { own_kernel: true }, None).await;
    assert!(report.failed.is_empty(), "{:#?}", report.failed);
    assert_eq!(
        report.passed.len() + report.skipped.len(),
        conformance::cases().len()
    );

    dropping_a_vm_kills_its_process(&qemu, &rig, scratch.path()).await;
    a_lifetime_kills_the_process_while_nothing_else_runs(&qemu, &rig).await;
    full_disk::nothing_is_started_on_a_disk_that_is_full(&qemu, &rig).await;
    full_disk::a_guest_on_a_full_disk_is_the_hosts_trouble(&qemu, &rig).await;
}

/// A VMM's user has no way to write to what other forks start from. (The memory it maps is sealed besides.)
fn every_baked_file_refuses_a_writer(dir: &Path) {
    for name in ["memory", "state", "disk"] {
        let file = std::fs::metadata(dir.join(name)).unwrap();
        assert_eq!(file.mode() & 0o777, 0o444, "{name}");
        assert_eq!(file.uid(), nix::unistd::Uid::effective().as_raw(), "{name}");
    }
}

async fn dropping_a_vm_kills_its_process(qemu: &Qemu, rig: &conformance::Rig<'_>, scratch: &Path) {
    let slots = scratch.join("dropped");
    let slot = Slot::create(&slots).unwrap();
    let marker = slot.dir().to_owned();
    let vm = qemu
        .fork(&rig.snapshot, slot, &Identity::fresh("dropped"))
        .await
        .unwrap();
    let pid = process_in(&marker).expect("a running VM has a process that runs in its slot");
    drop(vm);
    let gone = async {
        while Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("the process is killed");
    assert!(!marker.exists(), "the slot goes with its VM");
}

/// What the suite's case cannot see: the process itself is gone before the runtime has had any say.
async fn a_lifetime_kills_the_process_while_nothing_else_runs(
    qemu: &Qemu,
    rig: &conformance::Rig<'_>,
) {
    let slot = Slot::create(&rig.slots).unwrap();
    let marker = slot.dir().to_owned();
    let identity = Identity::fresh("outlived");
    let vm = qemu.fork(&rig.snapshot, slot, &identity).await.unwrap();
    let pid = process_in(&marker).unwrap();
    let lifetime = Lifetime::begin(vm.kill_switch(), Duration::from_millis(100));
    // This blocks the thread: what ends the process is neither this test nor a task of it.
    owner::wait_for_the_end_of(&owner::handle_of(pid));
    assert!(lifetime.is_over());
    assert_eq!(vm.stop(Duration::ZERO).await, vm::Exit::Killed);
}

/// The process whose working directory is `slot`.
fn process_in(slot: &Path) -> Option<u32> {
    let pids = std::fs::read_dir("/proc").unwrap();
    let mut pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == slot))
}
