//! Whose turn it is: tenants of one priority, and priorities.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::fleet::Fleet;
use e2e::launch::Lifetime;
use e2e::queue::{self, Queue};
use futures_util::future::try_join_all;
use jiff::Timestamp;
use schemas::{JobResult, Priority, Reason};
use serde_json::Value;

use crate::support::{ends_with, job, jobs, pool, settles};

/// Jobs that a tenant floods the queue with.
const FLOOD: usize = 500;

/// Jobs at a time.
const SLOTS: u32 = 8;

/// Jobs of a high priority.
const HIGH: usize = 200;

pub(crate) async fn a_flood_of_one_tenant_does_not_delay_the_single_job_of_another(
    fleet: &Fleet,
) -> Result<()> {
    let pool = pool("flood");
    let flooding = fleet.tenant("flooding").await?.in_pool(&pool);
    let single = fleet.tenant("single").await?.in_pool(&pool);
    let service = fleet.worker("flood-1", &pool, SLOTS, |_| ())?;
    let worker = service.start(Lifetime::Owner).await?;
    let flood = publish(&flooding, FLOOD, "sleep 0.3").await?;
    let (first, second) = (job(&single, "sleep 0.3")?, job(&single, "sleep 0.3")?);
    single.publish(first.to_string()).await?;
    let first = ends_with(fleet, &single, &first, Reason::Completed).await?;
    single.publish(second.to_string()).await?;
    let second = ends_with(fleet, &single, &second, Reason::Completed).await?;
    ensure!(fleet.waiting(&flooding).await? > 0, "the flood was over");
    let flood = results(&flooding, &flood).await?;
    // Its consumer was made meanwhile, which takes a second or so.
    let before = taken_while_waiting(&first, &flood)?;
    ensure!(before < FLOOD / 2, "{before} were taken before the first");
    let delay = waited(&first)?;
    let before = taken_while_waiting(&second, &flood)?;
    eprintln!(
        "          first job of a new tenant after {delay:?}; {before} of {FLOOD} before its second"
    );
    // One running job's time per slot: as many may end, and be followed by one of the flood, as there are slots.
    ensure!(
        before <= SLOTS as usize,
        "{before} were taken before the second"
    );
    settles(fleet, &flooding, vec![(&service, worker)]).await
}

pub(crate) async fn a_low_priority_is_served_while_a_high_one_is_flooded(
    fleet: &Fleet,
) -> Result<()> {
    let pool = pool("priorities");
    let high = fleet.queue.in_pool(&pool).at_priority(Priority::new(0)?);
    let low = fleet.queue.in_pool(&pool).at_priority(Priority::new(9)?);
    let service = fleet.worker("priorities-1", &pool, SLOTS, |_| ())?;
    let flood = publish(&high, HIGH, "sleep 0.05").await?;
    let low_jobs = publish(&low, 5, "sleep 0.05").await?;
    let worker = service.start(Lifetime::Owner).await?;
    let low_results = results(&low, &low_jobs).await?;
    let flood = results(&high, &flood).await?;
    // The weights are 10 to 1, so the fifth of the low ones is about the 55th of all.
    for result in &low_results {
        let claimed = claimed_at(result)?;
        let before = flood.iter().map(claimed_at).collect::<Result<Vec<_>>>()?;
        let before = before.iter().filter(|at| **at < claimed).count();
        ensure!(
            before < HIGH / 2,
            "{before} of priority 0 were taken before one of priority 9"
        );
    }
    settles(fleet, &high, vec![(&service, worker)]).await
}

async fn publish(queue: &Queue, count: usize, script: &str) -> Result<Vec<Value>> {
    let jobs = jobs(count, || job(queue, script))?;
    try_join_all(jobs.iter().map(|job| queue.publish(job.to_string()))).await?;
    Ok(jobs)
}

/// Waits for the results, which all must be good.
async fn results(queue: &Queue, jobs: &[Value]) -> Result<Vec<JobResult>> {
    let mut results = Vec::new();
    for job in jobs {
        let result = queue.result(queue::job_id(job)?).await?;
        ensure!(
            result.reason.known() == Some(&Reason::Completed),
            "{}: {}",
            result.reason,
            result.message
        );
        results.push(result);
    }
    Ok(results)
}

/// How many others were taken between the publish of a job and its claim.
fn taken_while_waiting(result: &JobResult, others: &[JobResult]) -> Result<usize> {
    let waiting = queued_at(result)?..claimed_at(result)?;
    let taken = others.iter().map(claimed_at).collect::<Result<Vec<_>>>()?;
    Ok(taken.iter().filter(|at| waiting.contains(at)).count())
}

fn queued_at(result: &JobResult) -> Result<Timestamp> {
    result.timing.queued_at.context("it was queued")
}

fn claimed_at(result: &JobResult) -> Result<Timestamp> {
    result.timing.claimed_at.context("it was claimed")
}

fn waited(result: &JobResult) -> Result<Duration> {
    let waited = claimed_at(result)?.duration_since(queued_at(result)?);
    Duration::try_from(waited).context("it was queued before it was claimed")
}
