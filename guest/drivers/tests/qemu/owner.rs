//! What an owner that is killed leaves of its VMs: a slot, which the next start sweeps, and nothing else.
//!
//! The owner is this very program, started once more.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use drivers::{Qemu, QemuConfig};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use vm::{Driver, Slot};

use super::{boot_spec, process_in};

/// Makes this program an owner, in the directory that it names.
const DIRECTORY: &str = "SOURDOUGH_OWNER";

/// What an owner says once its guest's agent has answered.
const READY: &str = "the guest is up";

/// Far above what the kernel takes to end a process.
const SOON_MS: u16 = 20_000;

#[test]
fn a_vmm_and_all_it_has_end_with_an_owner_that_is_killed() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        own_a_guest(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let mut owner = start_an_owner(directory.path().into());
    let slots = directory.path().join("slots");
    let slot = std::fs::read_dir(&slots).unwrap().next().unwrap();
    let slot = slot.unwrap().path();
    let vmm = process_in(&slot).expect("a running VM has a process that runs in its slot");
    let user = user_of(vmm);
    let handle = handle_of(vmm);

    owner.kill().unwrap();
    owner.wait().unwrap();

    wait_for_the_end_of(&handle);
    assert_eq!(processes_of(user), Vec::<u32>::new(), "a helper is left");
    let named = |table: &str| {
        let text = std::fs::read_to_string(table).unwrap();
        text.contains(directory.path().to_str().unwrap())
    };
    assert!(!named("/proc/net/unix"), "a socket is left");
    assert!(!named("/proc/self/mountinfo"), "a mount is left");
    std::fs::remove_dir_all(&slots).expect("the next start can sweep it");
}

/// Boots a guest and holds it until this process is killed.
fn own_a_guest(directory: &Path) -> ! {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let qemu = Qemu::new(QemuConfig::default()).unwrap();
        let slot = Slot::create(&directory.join("slots")).unwrap();
        let _vm = qemu.boot(boot_spec(directory), slot).await.unwrap();
        println!("{READY}");
        std::future::pending().await
    })
}

fn start_an_owner(directory: OsString) -> std::process::Child {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["a_vmm_and_all_it_has", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(owner.stdout.take().unwrap());
    let mut said = said.lines().map(Result::unwrap);
    // What runs the tests says something of its own on the same line.
    assert!(said.any(|line| line.ends_with(READY)), "it ended");
    owner
}

/// What stays that process, whatever becomes of its number.
pub(crate) fn handle_of(process: u32) -> OwnedFd {
    let id = Pid::from_raw(process.try_into().unwrap()).unwrap();
    pidfd_open(id, PidfdFlags::empty()).unwrap()
}

/// Blocks until it has ended.
pub(crate) fn wait_for_the_end_of(process: &OwnedFd) {
    let mut wanted = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    assert_eq!(
        poll(&mut wanted, PollTimeout::from(SOON_MS)).unwrap(),
        1,
        "it still runs"
    );
}

fn user_of(process: u32) -> u32 {
    std::fs::metadata(format!("/proc/{process}")).unwrap().uid()
}

/// All that runs as a user that is a VMM's own; where VMMs have none of their own, nobody can be told apart. What has ended and is not
/// reaped yet has no program any more.
fn processes_of(user: u32) -> Vec<u32> {
    if user < jail::FIRST_USER {
        return Vec::new();
    }
    let entries = std::fs::read_dir("/proc").unwrap();
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let runs = |id: &u32| std::fs::read_link(format!("/proc/{id}/exe")).is_ok();
    let is_the_users = |id: &u32| {
        std::fs::metadata(format!("/proc/{id}")).is_ok_and(|process| process.uid() == user)
    };
    ids.filter(is_the_users).filter(runs).collect()
}
