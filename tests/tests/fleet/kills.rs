//! Workers that end without a word, at any moment of a job's life.

use anyhow::{Context as _, Result, ensure};
use e2e::fleet::Fleet;
use e2e::launch::Lifetime;
use e2e::queue;
use futures_util::future::try_join_all;
use schemas::dead::DeadLetter;
use schemas::event::EventKind;
use schemas::names::{dead_subject, stream};
use schemas::record::AttemptEndKind;
use schemas::{Reason, Token};
use serde_json::json;

use crate::support::{
    ends_with, is_reported_once, is_uploaded, job, past, pool, settles, uploading_job,
};

/// A moment of a job's life.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// The worker says that it is there.
    Says(EventKind),
    /// One artifact is stored, and the next is on its way.
    Uploads,
    /// The log is marked as whole, and on its way.
    EndsLog,
    /// The result is on its way.
    Reports,
}

/// The moments at which a worker is killed, in the order in which a job has them; the pools in which that is done; and the attempts of which
/// one then finishes the job. An attempt is recorded after `source_ready` and before `forked`.
const MOMENTS: [(&str, Moment, &[u32]); 9] = [
    ("killed-claimed", Moment::Says(EventKind::Claimed), &[1, 2]),
    (
        "killed-ready",
        Moment::Says(EventKind::SourceReady),
        &[1, 2],
    ),
    ("killed-forked", Moment::Says(EventKind::Forked), &[2]),
    ("killed-started", Moment::Says(EventKind::StepStarted), &[2]),
    (
        "killed-stepped",
        Moment::Says(EventKind::StepFinished),
        &[2],
    ),
    ("killed-uploading", Moment::Uploads, &[2]),
    // What follows takes a moment only: the first may be over before the kill.
    ("killed-logging", Moment::EndsLog, &[1, 2]),
    ("killed-reporting", Moment::Reports, &[1]),
    ("killed-finished", Moment::Says(EventKind::Finished), &[1]),
];

pub(crate) async fn a_worker_that_is_killed_at_any_stage_of_a_job_is_followed_by_one_that_finishes(
    fleet: &Fleet,
) -> Result<()> {
    let killed = MOMENTS.map(|(name, moment, attempts)| async move {
        let killed = killed_at(fleet, name, moment, attempts).await;
        killed.context(name)
    });
    try_join_all(killed).await?;
    Ok(())
}

/// Kills the worker of a job at a moment, starts it again and looks at what came of the job.
async fn killed_at(fleet: &Fleet, name: &str, moment: Moment, attempts: &[u32]) -> Result<()> {
    let pool = pool(name);
    let queue = fleet.queue.in_pool(&pool);
    let service = fleet.worker(name, &pool, 1, |_| ())?;
    let victim = service.start(Lifetime::Owner).await?;
    let (job, first) = uploading_job(&queue)?;
    let job_id = queue::job_id(&job)?;
    let mut events = queue.events(&job).await?;
    let mut log = queue.follow(job_id).await?;
    let mut reports = queue.hear_reports(job_id).await?;
    queue.publish(job.to_string()).await?;
    match moment {
        Moment::Says(kind) => drop(events.next(kind).await?),
        Moment::Uploads => is_uploaded(&queue, &first).await?,
        Moment::EndsLog => while !log.next().await?.header.eof {},
        // That is the first; another would be one too many.
        Moment::Reports => reports.next().await?,
    }
    victim.kill()?;
    let worker = service.start(Lifetime::Owner).await?;
    let result = ends_with(fleet, &queue, &job, Reason::Completed).await?;
    ensure!(result.artifacts.len() == 2, "{:?}", result.artifacts);
    ensure!(attempts.contains(&result.attempt), "{result:?}");
    let lost = vec![Some(AttemptEndKind::Lost); result.attempt as usize - 1];
    ensure!(past(&result) == lost, "{result:?}");
    settles(fleet, &queue, vec![(&service, worker)]).await?;
    let expected = match moment {
        Moment::Reports => 0,
        Moment::Says(_) | Moment::Uploads | Moment::EndsLog => 1,
    };
    let count = reports.count().await?;
    ensure!(count == expected, "{count} results were reported");
    Ok(())
}

pub(crate) async fn a_worker_that_is_killed_with_a_parked_job_costs_it_no_attempt(
    fleet: &Fleet,
) -> Result<()> {
    let pool = pool("parked");
    let queue = fleet.tenant_to_be("parked").await?.in_pool(&pool);
    let service = fleet.worker(pool.as_str(), &pool, 1, |_| ())?;
    let victim = service.start(Lifetime::Owner).await?;
    let job = job(&queue, "true")?;
    let mut reports = queue.hear_reports(queue::job_id(&job)?).await?;
    let mut events = queue.events(&job).await?;
    queue.publish(job.to_string()).await?;
    events.next(EventKind::Parked).await?;
    victim.kill()?;
    let worker = service.start(Lifetime::Owner).await?;
    // It is parked once more, when its lease is over.
    events.next(EventKind::Parked).await?;
    fleet.bake(&queue.tenant).await?;
    let result = ends_with(fleet, &queue, &job, Reason::Completed).await?;
    ensure!(
        result.attempt == 1 && result.past_attempts.is_empty(),
        "{result:?}"
    );
    settles(fleet, &queue, vec![(&service, worker)]).await?;
    is_reported_once(&mut reports).await
}

pub(crate) async fn a_job_that_kills_its_workers_runs_out_of_attempts_and_is_a_dead_letter(
    fleet: &Fleet,
) -> Result<()> {
    let pool = pool("murder");
    let queue = fleet.queue.in_pool(&pool);
    let service = fleet.worker(pool.as_str(), &pool, 1, |_| ())?;
    let mut worker = service.start(Lifetime::Owner).await?;
    // A command of a fake guest is a child of the worker.
    let mut job = job(&queue, "echo farewell; sleep 0.2; kill -9 $PPID")?;
    job["retry"] = json!({"max_attempts": 2});
    queue.publish(job.to_string()).await?;
    let mut ending = Box::pin(ends_with(fleet, &queue, &job, Reason::MaxAttempts));
    let result = loop {
        tokio::select! {
            result = &mut ending => break result?,
            ended = worker.has_ended() => {
                ended?;
                worker = service.start(Lifetime::Owner).await?;
            }
        }
    };
    ensure!(
        result.past_attempts.len() == 2,
        "{:?}",
        result.past_attempts
    );
    let letter = dead_letter(&queue, queue::job_id(&job)?).await?;
    ensure!(letter.body == job.to_string());
    ensure!(letter.attempts.len() == 2, "{:?}", letter.attempts);
    settles(fleet, &queue, vec![(&service, worker)]).await
}

async fn dead_letter(queue: &queue::Queue, job_id: &str) -> Result<DeadLetter> {
    let subject = dead_subject(&queue.tenant, &Token::parse(job_id)?);
    let dead = queue.jetstream().get_stream(stream::DEAD).await?;
    let letter = dead.get_last_raw_message_by_subject(&subject).await;
    let letter = letter.context("find a dead letter")?;
    DeadLetter::parse(&letter.payload).context("read a dead letter")
}
