//! Guests and VMMs that end by themselves: the one is the job's doing, the other the host's.

use anyhow::{Result, ensure};
use e2e::fake::Fate;
use e2e::fleet::Fleet;
use e2e::launch::Lifetime;
use schemas::Reason;
use schemas::record::AttemptEndKind;
use schemas::worker::WorkerCondition;

use crate::support::{ends_with, job, jobs, past, pool, settles};

/// More than any number of errors in a row after which a worker would stop.
const GUESTS: usize = 50;

pub(crate) async fn fifty_guests_that_die_at_once_are_fifty_failures_and_the_fleet_goes_on(
    fleet: &Fleet,
) -> Result<()> {
    let pool = pool("dying");
    let queue = fleet.queue.in_pool(&pool);
    let service = fleet.worker("dying-1", &pool, 4, |_| ())?;
    let worker = service.start(Lifetime::Owner).await?;
    let jobs = jobs(GUESTS, || {
        Fleet::job(&queue, Fate::GuestDies, "echo farewell; sleep 5")
    })?;
    for job in &jobs {
        queue.publish(job.to_string()).await?;
    }
    for job in &jobs {
        let result = ends_with(fleet, &queue, job, Reason::GuestDied).await?;
        ensure!(result.attempt == 1, "attempt {}", result.attempt);
    }
    let said = fleet.said_by("dying-1").await?;
    let said = said.map(|said| (said.state.known().copied(), said.reason));
    ensure!(
        matches!(said, Some((Some(WorkerCondition::Ready), _))),
        "it was the jobs' doing: {said:?}"
    );
    let job = job(&queue, "true")?;
    queue.publish(job.to_string()).await?;
    ends_with(fleet, &queue, &job, Reason::Completed).await?;
    settles(fleet, &queue, vec![(&service, worker)]).await
}

pub(crate) async fn a_vmm_that_fails_is_tried_again_until_the_attempts_are_spent(
    fleet: &Fleet,
) -> Result<()> {
    let pool = pool("failing");
    let queue = fleet.queue.in_pool(&pool);
    let service = fleet.worker("failing-1", &pool, 1, |_| ())?;
    let worker = service.start(Lifetime::Owner).await?;
    let job = Fleet::job(&queue, Fate::VmmFails, "echo on my way; sleep 5")?;
    queue.publish(job.to_string()).await?;
    let result = ends_with(fleet, &queue, &job, Reason::VmmDied).await?;
    ensure!(result.attempt == 3, "attempt {}", result.attempt);
    let failed = Some(AttemptEndKind::Failed);
    ensure!(past(&result) == [failed, failed], "{result:?}");
    settles(fleet, &queue, vec![(&service, worker)]).await
}
