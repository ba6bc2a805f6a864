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

use crate::support::{ends_with, job, pool, settles};

/// The moments at which a worker is killed, in the order in which a job has them.
const STAGES: [EventKind; 7] = [
    EventKind::Claimed,
    EventKind::SourceReady,
    EventKind::Forked,
    EventKind::StepStarted,
    EventKind::StepFinished,
    EventKind::ArtifactUploaded,
    EventKind::Finished,
];

/// Leaves one artifact that is uploaded at once and one that takes longer.
const SCRIPT: &str = "sleep 0.3; echo a > a; head -c 48000000 /dev/urandom > b";

pub(crate) async fn a_worker_that_is_killed_at_any_stage_of_a_job_is_followed_by_one_that_finishes(
    fleet: &Fleet,
) -> Result<()> {
    let killed = STAGES.map(|stage| async move {
        let killed = killed_at(fleet, stage).await;
        killed.with_context(|| format!("a worker that was killed when it said {stage}"))
    });
    try_join_all(killed).await?;
    Ok(())
}

/// Kills the worker of a job when it says that it is at `stage`, starts it again and looks at what came of the job.
async fn killed_at(fleet: &Fleet, stage: EventKind) -> Result<()> {
    let pool = pool(&format!("killed-{stage}"));
    let queue = fleet.queue.in_pool(&pool);
    let service = fleet.worker(pool.as_str(), &pool, 1, |_| ())?;
    let victim = service.start(Lifetime::Owner).await?;
    let mut job = job(&queue, SCRIPT)?;
    job["artifacts"] = json!([{"name": "both", "paths": ["a", "b"]}]);
    let mut events = queue.events(&job).await?;
    queue.publish(job.to_string()).await?;
    events.next(stage).await?;
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
