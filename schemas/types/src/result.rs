//! The one final answer for a job. Stored at [`crate::names::report_subject`], heard at [`crate::names::result_subject`].
//!
//! A result may grow: readers ignore fields that they do not know.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{Digests, GitCommit, PrefixedDigest, Sha256Digest};
use crate::field_error::{self, FieldError};
use crate::open::Open;
use crate::path::TreePath;
use crate::reason::{Reason, Status};
use crate::record::Attempt;
use crate::tag::schema_tag;
use crate::token::{Token, Trust};
use crate::uri::ObjectUri;

/// Most artifacts that are listed in a result itself; more go into [`JobResult::artifacts_manifest`].
pub const MAX_LISTED_ARTIFACTS: usize = 1000;

/// Longest result that is read: the default `max_payload` of a NATS server, 1 MiB, eight times over.
const MAX_RESULT_BYTES: usize = 8 << 20;

schema_tag!(
    /// `sourdough/result/v1`.
    ResultSchema = "sourdough/result/v1"
);

/// How a job ended, and what came out of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobResult {
    /// The version of this message.
    #[serde(default)]
    pub schema: ResultSchema,
    /// The job's id, or `invalid-<stream sequence>` for a body without a usable one.
    pub job_id: Token,
    /// The tenant, from the job's subject.
    pub tenant: Token,
    /// The trust, from the job's subject.
    pub trust: Trust,
    /// Which attempt this is the result of, from 1.
    pub attempt: u32,
    /// The worker that gave it, or the bakery that did where no worker ever had the job.
    pub worker: Token,
    /// The attempts before this one, the first first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past_attempts: Vec<Attempt>,
    /// How it ended.
    pub status: Status,
    /// Why.
    pub reason: Open<Reason>,
    /// The same in one sentence for a person.
    pub message: String,
    /// The code of `failed_step` if that exited, 0 only where `status` is `success`, else null.
    pub exit_code: Option<i32>,
    /// The step that ended the build.
    pub failed_step: Option<Token>,
    /// Every step of the job, in order, also those that never ran.
    #[serde(default)]
    pub steps: Vec<StepResult>,
    /// What it ran in; absent when it never came so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentUsed>,
    /// What was built; absent when it never came so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceUsed>,
    /// What was read out, sorted by name and path.
    #[serde(default)]
    pub artifacts: Vec<ArtifactRef>,
    /// Where the list is, when it is longer than [`MAX_LISTED_ARTIFACTS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts_manifest: Option<ArtifactsManifest>,
    /// The whole log; absent when there was no output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogRef>,
    /// What the build tried to reach.
    #[serde(default)]
    pub egress: Egress,
    /// When each phase ended.
    #[serde(default)]
    pub timing: Timing,
    /// What it used; absent when no VM ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// How one step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepResult {
    /// The step's name.
    pub name: Token,
    /// What [`Termination::status`] says.
    pub status: StepStatus,
    /// How its process ended.
    pub termination: Termination,
    /// From start to end, 0 if it never ran.
    pub duration_ms: u64,
}

/// How one step ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// It exited with 0.
    Success,
    /// It exited with another code, or was ended by something that was not ours.
    Failure,
    /// It was killed for its time.
    Timeout,
    /// It was killed on request.
    Cancellation,
    /// It never ran.
    Skip,
}

/// How a process ended. There is no 137: a signal is a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Termination {
    /// By itself, with this code, 0 to 255.
    Exited {
        /// The code.
        code: i32,
    },
    /// By this signal.
    Signalled {
        /// The number of the signal, as Linux has it.
        signal: i32,
    },
    /// Killed by us, for a limit of time.
    TimedOut,
    /// Killed by the guest's kernel, for want of memory.
    OutOfMemory,
    /// Killed by us, on request.
    Cancelled,
    /// It never ran.
    NotRun,
}

/// What the build ran in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnvironmentUsed {
    /// The environment.
    pub name: Token,
    /// Its template.
    pub template: Token,
    /// The snapshot key.
    pub key: PrefixedDigest,
    /// The digest of the snapshot's manifest.
    pub snapshot: Digests,
    /// How the VM came to be.
    pub start: Start,
    /// The driver, as `qemu`.
    pub driver: String,
    /// The accelerator, as `kvm` or `tcg`.
    pub accelerator: String,
}

