//! The build request. Subject: [`crate::JobSubject`]. What is not in the body (pool, trust, priority, tenant) is in the subject, where
//! NATS permissions bind it.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::artifact::{Artifact, check_artifacts};
use crate::choice::EnvironmentChoice;
use crate::field_error::{self, FieldError, in_range, in_range_of_list};
use crate::source::Source;
use crate::step::{Env, MAX_STEP_TIMEOUT_S, Step, check_env, check_steps};
use crate::tag::schema_tag;
use crate::text::quoted;

/// Longest body of a job: a quarter of the default `max_payload` of a NATS server, so that its result has room to quote it.
pub const MAX_JOB_BYTES: usize = 256 * 1024;

/// Longest name and longest value of a label.
pub const MAX_LABEL_BYTES: usize = 1024;

/// One week.
const MAX_QUEUE_S: u32 = 604_800;

/// 10: a job that fails its hosts more often is looked at by a person.
const MAX_ATTEMPTS: u32 = 10;

/// 5 min: who needs longer to end is not ending.
const MAX_KILL_GRACE_S: u32 = 300;

schema_tag!(
    /// `sourdough/job/v1`.
    JobSchema = "sourdough/job/v1"
);

/// A build request. The same id is the same job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The version of this message.
    #[serde(default)]
    pub schema: JobSchema,
    /// A UUID that the publisher makes, in its usual form of 36 characters.
    #[serde(deserialize_with = "hyphenated")]
    pub id: Uuid,
    /// What is built.
    pub source: Source,
    /// What it is built in.
    pub environment: EnvironmentChoice,
    /// What happens where the environment has no snapshot for this source.
    #[serde(default)]
    pub on_missing: OnMissing,
    /// The commands, in order; the first that fails ends the build.
    #[schemars(length(min = 1, max = 64))]
    pub steps: Vec<Step>,
    /// Variables for every step.
    #[serde(default)]
    pub env: Env,
    /// How long each phase may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// What is read out after the steps.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub artifacts: Vec<Artifact>,
    /// How often it is tried.
    #[serde(default)]
    pub retry: Retry,
    /// The publisher's own notes; never interpreted.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// What happens to a job whose environment has no snapshot for its source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMissing {
    /// A bake is requested, and the job waits for it. The default: the next job with the same inputs starts at once.
    #[default]
    Bake,
    /// The setup runs in the job's own fork of the template, and is thrown away with it.
    Cold,
    /// The job ends with `snapshot_unavailable`.
    Fail,
}

/// How often a job is tried. Only a host's own trouble is tried again; how a build ended never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Attempts, the first included. Default 3: a trouble that lasts over three hosts is not one host's.
    #[schemars(range(min = 1, max = 10))]
    pub max_attempts: u32,
}

/// How long each phase may take, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// In the queue, from publication to claim. Default 1 h: nobody waits longer for a build to start.
    #[schemars(range(min = 1, max = 604_800))]
    pub queue_s: u32,
    /// All steps together: not the queue, the source, the fork or the upload. Default 30 min.
    #[schemars(range(min = 1, max = 86_400))]
    pub run_s: u32,
    /// Without a byte of output. Default 5 min: a step that hangs is silent.
    #[schemars(range(min = 1, max = 86_400))]
    pub idle_s: u32,
    /// Between the request to end and the kill. Default 10 s.
    #[schemars(range(min = 0, max = 300))]
    pub kill_grace_s: u32,
}

impl Job {
    /// Reads a body and checks every limit that the fields document. Deserialising alone does not.
    pub fn parse(body: &[u8]) -> Result<Self, FieldError> {
        let job: Self = field_error::parse(body, MAX_JOB_BYTES)?;
        job.check()?;
        Ok(job)
    }

    /// Checks what the types of the fields leave open. A publisher calls this before it publishes.
    pub fn check(&self) -> Result<(), FieldError> {
        if self.id.is_nil() {
            return Err(FieldError::new("id", "must not be the nil UUID"));
        }
        if self.steps.is_empty() {
            return Err(FieldError::new("steps", "must have at least one step"));
        }
        check_steps("steps", &self.steps)?;
        self.environment.check("environment")?;
        check_env("env", &self.env)?;
        self.timeouts.check()?;
        in_range(
            "retry.max_attempts",
            self.retry.max_attempts.into(),
            1,
            MAX_ATTEMPTS.into(),
        )?;
        check_artifacts(&self.artifacts)?;
        check_labels(&self.labels)
    }
}

/// The id of a body that [`Job::parse`] refuses, so that its result can be filed under it; none where there is no usable one.
pub fn peek_id(body: &[u8]) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct Id {
        #[serde(deserialize_with = "hyphenated")]
        id: Uuid,
    }
    if body.len() > MAX_JOB_BYTES || field_error::is_array(body) {
        return None;
    }
    serde_json::from_slice::<Id>(body)
        .ok()
        .map(|body| body.id)
        .filter(|id| !id.is_nil())
}

impl Timeouts {
    /// In the queue.
    pub fn queue(&self) -> Duration {
        Duration::from_secs(self.queue_s.into())
    }

    /// All steps together.
    pub fn run(&self) -> Duration {
        Duration::from_secs(self.run_s.into())
    }

    /// Without output.
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_s.into())
    }

    /// Between the request to end and the kill.
    pub fn kill_grace(&self) -> Duration {
        Duration::from_secs(self.kill_grace_s.into())
    }

    fn check(&self) -> Result<(), FieldError> {
        in_range(
            "timeouts.queue_s",
            self.queue_s.into(),
            1,
            MAX_QUEUE_S.into(),
        )?;
        in_range(
            "timeouts.run_s",
            self.run_s.into(),
            1,
            MAX_STEP_TIMEOUT_S.into(),
        )?;
        in_range(
            "timeouts.idle_s",
            self.idle_s.into(),
            1,
            MAX_STEP_TIMEOUT_S.into(),
        )?;
        in_range(
            "timeouts.kill_grace_s",
            self.kill_grace_s.into(),
            0,
            MAX_KILL_GRACE_S.into(),
        )
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            queue_s: 3600,
            run_s: 1800,
            idle_s: 300,
            kill_grace_s: 10,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { max_attempts: 3 }
    }
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), FieldError> {
    in_range_of_list("labels", labels.len(), 0)?;
    for (name, value) in labels {
        if name.is_empty() || name.len().max(value.len()) > MAX_LABEL_BYTES {
            return Err(FieldError::new(
                format!("labels.{name:.64}"),
                format!(
                    "must have a name of 1 to {MAX_LABEL_BYTES} bytes and a value of at most as many"
                ),
            ));
        }
    }
    Ok(())
}

/// One form only, so that one id has one text.
fn hyphenated<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = text.parse::<Hyphenated>().ok();
    parsed
        .map(Hyphenated::into_uuid)
        .ok_or_else(|| serde::de::Error::custom(format!("must be a UUID, is {}", quoted(&text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_bad_body_is_found_where_there_is_one() {
        let id = "0193a6c2-7f52-7c1e-9a51-2f6f0f6d2b11";
        assert_eq!(
            peek_id(format!(r#"{{"id":"{id}","steps":7}}"#).as_bytes())
                .unwrap()
                .to_string(),
            id
        );
        for none in [
            r#"{"id":"x"}"#,
            "{}",
            "not json",
            r#" ["0193a6c2-7f52-7c1e-9a51-2f6f0f6d2b11"]"#,
            r#"{"id":"00000000-0000-0000-0000-000000000000"}"#,
        ] {
            assert_eq!(peek_id(none.as_bytes()), None, "{none}");
        }
    }
}
