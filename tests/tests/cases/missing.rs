//! Jobs whose environment has no snapshot: they wait, run cold, or end, as they say; and a bake that fails ends all that wait for it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::news::BakeNews;
use e2e::queue;
use e2e::stack::CANARY;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use schemas::bake::BakeEventKind;
use schemas::result::Start;
use schemas::{JobResult, Reason};
use serde_json::json;

use crate::keys::inline;
use crate::stack::{Cases, LOCKED, key_of};

/// As many as wait for one bake.
const CROWD: usize = 8;

/// From the end of the bake to the start of a job that waited for it.
const STARTS_WITHIN: Duration = Duration::from_secs(1);

/// 3: one of them is not disturbed by whatever else the machine does.
const STARTS_TRIED: usize = 3;

pub(crate) async fn eight_jobs_that_miss_at_once_are_one_bake_and_eight_results(
    cases: &mut Cases,
) -> Result<()> {
    let mut news = BakeNews::of(&cases.queue, LOCKED).await?;
    let (lock, source) = cases.locked_source(&[]).await?;
    let jobs: Vec<_> = (0..CROWD)
        .map(|_| queue::job(&source, LOCKED, "cat made"))
        .collect();
    let results = try_join_all(jobs.iter().map(|job| cases.queue.run(job))).await?;
    for result in &results {
        ensure!(
            result.reason.known() == Some(&Reason::Completed),
            "{}: {}",
            result.reason,
            result.message
        );
        ensure!(result.attempt == 1, "waiting is no attempt");
        ensure!(cases.log(result).await? == lock);
    }
    cases.is_settled().await?;
    let bakes = news.count(&cases.queue, BakeEventKind::Started).await?;
    ensure!(bakes == 1, "{bakes} bakes for one key");
    Ok(())
}

pub(crate) async fn a_job_starts_within_a_second_of_the_bake_that_it_waits_for(
    cases: &mut Cases,
) -> Result<()> {
    let mut waits = Vec::new();
    for _ in 0..STARTS_TRIED {
        let wait = start_after_bake(cases).await?;
        if wait < STARTS_WITHIN {
            return Ok(());
        }
        waits.push(wait);
    }
    bail!("jobs started after {waits:?}")
}

/// How long after the end of its bake a job's VM was there.
async fn start_after_bake(cases: &Cases) -> Result<Duration> {
    let mut news = BakeNews::of(&cases.queue, LOCKED).await?;
    let (_lock, source) = cases.locked_source(&[]).await?;
    let job = queue::job(&source, LOCKED, "true");
    let (result, published) = tokio::try_join!(
        cases.ends_with(&job, Reason::Completed),
        news.until(BakeEventKind::Published)
    )?;
    since(published.time, ready(&result)?)
}

pub(crate) async fn a_job_that_runs_cold_is_set_up_by_itself_and_publishes_nothing(
    cases: &mut Cases,
) -> Result<()> {
    let mut news = BakeNews::of(&cases.queue, LOCKED).await?;
    let (lock, source) = cases.locked_source(&[]).await?;
    let mut job = queue::job(&source, LOCKED, "cat made");
    job["on_missing"] = json!("cold");
    let result = cases.ends_with(&job, Reason::Completed).await?;
    ensure!(cases.log(&result).await?.ends_with(&lock));
    let start = result.environment.as_ref().map(|used| used.start);
    ensure!(start == Some(Start::Cold), "{start:?}");
    let key = key_of(&result)?;
    ensure!(
        !cases.snapshots.keys().await?.contains(&key),
        "it was published"
    );
    let said = news.so_far(&cases.queue).await?;
    ensure!(said.is_empty(), "{said:?}");
    Ok(())
}

pub(crate) async fn a_job_that_would_rather_fail_than_wait_fails(cases: &mut Cases) -> Result<()> {
    let (_lock, source) = cases.locked_source(&[]).await?;
    let mut job = queue::job(&source, LOCKED, "true");
    job["on_missing"] = json!("fail");
    let result = cases.ends_with(&job, Reason::SnapshotUnavailable).await?;
    ensure!(result.timing.vm_ready_at.is_none(), "a VM was forked");
    Ok(())
}

pub(crate) async fn a_bake_that_fails_ends_the_job_that_waits_and_answers_the_next_at_once(
    cases: &mut Cases,
) -> Result<()> {
    let (_lock, source) = cases.locked_source(&[]).await?;
    let job = || queue::job(&source, "broken", "true");
    let first = cases.ends_with(&job(), Reason::BakeFailed).await?;
    names_its_log(cases, &first).await?;
    let mut news = BakeNews::of(&cases.queue, "broken").await?;
    let second = cases.ends_with(&job(), Reason::BakeFailed).await?;
    names_its_log(cases, &second).await?;
    let bakes = news.count(&cases.queue, BakeEventKind::Started).await?;
    ensure!(bakes == 0, "it was baked again");
    Ok(())
}

pub(crate) async fn a_snapshot_that_would_hold_a_canary_is_not_published(
    cases: &mut Cases,
) -> Result<()> {
    let (_lock, source) = cases.locked_source(&[]).await?;
    // In two parts, so that the definition itself does not hold it.
    let (first, rest) = CANARY.split_at(8);
    let mut job = queue::job(&source, "leaky", "true");
    job["environment"] = inline("leaky", &format!("printf %s%s {first} {rest} > leaked"));
    let result = cases.ends_with(&job, Reason::BakeFailed).await?;
    ensure!(result.message.contains("canar"), "{}", result.message);
    ensure!(!result.message.contains(CANARY), "the value is told");
    ensure!(
        !cases.is_published("leaked").await?,
        "something was published"
    );
    Ok(())
}

async fn names_its_log(cases: &Cases, result: &JobResult) -> Result<()> {
    ensure!(result.timing.vm_ready_at.is_none(), "a VM was forked");
    ensure!(result.message.contains("deps"), "{}", result.message);
    let log = cases.log(result).await?;
    ensure!(log.contains("about to fail"), "{log}");
    Ok(())
}

fn ready(result: &JobResult) -> Result<Timestamp> {
    let ready = result.timing.vm_ready_at;
    ready.context("a result says when its VM was ready")
}

fn since(from: Timestamp, to: Timestamp) -> Result<Duration> {
    Duration::try_from(to.duration_since(from)).context("it started before the bake ended")
}
