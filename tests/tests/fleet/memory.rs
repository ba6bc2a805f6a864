//! How large a worker is that nobody disturbs.

use anyhow::{Result, ensure};
use e2e::fleet::Fleet;
use e2e::launch::Lifetime;
use e2e::queue::Queue;
use e2e::resident::resident_kib;
use futures_util::future::try_join_all;
use schemas::Reason;

use crate::support::{ends_with, job, jobs, pool, settles};

/// After as many jobs a worker has made what it makes once.
const WARM: usize = 200;

/// Jobs after that.
const MORE: usize = 400;

/// 4 MiB, which is 10 KiB for each job. Measured on two cores beside the other cases in November 2026: 0.7 MiB.
const MAY_GROW_KIB: u64 = 4 << 10;

pub(crate) async fn a_worker_is_no_larger_after_six_hundred_jobs_than_after_two_hundred(
    fleet: &Fleet,
) -> Result<()> {
    let pool = pool("memory");
    let queue = fleet.queue.in_pool(&pool);
    let service = fleet.worker("memory-1", &pool, 4, |_| ())?;
    let worker = service.start(Lifetime::Owner).await?;
    does(fleet, &queue, WARM).await?;
    let warm = resident_kib(worker.id())?;
    does(fleet, &queue, MORE).await?;
    let end = resident_kib(worker.id())?;
    eprintln!("          {warm} KiB after {WARM} jobs, {end} KiB after {MORE} more");
    ensure!(end <= warm + MAY_GROW_KIB, "{warm} KiB grew to {end} KiB");
    settles(fleet, &queue, vec![(&service, worker)]).await
}

/// Has jobs done that do nothing.
async fn does(fleet: &Fleet, queue: &Queue, count: usize) -> Result<()> {
    let jobs = jobs(count, || job(queue, "true"))?;
    try_join_all(jobs.iter().map(|job| queue.publish(job.to_string()))).await?;
    for job in &jobs {
        ends_with(fleet, queue, job, Reason::Completed).await?;
    }
    Ok(())
}
