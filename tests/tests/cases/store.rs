//! Snapshots in the object store: a damaged one is never forked.

use anyhow::{Context as _, Result, ensure};
use e2e::queue;
use schemas::Reason;
use schemas::event::EventKind;

use crate::guests::empty;
use crate::stack::{Cases, LOCKED, key_of};

pub(crate) async fn a_chunk_with_one_flipped_bit_is_refused_and_fetched_again(
    cases: &mut Cases,
) -> Result<()> {
    let (lock, source) = cases.locked_source(&[]).await?;
    let job = || queue::job(&source, LOCKED, "cat made");
    let result = cases.ends_with(&job(), Reason::Completed).await?;
    let key = key_of(&result)?;
    let chunks = cases.snapshots.chunks(&key).await?;
    let name = chunks.last().context("a snapshot has chunks")?;
    let whole = cases.snapshots.object(name).await?;
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    cases.snapshots.put(name, flipped).await?;
    empty(&cases.directory.join("worker"))?;
    let damaged = job();
    let (mended, refused) =
        tokio::try_join!(cases.ends_with(&damaged, Reason::Completed), async {
            let refused = cases.queue.event(&damaged, EventKind::Retrying).await?;
            cases.snapshots.put(name, whole).await?;
            Ok(refused.message.unwrap_or_default())
        })?;
    ensure!(refused.contains(&key), "{refused}");
    ensure!(mended.attempt == 2, "attempt {}", mended.attempt);
    ensure!(cases.log(&mended).await? == lock);
    Ok(())
}

pub(crate) async fn whatever_was_published_was_whole_at_that_moment(
    cases: &mut Cases,
) -> Result<()> {
    let problems = cases.inspection.problems();
    ensure!(problems.is_empty(), "{problems:#?}");
    Ok(())
}
