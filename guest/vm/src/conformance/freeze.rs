//! What happens right before a freeze, and what a bake is checked by afterwards.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use memchr::memmem::Finder;
use wire::{SurveySpec, Surveyed};

use super::Outcome::{self, Passed};
use super::guest::{Failure, Guest, SOURCE, check, equal};
use super::rig::{HOSTNAME, Rig, now};
use crate::identity::Identity;

/// Writes 64 MiB of the words `left` and `over`, joined, to memory and frees it; the joined word stands nowhere but there.
const LEAVE: &str = "one=left; other=over
    yes $one$other | head -c 67108864 >/dev/shm/file
    stat -c %s /dev/shm/file; rm /dev/shm/file";

/// What [`LEAVE`] left.
const LEFT: &[u8] = b"leftover\nleftover\n";

/// The size of a page.
const PAGE: usize = 4096;

/// 256 KiB of the 64 MiB, a 256th. Measured: 12 to 14 pages, in pieces that a kernel keeps for its own use and has no use for just
/// then.
const MOST_PAGES: usize = 64;

pub(super) async fn probed(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let (one, other) = (rig.fork().await?, rig.fork().await?);
    let (first, second) = (one.agent().probe().await?, other.agent().probe().await?);
    check(first.random != second.random, "the random bytes repeat")?;
    check(first.uuid != second.uuid, "the UUIDs repeat")?;
    equal("the length of a UUID", first.uuid.len(), 36)?;
    equal("the hostname", first.hostname, HOSTNAME)?;
    check(
        now().abs_diff(second.realtime).as_secs() < 2,
        "it tells another time",
    )?;
    Ok(Passed)
}

pub(super) async fn surveyed(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let (one, other) = (rig.fork().await?, rig.fork().await?);
    let (first, second) = (survey(&one).await?, survey(&other).await?);
    equal("the other's disk", second, first)?;
    check(first.entries > 0, "the disk is empty")?;
    other.sh("echo changed >frozen").await?;
    check(survey(&other).await? != first, "a change is not seen")?;
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
    let pages = pages_with(LEFT, snapshot.memory()).await?;
    let what = format!("{pages} pages of what was freed are in the memory");
    check(pages <= MOST_PAGES, &what)?;
    rig.fork_of(&snapshot).await?.sh("true").await?;
    Ok(Passed)
}

async fn survey(guest: &Guest) -> Result<Surveyed, Failure> {
    let spec = SurveySpec {
        tree: "/".into(),
        contents: SOURCE.into(),
        max_bytes: 1 << 20,
    };
    Ok(guest.agent().survey(&spec).await?)
}

/// How many pages of a file hold `needle`.
async fn pages_with(needle: &'static [u8], path: PathBuf) -> Result<usize, Failure> {
    let counting = tokio::task::spawn_blocking(move || count_pages(needle, File::open(path)?));
    let counted = counting.await;
    Ok(counted.expect("counting reports errors and does not panic")?)
}

fn count_pages(needle: &[u8], mut file: File) -> io::Result<usize> {
    let (finder, mut buffer) = (Finder::new(needle), vec![0; 256 * PAGE]);
    let mut pages = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(pages);
        }
        let chunks = buffer[..count].chunks(PAGE);
        pages += chunks.filter(|page| finder.find(page).is_some()).count();
    }
}
