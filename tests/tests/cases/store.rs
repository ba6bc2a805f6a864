//! Snapshots in the object store: a damaged one is never forked.

use anyhow::{Context as _, Result, ensure};
use e2e::news::BakeNews;
use e2e::project::Project;
use e2e::queue;
use schemas::Reason;
use schemas::bake::BakeEventKind;
use schemas::event::EventKind;

use crate::guests::empty;
use crate::stack::{Cases, LOCKED, key_of};

pub(crate) async fn a_chunk_with_one_flipped_bit_is_refused_and_the_snapshot_baked_again(
    cases: &mut Cases,
) -> Result<()> {
    let (lock, source) = cases.locked_source(&[]).await?;
    let job = || queue::job(&source, LOCKED, "cat made");
    let there = cases.snapshots.all_chunks().await?;
    // Not for a job: the stream takes two requests of jobs for one key within its duplicate window for one.
    let project = Project::of_file("lock", &lock)?;
    cases.stack()?.services.bake(LOCKED, &project).await?;
    let result = cases.ends_with(&job(), Reason::Completed).await?;
    let key = key_of(&result)?;
    // One that no other snapshot has: the template stays whole.
    let chunks = cases.snapshots.chunks(&key).await?;
    let name = chunks.difference(&there).next();
    let name = name.context("a snapshot has chunks of its own")?;
    let mut flipped = cases.snapshots.object(name).await?;
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    cases.snapshots.put(name, flipped.clone()).await?;
    empty(&cases.directory.join("worker"))?;
    let mut news = BakeNews::of(&cases.queue, LOCKED).await?;
    let damaged = job();
    let (mended, refused) = tokio::try_join!(
        cases.ends_with(&damaged, Reason::Completed),
        cases.queue.event(&damaged, EventKind::Retrying)
    )?;
    let refused = refused.message.unwrap_or_default();
    ensure!(refused.contains(&key), "{refused}");
    ensure!(mended.attempt == 2, "attempt {}", mended.attempt);
    ensure!(key_of(&mended)? == key, "another key");
    ensure!(cases.log(&mended).await? == lock);
    let bakes = news.count(&cases.queue, BakeEventKind::Started).await?;
    ensure!(bakes == 1, "{bakes} bakes of what was damaged");
    let missing = cases.snapshots.missing(&key).await?;
    ensure!(missing.is_empty(), "{missing:?}");
    // A bake that draws the same bytes again stores them under the same name.
    if cases.snapshots.all_chunks().await?.contains(name) {
        let stored = cases.snapshots.object(name).await?;
        ensure!(stored != flipped, "{name} is still damaged");
    }
    Ok(())
}

pub(crate) async fn whatever_was_published_was_whole_at_that_moment(
    cases: &mut Cases,
) -> Result<()> {
    let mut findings = cases.inspection.findings().await?;
    if findings.looked_at.is_empty() {
        // No case before this one baked anything.
        cases.fresh_key().await?;
        findings = cases.inspection.findings().await?;
    }
    let (problems, looked_at) = (&findings.problems, findings.looked_at.len());
    ensure!(problems.is_empty(), "{problems:#?}");
    ensure!(looked_at > 0, "no snapshot was looked at");
    Ok(())
}
