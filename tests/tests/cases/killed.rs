//! Bakeries that end without a word, at any moment: the next one finishes.

use anyhow::{Context as _, Result, bail, ensure};
use e2e::launch::Lifetime;
use e2e::news::BakeNews;
use e2e::queue;
use futures_util::future::try_join_all;
use schemas::Reason;
use schemas::bake::BakeEventKind;
use serde_json::Value;

use crate::keys::inline;
use crate::stack::{Cases, key_of};

/// A setup that is long enough to be killed in. It takes 5 s and nothing waits for it but the bake.
const LONG_SETUP: &str = "sleep 5; cp lock made";

/// The words of a bake's events in the order in which they come, each with the name of an environment.
const STAGES: [(&str, &str); 6] = [
    ("killed-requested", ""),
    ("killed-started", "from template"),
    ("killed-fetched", "template fetched"),
    ("killed-running", "template started"),
    ("killed-frozen", "frozen"),
    ("killed-stored", "stored"),
];

pub(crate) async fn of_two_bakeries_one_is_killed_in_mid_bake_and_the_other_finishes(
    cases: &mut Cases,
) -> Result<()> {
    let directory = cases.directory.join("second");
    let service = cases.stack()?.services.bakery.clone();
    let service = service.sibling("second", &directory, |_| ())?;
    let second = service.start(Lifetime::Owner).await?;
    let (lock, job) = waiting_job(cases, "two", LONG_SETUP).await?;
    let mut news = BakeNews::of(&cases.queue, "two").await?;
    cases.queue.publish(job.to_string()).await?;
    reaches(&mut news, "template started").await?;
    let (victims, other) = (
        directory.join("second/slots"),
        cases.directory.join("bakery/slots"),
    );
    match (has_guest(&victims)?, has_guest(&other)?) {
        (true, false) => drop(second.kill()?),
        (false, true) => cases.stack_mut()?.kill_bakery().await?,
        both => bail!("one of two bakeries bakes, not {both:?}"),
    }
    let result = cases.queue.result(queue::job_id(&job)?).await?;
    ensure!(
        result.reason.known() == Some(&Reason::Completed),
        "{}: {}",
        result.reason,
        result.message
    );
    ensure!(cases.log(&result).await? == lock);
    let published = news.count(&cases.queue, BakeEventKind::Published).await?;
    ensure!(published >= 1);
    if cases.stack_mut()?.bakery.ended()?.is_some() {
        cases.stack_mut()?.start_bakery().await?;
    }
    cases.is_settled().await
}

pub(crate) async fn a_bakery_that_is_killed_at_any_stage_of_a_bake_is_followed_by_one_that_finishes(
    cases: &mut Cases,
) -> Result<()> {
    let mut jobs = Vec::new();
    for (environment, stage) in STAGES {
        let (lock, job) = waiting_job(cases, environment, "cp lock made").await?;
        let mut news = BakeNews::of(&cases.queue, environment).await?;
        cases.queue.publish(job.to_string()).await?;
        reaches(&mut news, stage).await?;
        cases.stack_mut()?.kill_bakery().await?;
        cases.stack_mut()?.start_bakery().await?;
        jobs.push((lock, job));
    }
    let results = jobs.iter().map(|(_, job)| queue::job_id(job));
    let ids = results.collect::<Result<Vec<_>>>()?;
    let results = try_join_all(ids.iter().map(|id| cases.queue.result(id))).await?;
    for ((lock, _), result) in jobs.iter().zip(&results) {
        ensure!(
            result.reason.known() == Some(&Reason::Completed),
            "{:?}: {}: {}",
            result.environment,
            result.reason,
            result.message
        );
        ensure!(cases.log(result).await? == *lock);
        let missing = cases.snapshots.missing(&key_of(result)?).await?;
        ensure!(missing.is_empty(), "{missing:?}");
    }
    cases.is_settled().await
}

/// A job that waits for the bake of an environment that nobody else has.
async fn waiting_job(cases: &Cases, environment: &str, setup: &str) -> Result<(String, Value)> {
    let (lock, source) = cases.locked_source(&[]).await?;
    let mut job = queue::job(&source, environment, "cat made");
    job["environment"] = inline(environment, setup);
    Ok((lock, job))
}

/// Waits until an event of the bake speaks of `stage`.
async fn reaches(news: &mut BakeNews, stage: &str) -> Result<()> {
    news.next_that(|event| {
        let message = event.message.as_deref().unwrap_or_default();
        message.contains(stage)
    })
    .await
    .map(drop)
    .with_context(|| format!("no bake says {stage:?}"))
}

/// Whether a bakery has a guest now.
fn has_guest(slots: &std::path::Path) -> Result<bool> {
    match std::fs::read_dir(slots) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("list {}", slots.display())),
    }
}
