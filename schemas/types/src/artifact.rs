//! What a job wants read out after its steps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field_error::{FieldError, all_different, in_range, in_range_of_list};
use crate::path::Glob;
use crate::token::Token;

/// 1 TiB.
const MAX_ARTIFACT_BYTES: u64 = 1 << 40;

/// Files that are read out after the steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Its name in the result; unique in the job.
    pub name: Token,
    /// Which files. A file that matches twice is read once.
    #[schemars(length(min = 1, max = 64))]
    pub paths: Vec<Glob>,
    /// After which outcome of the steps it is read. Default `success`.
    #[serde(default)]
    pub when: When,
    /// Whether no match is a failure, `artifact_missing`. Default true: what is declared is wanted.
    #[serde(default = "default_required")]
    pub required: bool,
    /// Most bytes of all its files together. Default 1 GiB.
    #[serde(default = "default_max_bytes")]
    #[schemars(range(min = 1, max = 1_099_511_627_776_u64))]
    pub max_bytes: u64,
}

/// After which outcome of the steps an artifact is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Every step exited with 0.
    #[default]
    Success,
    /// Some step did not.
    Failure,
    /// Either.
    Always,
}

impl Artifact {
    /// An artifact with defaults for everything but its name and paths.
    pub fn new(name: Token, paths: Vec<Glob>) -> Self {
        Self {
            name,
            paths,
            when: When::default(),
            required: default_required(),
            max_bytes: default_max_bytes(),
        }
    }
}

impl When {
    /// Whether the artifact is read after steps that all succeeded, or did not.
    pub fn applies(self, steps_succeeded: bool) -> bool {
        match self {
            Self::Success => steps_succeeded,
            Self::Failure => !steps_succeeded,
            Self::Always => true,
        }
    }
}

/// Checks a list of artifacts.
pub(crate) fn check_artifacts(artifacts: &[Artifact]) -> Result<(), FieldError> {
    in_range_of_list("artifacts", artifacts.len(), 0)?;
    for (index, artifact) in artifacts.iter().enumerate() {
        in_range_of_list(
            &format!("artifacts[{index}].paths"),
            artifact.paths.len(),
            1,
        )?;
        in_range(
            &format!("artifacts[{index}].max_bytes"),
            artifact.max_bytes,
            1,
            MAX_ARTIFACT_BYTES,
        )?;
    }
    all_different(
        artifacts
            .iter()
            .enumerate()
            .map(|(index, artifact)| (format!("artifacts[{index}].name"), artifact.name.as_str())),
    )
}

fn default_required() -> bool {
    true
}

fn default_max_bytes() -> u64 {
    1 << 30
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_is_read_after_the_outcome_it_names() {
        for (when, after_success, after_failure) in [
            (When::Success, true, false),
            (When::Failure, false, true),
            (When::Always, true, true),
        ] {
            assert_eq!(
                (when.applies(true), when.applies(false)),
                (after_success, after_failure)
            );
        }
    }
}
