//! Bakeries that end without a word, at any moment: the next one finishes.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::launch::Lifetime;
use e2e::news::BakeNews;
use e2e::queue;
use e2e::wait;
use futures_util::future::try_join_all;
use schemas::Reason;
use schemas::bake::BakeEventKind;
use serde_json::Value;

use crate::keys::{inline, inline_on};
use crate::stack::{Cases, key_of};

/// A setup that is long enough to be killed in. It takes 5 s and nothing waits for it but the bake.
const LONG_SETUP: &str = "sleep 5; cp lock made";

/// The template of the environments below; small, since each of them is baked twice.
const TEMPLATE: &str = "killed";

/// A template that is baked twice itself.
const MADE_TWICE: &str = "killed-template";

/// A setup that leaves as much as takes seconds to be uploaded.
const LARGE_SETUP: &str = "head -c 64000000 /dev/urandom > large; cat lock > made";

/// When a bakery is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// An event of the bake has these words.
    Says(&'static str),
    /// The first chunk is there, and others are on their way.
    Uploads,
}

/// The moments in the order in which they come, each with the name of an environment.
const STAGES: [(&str, Moment); 8] = [
    ("killed-requested", Moment::Says("")),
    ("killed-started", Moment::Says("from template")),
    ("killed-fetched", Moment::Says("template fetched")),
    ("killed-running", Moment::Says("template started")),
    ("killed-frozen", Moment::Says("frozen")),
    ("killed-checked", Moment::Says("checked")),
    ("killed-uploading", Moment::Uploads),
    ("killed-stored", Moment::Says("stored")),
];

/// 5 min for a stage that no event tells of.
const STAGE_DEADLINE: Duration = Duration::from_mins(5);

pub(crate) async fn of_two_bakeries_one_is_killed_in_mid_bake_and_the_other_finishes(
    cases: &mut Cases,
) -> Result<()> {
    let directory = cases.directory.join("second");
    let service = cases.stack()?.services.bakery.clone();
    let service = service.sibling("second", &directory, |_| ())?;
    let second = service.start(Lifetime::Owner).await?;
    let environment = inline("two", LONG_SETUP);
    let (lock, job) = waiting_job(cases, environment).await?;
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
    let template = cases.tiny_template(TEMPLATE, "").await?;
    cases.define(&template).await?;
    let mut jobs = vec![killed_in_a_template(cases).await?];
    for (environment, moment) in STAGES {
        jobs.push(killed_at(cases, environment, moment).await?);
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

/// Kills the bakery at a moment of the bake that a job waits for, and starts it again. Gives the job and what it must show.
async fn killed_at(cases: &mut Cases, name: &str, moment: Moment) -> Result<(String, Value)> {
    let setup = match moment {
        Moment::Says(_) => "cat lock > made",
        Moment::Uploads => LARGE_SETUP,
    };
    let (lock, job) = waiting_job(cases, inline_on(TEMPLATE, name, setup)).await?;
    let mut news = BakeNews::of(&cases.queue, name).await?;
    cases.queue.publish(job.to_string()).await?;
    match moment {
        Moment::Says(words) => reaches(&mut news, words).await?,
        Moment::Uploads => uploads(cases, &mut news).await?,
    }
    cases.stack_mut()?.kill_bakery().await?;
    if let Moment::Uploads = moment {
        let said = news.so_far(&cases.queue).await?.iter();
        let mut said = said.filter_map(|event| event.message.as_deref());
        ensure!(
            !said.any(|said| said.contains("stored:")),
            "it was too late"
        );
    }
    cases.stack_mut()?.start_bakery().await?;
    Ok((lock, job))
}

/// Waits for the first chunk of a bake.
async fn uploads(cases: &Cases, news: &mut BakeNews) -> Result<()> {
    reaches(news, "frozen").await?;
    let before = cases.snapshots.all_chunks().await?;
    reaches(news, "checked").await?;
    wait::until("the first chunk", STAGE_DEADLINE, async || {
        let there = cases.snapshots.all_chunks().await?;
        Ok((there.len() > before.len()).then_some(()))
    })
    .await
}

/// Kills the bakery in the bake of a template, which nobody asked for, so that only its log tells of it.
async fn killed_in_a_template(cases: &mut Cases) -> Result<(String, Value)> {
    let environment = inline_on(MADE_TWICE, "on-killed-template", "cat lock > made");
    let (lock, job) = waiting_job(cases, environment).await?;
    let template = cases.tiny_template(MADE_TWICE, &lock).await?;
    cases.define(&template).await?;
    let (log, made) = (
        cases.directory.join("bakery.log"),
        format!("template {MADE_TWICE}, root made"),
    );
    wait::until(&made, STAGE_DEADLINE, async || {
        Ok(fs::read_to_string(&log)?.contains(&made).then_some(()))
    })
    .await?;
    cases.stack_mut()?.kill_bakery().await?;
    cases.stack_mut()?.start_bakery().await?;
    cases.queue.publish(job.to_string()).await?;
    Ok((lock, job))
}

/// A job that waits for the bake of an environment that nobody else has.
async fn waiting_job(cases: &Cases, environment: Value) -> Result<(String, Value)> {
    let (lock, source) = cases.locked_source(&[]).await?;
    let mut job = queue::job(&source, "inline", "cat made");
    job["environment"] = environment;
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
    match fs::read_dir(slots) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("list {}", slots.display())),
    }
}
