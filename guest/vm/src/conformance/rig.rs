//! What the cases run on: a driver and one snapshot that it baked.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::guest::{Failure, Guest, MEMORY, SOURCE, file};
use crate::driver::{BootSpec, Driver};
use crate::identity::Identity;
use crate::slot::Slot;
use crate::snapshot::SnapshotFiles;

/// What every fork finds in its files `frozen` on disk and in memory.
pub(super) const FROZEN: &[u8] = b"written before the freeze\n";

/// SHA-256 of each file of a snapshot, by name.
pub(super) type Digests = BTreeMap<String, [u8; 32]>;

/// A driver under test and its snapshot.
pub struct Rig<'a> {
    /// The driver.
    pub driver: &'a dyn Driver,
    /// What the cases fork.
    pub snapshot: SnapshotFiles,
    /// Where slots are made.
    pub slots: PathBuf,
    digests: Digests,
}

/// Boots a guest, writes a file to its disk and one to its memory, and freezes it. Everything is made below `dir`.
pub async fn prepare<'a>(
    driver: &'a dyn Driver,
    boot: BootSpec,
    dir: &Path,
) -> Result<Rig<'a>, Failure> {
    let slots = dir.join("slots");
    let vm = driver.boot(boot, Slot::create(&slots)?).await?;
    let guest = Guest::new(vm);
    for root in [SOURCE, MEMORY] {
        guest.put(root, &[file("frozen", FROZEN)]).await?;
    }
    let into = dir.join("snapshot");
    std::fs::create_dir_all(&into)?;
    let snapshot = guest.vm.snapshot(&into).await?;
    let digests = digests(&snapshot).await?;
    Ok(Rig {
        driver,
        snapshot,
        slots,
        digests,
    })
}

impl Rig<'_> {
    /// A fresh fork.
    pub(super) async fn fork(&self) -> Result<Guest, Failure> {
        self.fork_of(&self.snapshot).await
    }

    /// A fresh fork of another snapshot.
    pub(super) async fn fork_of(&self, snapshot: &SnapshotFiles) -> Result<Guest, Failure> {
        let vm = self
            .driver
            .fork(snapshot, self.slot()?, &Identity::fresh(HOSTNAME))
            .await?;
        Ok(Guest::new(vm))
    }

    /// A fresh slot.
    pub(super) fn slot(&self) -> Result<Slot, Failure> {
        Ok(Slot::create(&self.slots)?)
    }

    /// Digests of the snapshot's files, taken before the first fork.
    pub(super) fn digests_before(&self) -> &Digests {
        &self.digests
    }
}

/// The hostname that forks get.
pub(super) const HOSTNAME: &str = "conformance";

/// The host's time since the Unix epoch.
pub(super) fn now() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("the host's clock is past 1970")
}

/// Hashes the files of a snapshot.
pub(super) async fn digests(snapshot: &SnapshotFiles) -> Result<Digests, Failure> {
    let dir = snapshot.dir().to_owned();
    let hashing = tokio::task::spawn_blocking(move || hash_files(&dir));
    Ok(hashing
        .await
        .expect("hashing reports errors and does not panic")?)
}

fn hash_files(dir: &Path) -> io::Result<Digests> {
    let mut digests = Digests::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let mut hasher = Sha256::new();
        io::copy(&mut std::fs::File::open(entry.path())?, &mut hasher)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        digests.insert(name, hasher.finalize().into());
    }
    Ok(digests)
}
