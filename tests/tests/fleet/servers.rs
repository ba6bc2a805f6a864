//! Servers that are killed while workers use them. Each case has servers of its own.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bus::lease::LOST_AFTER;
use e2e::fleet::{Fleet, Guests};
use e2e::launch::Lifetime;
use e2e::state::State;
use schemas::Reason;
use schemas::event::EventKind;

use crate::support::{ends_with, is_uploaded, job, jobs, pool, settles, uploading_job};

/// 30 s: longer than the retries of the S3 client, which are over within seconds.
const AWAY_FOR: Duration = Duration::from_secs(30);

pub(crate) async fn a_nats_server_that_is_killed_in_mid_job_and_comes_back_loses_nothing(
    _shared: &Fleet,
) -> Result<()> {
    let mut fleet = Box::pin(Fleet::start(
        &State::from_environment()?,
        "nats",
        Guests::Fake,
    ))
    .await?;
    let pool = pool("nats");
    let queue = fleet.queue.in_pool(&pool);
    let service = fleet.worker("nats-1", &pool, 2, |_| ())?;
    let worker = service.start(Lifetime::Owner).await?;
    let jobs = jobs(5, || job(&queue, "sleep 3"))?;
    let mut events = queue.events(&jobs[0]).await?;
    for job in &jobs {
        queue.publish(job.to_string()).await?;
    }
    events.next(EventKind::StepStarted).await?;
    // Two jobs run, three wait.
    let killed = Instant::now();
    fleet.restart_nats(async {}).await?;
    let away = killed.elapsed();
    for job in &jobs {
        let result = ends_with(&fleet, &queue, job, Reason::Completed).await?;
        // A machine that is so busy that the server was away for most of a lease may lose the two that ran.
        ensure!(
            result.attempt == 1 || away > LOST_AFTER / 2,
            "attempt {} though the server was away for {away:?} only",
            result.attempt
        );
    }
    settles(&fleet, &queue, vec![(&service, worker)]).await?;
    fleet.finish().await
}

pub(crate) async fn an_s3_server_that_is_away_for_half_a_minute_costs_no_attempt(
    _shared: &Fleet,
) -> Result<()> {
    let mut fleet = Box::pin(Fleet::start(
        &State::from_environment()?,
        "s3",
        Guests::Fake,
    ))
    .await?;
    let pool = pool("s3");
    let queue = fleet.queue.in_pool(&pool);
    let service = fleet.worker("s3-1", &pool, 2, |_| ())?;
    let worker = service.start(Lifetime::Owner).await?;
    let (uploading, first) = uploading_job(&queue)?;
    let mut fetching = job(&queue, "cat only.txt")?;
    fetching["source"] = queue.store_source(&[("only.txt", "its own\n")]).await?;
    queue.publish(uploading.to_string()).await?;
    is_uploaded(&queue, &first).await?;
    // The other comes when the server is gone.
    let away = fleet.restart_s3(tokio::time::sleep(AWAY_FOR));
    tokio::try_join!(biased; away, queue.publish(fetching.to_string()))?;
    let result = ends_with(&fleet, &queue, &uploading, Reason::Completed).await?;
    ensure!(result.artifacts.len() == 2, "{:?}", result.artifacts);
    ensure!(result.attempt == 1, "attempt {}", result.attempt);
    let result = ends_with(&fleet, &queue, &fetching, Reason::Completed).await?;
    ensure!(result.log.is_some() && result.attempt == 1, "{result:?}");
    settles(&fleet, &queue, vec![(&service, worker)]).await?;
    fleet.finish().await
}
