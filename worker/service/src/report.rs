//! The result: made of what an attempt gathered, published once.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream;
use bus::objects::Objects;
use bus::results::{ResultsError, Stored, publish_once};
use bus::retry::Policy;
use schemas::names::artifact_object;
use schemas::reason::Status;
use schemas::record::Attempt;
use schemas::result::ResultSchema;
use schemas::result::{
    ArtifactRef, ArtifactsManifest, Egress, EnvironmentUsed, JobResult, LogRef,
    MAX_LISTED_ARTIFACTS, SourceUsed, StepResult, Timing, Usage,
};
use schemas::{ObjectUri, Sha256Digest, Token, Trust};

use crate::verdict::Verdict;

/// 2 min that a result, or a dead letter, is tried to be published before the build is done once more: a server restarts within it.
pub const PUBLISH_FOR: Policy = Policy {
    give_up_after: Some(Duration::from_mins(2)),
    ..Policy::FOREVER
};

/// Room that is left below the server's `max_payload` for headers.
const HEADROOM: usize = 4096;

/// Whose result it is.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The tenant, from the job's subject.
    pub tenant: Token,
    /// The trust, from the job's subject.
    pub trust: Trust,
    /// The job's id, or a name for a body without one.
    pub job_id: Token,
    /// The attempt, from 1.
    pub attempt: u32,
    /// This worker.
    pub worker: Token,
}

/// What an attempt gathered by and by.
#[derive(Debug, Default)]
pub struct Gathered {
    /// How each step ended that ran.
    pub steps: Vec<StepResult>,
    /// Every step of the job: those that never ran are filled in from here.
    pub planned: Vec<Token>,
    /// What it ran in.
    pub environment: Option<EnvironmentUsed>,
    /// What was built.
    pub source: Option<SourceUsed>,
    /// What was read out.
    pub artifacts: Vec<ArtifactRef>,
    /// What the setup tried to reach, where it ran in the job's own VM. Steps have no network.
    pub egress: Egress,
    /// The stored log.
    pub log: Option<LogRef>,
    /// When each phase ended.
    pub timing: Timing,
    /// What the steps used.
    pub usage: Option<Usage>,
    /// The attempts before this one.
    pub past_attempts: Vec<Attempt>,
}

impl Gathered {
    /// Adds what one more step used.
    pub fn add_usage(&mut self, step: &wire::Usage) {
        let usage = self.usage.get_or_insert_default();
        // The guest counts, so the numbers may be anything.
        let cpu_ms = u64::try_from(step.cpu.as_millis()).unwrap_or(u64::MAX);
        usage.cpu_ms = usage.cpu_ms.saturating_add(cpu_ms);
        usage.peak_memory_bytes = usage.peak_memory_bytes.max(step.peak_memory_bytes);
        usage.disk_written_bytes = usage
            .disk_written_bytes
            .saturating_add(step.disk_written_bytes);
    }
}

/// Makes the result.
pub fn result(subject: &Subject, verdict: &Verdict, gathered: Gathered) -> JobResult {
    let Gathered {
        mut steps,
        planned,
        environment,
        source,
        artifacts,
        egress,
        log,
        timing,
        usage,
        past_attempts,
    } = gathered;
    let never_ran = planned.into_iter().skip(steps.len());
    let failed = steps
        .iter()
        .find(|step| step.status != schemas::result::StepStatus::Success);
    let failed_step = failed.map(|step| step.name.clone());
    let exit_code = match verdict.reason.status() {
        Status::Success => Some(0),
        Status::Failure | Status::Timeout | Status::Cancellation | Status::Error => {
            failed.and_then(exit_code)
        }
    };
    let not_run = schemas::result::Termination::NotRun;
    steps.extend(never_ran.map(|name| StepResult::new(name, not_run, Duration::ZERO)));
    JobResult {
        schema: ResultSchema,
        job_id: subject.job_id.clone(),
        tenant: subject.tenant.clone(),
        trust: subject.trust,
        attempt: subject.attempt,
        worker: subject.worker.clone(),
        past_attempts,
        status: verdict.reason.status(),
        reason: verdict.reason.into(),
        message: verdict.message.clone(),
        exit_code,
        failed_step,
        steps,
        environment,
        source,
        artifacts,
        artifacts_manifest: None,
        log,
        egress,
        timing,
        usage,
    }
}