/// How a VM came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// From the environment's snapshot.
    Fork,
    /// From the template's, with the setup run first.
    Cold,
}

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceUsed {
    /// The digests that the source was found to have.
    pub digest: SourceDigests,
}

/// The digests of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceDigests {
    /// That of the archive: for a git source, of the canonical archive that was made of the commit.
    pub sha256: Sha256Digest,
    /// The commit, for a git source.
    #[serde(default, rename = "gitCommit", skip_serializing_if = "Option::is_none")]
    pub git_commit: Option<GitCommit>,
}

/// One file that was read out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArtifactRef {
    /// The name that the job gave to the artifact it belongs to.
    pub name: Token,
    /// Its path in the tree.
    pub path: TreePath,
    /// Where it lies.
    pub uri: ObjectUri,
    /// What its bytes hash to, as the host saw them.
    pub digest: Digests,
    /// Its size.
    pub size_bytes: u64,
    /// Its permissions, four octal digits.
    pub mode: String,
}

/// A list of artifacts that is too long for the result: a JSON array of [`ArtifactRef`] in S3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArtifactsManifest {
    /// Where it lies.
    pub uri: ObjectUri,
    /// What its bytes hash to.
    pub digest: Digests,
    /// How many artifacts it lists.
    pub count: u64,
}

/// The whole log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogRef {
    /// Where it lies.
    pub uri: ObjectUri,
    /// What its bytes hash to.
    pub digest: Digests,
    /// Its size.
    pub size_bytes: u64,
    /// Whether output was left out at the log's cap.
    pub truncated: bool,
    /// Chunks of the live log that could not be published; the stored log has them.
    pub chunks_lost: u64,
}

/// What the build tried to reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Egress {
    /// Connections that the policy let through.
    pub allowed: u64,
    /// Connections that it refused.
    pub denied: u64,
    /// Where those wanted to go, `host:port`, each once.
    pub denied_hosts: Vec<String>,
}

/// When each phase ended; null for one that was never reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Timing {
    /// The stream stored the job.
    pub queued_at: Option<Timestamp>,
    /// The worker took it.
    pub claimed_at: Option<Timestamp>,
    /// The source was fetched and checked.
    pub source_ready_at: Option<Timestamp>,
    /// The VM was forked and thawed.
    pub vm_ready_at: Option<Timestamp>,
    /// The first step began.
    pub steps_started_at: Option<Timestamp>,
    /// The last step ended.
    pub steps_finished_at: Option<Timestamp>,
    /// Artifacts and log were stored.
    pub uploaded_at: Option<Timestamp>,
    /// The result was made.
    pub finished_at: Option<Timestamp>,
}

/// What the steps used, as the guest's kernel counted it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Usage {
    /// Processor time of all steps.
    pub cpu_ms: u64,
    /// Most memory that any step had, its page cache included.
    pub peak_memory_bytes: u64,
    /// Bytes that the steps wrote to the private disk.
    pub disk_written_bytes: u64,
}

impl JobResult {
    /// Reads a result that somebody published.
    pub fn parse(body: &[u8]) -> Result<Self, FieldError> {
        field_error::parse(body, MAX_RESULT_BYTES)
    }
}

impl StepResult {
    /// The result of a step that ended so, after that long.
    pub fn new(name: Token, termination: Termination, duration: std::time::Duration) -> Self {
        let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            name,
            status: termination.status(),
            termination,
            duration_ms,
        }
    }
}

impl Termination {
    /// The same in one word.
    pub fn status(self) -> StepStatus {
        match self {
            Self::Exited { code: 0 } => StepStatus::Success,
            Self::Exited { .. } | Self::Signalled { .. } | Self::OutOfMemory => StepStatus::Failure,
            Self::TimedOut => StepStatus::Timeout,
            Self::Cancelled => StepStatus::Cancellation,
            Self::NotRun => StepStatus::Skip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_termination_says_its_kind_in_json() {
        let json = |termination: Termination| serde_json::to_string(&termination).unwrap();
        assert_eq!(
            json(Termination::Exited { code: 3 }),
            r#"{"kind":"exited","code":3}"#
        );
        assert_eq!(
            json(Termination::Signalled { signal: 9 }),
            r#"{"kind":"signalled","signal":9}"#
        );
        assert_eq!(
            json(Termination::OutOfMemory),
            r#"{"kind":"out_of_memory"}"#
        );
    }
}
