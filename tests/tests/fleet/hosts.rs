//! A host on which nothing starts, beside a good one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::fake::Fate;
use e2e::fleet::Fleet;
use e2e::launch::Lifetime;
use e2e::queue;
use e2e::wait;
use schemas::Reason;
use schemas::record::AttemptEndKind;
use schemas::worker::WorkerCondition;

use crate::support::{ends_with, job, jobs, past, pool, settles};

/// More than a bad host may spoil.
const JOBS: usize = 20;

/// Failures in a row after which it pauses.
const FAILURES: usize = 3;

/// 1 min for three jobs to fail, which takes a second, and for it to be said.
const SAID_WITHIN: Duration = Duration::from_mins(1);

pub(crate) async fn a_host_on_which_no_guest_starts_pauses_and_loses_no_job(
    fleet: &Fleet,
) -> Result<()> {
    let pool = pool("hosts");
    let queue = fleet.tenant("hosts").await?.in_pool(&pool);
    let mut bad = fleet.worker("host-bad", &pool, 1, |_| ())?;
    bad.arguments = vec!["--fate".to_owned(), Fate::StartFails.as_str().to_owned()];
    let good = fleet.worker("host-good", &pool, 1, |_| ())?;
    let bad_worker = bad.start(Lifetime::Owner).await?;
    let jobs = jobs(JOBS, || job(&queue, "sleep 0.1"))?;
    for job in &jobs {
        queue.publish(job.to_string()).await?;
    }
    let why = pauses(fleet, "host-bad").await?;
    ensure!(why.contains("before a command ran"), "{why}");
    let good_worker = good.start(Lifetime::Owner).await?;
    let mut failures = 0;
    for job in &jobs {
        let result = ends_with(fleet, &queue, job, Reason::Completed).await?;
        ensure!(result.worker.as_str() == "host-good", "{result:?}");
        let failed = |end: &_| *end == Some(AttemptEndKind::Failed);
        ensure!(past(&result).iter().all(failed), "{result:?}");
        failures += result.past_attempts.len();
        let letters = fleet.letters_of(&queue, queue::job_id(job)?).await?;
        ensure!(letters == 0, "it was tried again, and is buried");
    }
    // Those before the pause, and one alone for each time that it was over.
    ensure!(
        (FAILURES..2 * FAILURES).contains(&failures),
        "{failures} failures"
    );
    let workers = vec![(&bad, bad_worker), (&good, good_worker)];
    settles(fleet, &queue, workers).await
}

/// Waits until a worker says that it pauses; gives the reason that it says.
async fn pauses(fleet: &Fleet, worker: &str) -> Result<String> {
    wait::until("a bad host to pause", SAID_WITHIN, async || {
        let said = fleet.said_by(worker).await?.context("it says what it is")?;
        let is_paused = said.state.known() == Some(&WorkerCondition::Paused);
        Ok(said.reason.filter(|_| is_paused))
    })
    .await
}
