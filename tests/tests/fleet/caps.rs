//! How many jobs of one tenant run at a time, over all workers.

use anyhow::{Context as _, Result, ensure};
use e2e::fleet::Fleet;
use e2e::launch::Lifetime;
use e2e::queue;
use jiff::Timestamp;
use schemas::names::bucket;
use schemas::{JobResult, Reason};
use serde_json::json;

use crate::support::{ends_with, job, jobs, pool, settles};

/// What the tenant may run at a time.
const CAP: usize = 2;

pub(crate) async fn a_tenants_cap_holds_over_two_workers(fleet: &Fleet) -> Result<()> {
    let pool = pool("capped");
    let queue = fleet.tenant("capped").await?.in_pool(&pool);
    let tenants = queue.jetstream().get_key_value(bucket::TENANTS).await?;
    let limits = json!({"schema": "sourdough/tenant/v1", "name": "capped", "concurrency": CAP});
    tenants.put("capped", limits.to_string().into()).await?;
    let [first, second] = ["capped-1", "capped-2"].map(|name| fleet.worker(name, &pool, 4, |_| ()));
    let (first, second) = (first?, second?);
    let workers = vec![
        (&first, first.start(Lifetime::Owner).await?),
        (&second, second.start(Lifetime::Owner).await?),
    ];
    let jobs = jobs(10, || job(&queue, "sleep 0.5"))?;
    for job in &jobs {
        queue.publish(job.to_string()).await?;
    }
    let mut results = Vec::new();
    for job in &jobs {
        results.push(ends_with(fleet, &queue, job, Reason::Completed).await?);
        ensure!(fleet.results_of(&queue, queue::job_id(job)?).await? == 1);
    }
    let most = most_at_once(&results)?;
    ensure!(most == CAP, "{most} ran at a time");
    settles(fleet, &queue, workers).await
}

/// How many had a step running at one moment.
fn most_at_once(results: &[JobResult]) -> Result<usize> {
    let spans = results.iter().map(|result| {
        let timing = &result.timing;
        let started = timing.steps_started_at.context("it ran")?;
        Ok((started, timing.steps_finished_at.context("it ran")?))
    });
    let spans = spans.collect::<Result<Vec<(Timestamp, Timestamp)>>>()?;
    let at = |moment: &Timestamp| {
        spans
            .iter()
            .filter(|(from, to)| (from..to).contains(&moment))
            .count()
    };
    spans
        .iter()
        .map(|(from, _)| at(from))
        .max()
        .context("a job")
}
