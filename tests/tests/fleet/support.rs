//! What the cases share: jobs, and the questions that are asked after every one of them.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::fake::Fate;
use e2e::fleet::Fleet;
use e2e::process::Process;
use e2e::queue::{self, Queue};
use e2e::stack::Service;
use e2e::wait;
use schemas::record::AttemptEndKind;
use schemas::{JobResult, Reason, Token};
use serde_json::Value;

/// 45 s for a worker to end its work: it gives its jobs 30 s.
const GRACE: Duration = Duration::from_secs(45);

/// 1 min for what follows a result: an acknowledgement, or the next delivery, which comes after 30 s.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_mins(1);

/// The pool of one case.
pub(crate) fn pool(name: &str) -> Token {
    Token::parse(name).expect("the cases name their pools with tokens")
}

/// A job of one shell step in a steady guest.
pub(crate) fn job(queue: &Queue, script: &str) -> Result<Value> {
    Fleet::job(queue, Fate::Steady, script)
}

/// Several jobs.
pub(crate) fn jobs(count: usize, job: impl Fn() -> Result<Value>) -> Result<Vec<Value>> {
    (0..count).map(|_| job()).collect()
}

/// Waits for the result of a job, which must give `reason`; there must be one.
pub(crate) async fn ends_with(
    fleet: &Fleet,
    queue: &Queue,
    job: &Value,
    reason: Reason,
) -> Result<JobResult> {
    let job_id = queue::job_id(job)?;
    let result = queue.result(job_id).await?;
    ensure!(
        result.reason.known() == Some(&reason),
        "{job_id}: expected {reason}, got {}: {}",
        result.reason,
        result.message
    );
    ensure!(fleet.results_of(queue, job_id).await? == 1);
    Ok(result)
}

/// Waits until the jobs of a publisher are acknowledged, drains the workers, and looks at what they left.
pub(crate) async fn settles(
    fleet: &Fleet,
    queue: &Queue,
    workers: Vec<(&Service, Process)>,
) -> Result<()> {
    wait::until(
        "the jobs to be acknowledged",
        ACKNOWLEDGED_WITHIN,
        async || Ok((fleet.waiting(queue).await? == 0).then_some(())),
    )
    .await?;
    let (services, processes): (Vec<_>, Vec<_>) = workers.into_iter().unzip();
    for process in processes {
        let log = process.log().to_owned();
        let status = process.stop(GRACE).await?;
        ensure!(status.success(), "{status}: {}", log.display());
    }
    fleet.is_clean(&services).await
}

/// How the attempts before that of a result ended.
pub(crate) fn past(result: &JobResult) -> Vec<Option<AttemptEndKind>> {
    let ends = result
        .past_attempts
        .iter()
        .map(|attempt| attempt.end.as_ref());
    ends.map(|end| end.and_then(|end| end.kind.known().copied()))
        .collect()
}