fn exit_code(step: &StepResult) -> Option<i32> {
    use schemas::result::Termination;
    match step.termination {
        Termination::Exited { code } => Some(code),
        Termination::Signalled { .. }
        | Termination::TimedOut
        | Termination::OutOfMemory
        | Termination::Cancelled
        | Termination::NotRun => None,
    }
}

/// Why a result could not be published.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The list of artifacts, which is too long for the result, could not be stored.
    #[error("store the list of artifacts")]
    List(#[source] bus::objects::ObjectsError),
    /// The stream did not take it.
    #[error(transparent)]
    Results(#[from] ResultsError),
}

/// Publishes the result, unless the job has one. A list of artifacts that is too long for a message goes to S3.
pub async fn publish(
    client: &Client,
    jetstream: &jetstream::Context,
    objects: &Objects,
    mut result: JobResult,
) -> Result<Stored, ReportError> {
    let size = serde_json::to_vec(&result)
        .expect("a result of plain fields is JSON")
        .len();
    let most = client.server_info().max_payload.saturating_sub(HEADROOM);
    if result.artifacts.len() > MAX_LISTED_ARTIFACTS || size > most {
        result.artifacts_manifest = Some(
            store_list(objects, &result)
                .await
                .map_err(ReportError::List)?,
        );
        result.artifacts.clear();
    }
    Ok(publish_once(jetstream, &result).await?)
}

async fn store_list(
    objects: &Objects,
    result: &JobResult,
) -> Result<ArtifactsManifest, bus::objects::ObjectsError> {
    let body = serde_json::to_vec(&result.artifacts).expect("a list of plain fields is JSON");
    let digest = Sha256Digest::of(&body);
    let (bucket, key) = (
        objects.buckets().artifacts.clone(),
        artifact_object(&result.tenant, &digest),
    );
    objects.put(&bucket, &key, body.into()).await?;
    Ok(ArtifactsManifest {
        uri: ObjectUri::new(&bucket, &key).expect("a bucket and a key of digits make an address"),
        digest: digest.into(),
        count: result.artifacts.len() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::reason::Reason;
    use schemas::result::{StepStatus, Termination};

    fn subject() -> Subject {
        Subject {
            tenant: "acme".parse().unwrap(),
            trust: Trust::Untrusted,
            job_id: "job".parse().unwrap(),
            attempt: 1,
            worker: "w".parse().unwrap(),
        }
    }

    fn gathered(ends: &[Termination]) -> Gathered {
        let names: Vec<Token> = (1..=3)
            .map(|n| format!("step-{n}").parse().unwrap())
            .collect();
        let steps = names.iter().zip(ends);
        Gathered {
            steps: steps
                .map(|(name, end)| StepResult::new(name.clone(), *end, Duration::ZERO))
                .collect(),
            planned: names,
            ..Gathered::default()
        }
    }

    #[test]
    fn the_exit_code_is_that_of_the_failed_step_and_later_steps_never_ran() {
        let ends = [
            Termination::Exited { code: 0 },
            Termination::Exited { code: 3 },
        ];
        let verdict = Verdict::new(Reason::StepExitNonzero, "step step-2 exited with 3");
        let result = result(&subject(), &verdict, gathered(&ends));
        assert_eq!(result.exit_code, Some(3));
        assert_eq!(result.failed_step.unwrap().to_string(), "step-2");
        assert_eq!(result.steps[2].status, StepStatus::Skip);
    }

    #[test]
    fn a_signal_has_no_exit_code() {
        let verdict = Verdict::new(Reason::StepSignalled, "step step-1 was ended by signal 9");
        let result = result(
            &subject(),
            &verdict,
            gathered(&[Termination::Signalled { signal: 9 }]),
        );
        assert_eq!(result.exit_code, None);
        assert_eq!(result.failed_step.unwrap().to_string(), "step-1");
    }

    #[test]
    fn success_is_the_only_status_with_exit_code_0_without_a_failed_step() {
        let ends = [Termination::Exited { code: 0 }; 3];
        let success = result(&subject(), &Verdict::success(), gathered(&ends));
        assert_eq!((success.exit_code, success.failed_step), (Some(0), None));
        let missing = Verdict::new(
            Reason::ArtifactMissing,
            "artifact dist matches no file: dist/**",
        );
        let missing = result(&subject(), &missing, gathered(&ends));
        assert_eq!((missing.exit_code, missing.failed_step), (None, None));
    }
}
