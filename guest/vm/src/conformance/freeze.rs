//! What happens right before a freeze, and what a bake is checked by afterwards.

use std::path::Path;

use wire::{ProbeSpec, Probed};

use super::Outcome::{self, Passed};
use super::guest::{Failure, Guest, SOURCE, check, equal};
use super::rig::{HOSTNAME, Rig, now};
use crate::identity::Identity;
use crate::search;

/// Writes 64 MiB of the words `left` and `over`, joined, to memory and frees it; the joined word stands nowhere but there.
const LEAVE: &str = "one=left; other=over
    yes $one$other | head -c 67108864 >/dev/shm/file
    stat -c %s /dev/shm/file; rm /dev/shm/file";

/// What [`LEAVE`] left.
const LEFT: &[u8] = b"leftover\nleftover\n";

pub(super) async fn probed(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let (one, other) = (rig.fork().await?, rig.fork().await?);
    let (first, second) = (probe(&one).await?, probe(&other).await?);
    check(first.random != second.random, "the random bytes repeat")?;
    check(first.uuid != second.uuid, "the UUIDs repeat")?;
    equal("the length of a UUID", first.uuid.len(), 36)?;
    equal("the hostname", first.hostname, HOSTNAME)?;
    equal("the other's disk", second.disk, first.disk)?;
    check(first.entries > 0, "the disk is empty")?;
    check(now().abs_diff(second.realtime).as_secs() < 2, "the clock")?;
    other.sh("echo changed >frozen").await?;
    let changed = probe(&other).await?;
    check(changed.disk != first.disk, "a change is not seen")?;
    Ok(Passed)
}

pub(super) async fn settled(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    for _ in 0..2 {
        let settled = guest.agent().settle().await?;
        equal("what could not be done", settled.problem, None)?;
        equal("a command's output", guest.sh("echo on").await?, "on")?;
    }
    Ok(Passed)
}

pub(super) async fn forgotten(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let identity = Identity::fresh(HOSTNAME);
    let derived = rig.driver.derive(&rig.snapshot, rig.slot()?, &identity);
    let guest = Guest::new(derived.await?);
    equal("the file's size", guest.sh(LEAVE).await?, "67108864")?;
    let into = tempfile::tempdir_in(&rig.slots)?;
    let snapshot = guest.vm.snapshot(into.path()).await?;
    let found = search_for(&snapshot.memory(), LEFT).await?;
    check(!found, "what was freed is in the memory")?;
    rig.fork_of(&snapshot).await?.sh("true").await?;
    Ok(Passed)
}

async fn probe(guest: &Guest) -> Result<Probed, Failure> {
    let spec = ProbeSpec {
        tree: "/".into(),
        contents: SOURCE.into(),
        max_bytes: 1 << 20,
    };
    Ok(guest.agent().probe(&spec).await?)
}

async fn search_for(path: &Path, needle: &'static [u8]) -> Result<bool, Failure> {
    let path = path.to_owned();
    let searching = tokio::task::spawn_blocking(move || search::first_found(&path, &[needle]));
    let found = searching
        .await
        .expect("searching reports errors and does not panic")?;
    Ok(found.is_some())
}
