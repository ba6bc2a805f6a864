//! Workers that end without a word, at any moment of a job's life.

use anyhow::{Context as _, Result, ensure};
use e2e::fleet::Fleet;
use e2e::launch::Lifetime;
use e2e::queue;
use futures_util::future::try_join_all;
use schemas::dead::DeadLetter;
use schemas::event::EventKind;
use schemas::names::{dead_subject, stream};
use schemas::{Reason, Token};
use serde_json::json;

use crate::support::{ends_with, is_uploaded, job, pool, settles, uploading_job};

/// A moment of a job's life.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// The worker says that it is there.
    Says(EventKind),
    /// One artifact is stored, and the next is on its way.
    Uploads,
}

/// The moments at which a worker is killed, in the order in which a job has them, and the pools in which that is done.
const MOMENTS: [(&str, Moment); 7] = [
    ("killed-claimed", Moment::Says(EventKind::Claimed)),
    ("killed-ready", Moment::Says(EventKind::SourceReady)),
    ("killed-forked", Moment::Says(EventKind::Forked)),
    ("killed-started", Moment::Says(EventKind::StepStarted)),
    ("killed-stepped", Moment::Says(EventKind::StepFinished)),
    ("killed-uploading", Moment::Uploads),
    ("killed-finished", Moment::Says(EventKind::Finished)),
];

pub(crate) async fn a_worker_that_is_killed_at_any_stage_of_a_job_is_followed_by_one_that_finishes(
    fleet: &Fleet,
) -> Result<()> {
    let killed = MOMENTS.map(|(name, moment)| async move {
        let killed = killed_at(fleet, name, moment).await;
        killed.context(name)
    });
    try_join_all(killed).await?;
    Ok(())
}

/// Kills the worker of a job at a moment, starts it again and looks at what came of the job.
async fn killed_at(fleet: &Fleet, name: &str, moment: Moment) -> Result<()> {
    let pool = pool(name);
    let queue = fleet.queue.in_pool(&pool);
    let service = fleet.worker(name, &pool, 1, |_| ())?;
    let victim = service.start(Lifetime::Owner).await?;
    let (job, first) = uploading_job(&queue)?;
    let mut events = queue.events(&job).await?;
    queue.publish(job.to_string()).await?;
    match moment {
        Moment::Says(kind) => drop(events.next(kind).await?),
        Moment::Uploads => is_uploaded(&queue, &first).await?,
    }
    victim.kill()?;
    let worker = service.start(Lifetime::Owner).await?;
    let result = ends_with(fleet, &queue, &job, Reason::Completed).await?;
    ensure!(result.artifacts.len() == 2, "{:?}", result.artifacts);
    ensure!(result.attempt <= 2, "attempt {}", result.attempt);
    settles(fleet, &queue, vec![(&service, worker)]).await
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
