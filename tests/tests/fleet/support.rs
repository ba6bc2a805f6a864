//! What the cases share: jobs, and the questions that are asked after every one of them.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::fake::Fate;
use e2e::fleet::Fleet;
use e2e::heard::Reports;
use e2e::process::Process;
use e2e::queue::{self, Queue};
use e2e::stack::{GRACE, Service};
use e2e::wait;
use schemas::names::artifact_object;
use schemas::record::AttemptEndKind;
use schemas::{JobResult, Reason, Sha256Digest, Token};
use serde_json::{Value, json};
use uuid::Uuid;

/// 1 min for what follows a result: an acknowledgement, or the next delivery, which comes after 30 s.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_mins(1);

/// 1 min from the publish of a job to its first artifact.
const UPLOADED_WITHIN: Duration = Duration::from_mins(1);

/// The bucket for artifacts.
const ARTIFACTS: &str = "build-artifacts";

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

/// A job with two artifacts: one that is uploaded at once, of a content that no other job has, and one that takes longer.
pub(crate) fn uploading_job(queue: &Queue) -> Result<(Value, Sha256Digest)> {
    let first = Uuid::new_v4().to_string();
    let script = format!("sleep 0.3; printf {first} > a; head -c 100000000 /dev/urandom > b");
    let mut job = job(queue, &script)?;
    job["artifacts"] = json!([{"name": "both", "paths": ["a", "b"]}]);
    Ok((job, Sha256Digest::of(first)))
}

/// Waits until an artifact is stored.
pub(crate) async fn is_uploaded(queue: &Queue, artifact: &Sha256Digest) -> Result<()> {
    let name = artifact_object(&queue.tenant, artifact);
    wait::until("an artifact to be uploaded", UPLOADED_WITHIN, async || {
        let look = queue.s3().head_object().bucket(ARTIFACTS).key(&name);
        Ok(Box::pin(look.send()).await.ok().map(drop))
    })
    .await
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

/// Whether one result of a job was tried to be stored, and no other: to be asked once the workers that had it have ended.
pub(crate) async fn is_reported_once(reports: &mut Reports) -> Result<()> {
    let count = reports.count().await?;
    ensure!(count == 1, "{count} results were reported");
    Ok(())
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
