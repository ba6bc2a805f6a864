//! One command of a job, or of an environment's setup.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field_error::{FieldError, all_different, in_range};
use crate::path::TreePath;
use crate::token::{EnvName, Token};

/// Environment variables by name.
pub type Env = BTreeMap<EnvName, String>;

/// Most steps in one list.
pub const MAX_STEPS: usize = 64;

/// One day: longer than any build that anybody waits for.
pub const MAX_STEP_TIMEOUT_S: u32 = 86_400;

/// 30 min: the default of a job's `timeouts.run_s`, so that by default only that one counts.
pub const DEFAULT_STEP_TIMEOUT_S: u32 = 1800;

/// Most bytes of a command, and of the names and values of one `env`: half of what Linux allows for one argument.
pub const MAX_COMMAND_BYTES: usize = 64 * 1024;

/// A command with its own process group, timeout and output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "StepFields", into = "StepFields")]
pub struct Step {
    /// Its name in results, events and logs; unique in its list.
    pub name: Token,
    /// What is run.
    pub command: Command,
    /// Seconds after which it is killed, 1 to [`MAX_STEP_TIMEOUT_S`].
    pub timeout_s: u32,
    /// Variables for this step only; they win over the job's.
    pub env: Env,
    /// Where it starts, inside the source tree.
    pub cwd: TreePath,
}

/// What a step runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A program and its arguments, without a shell.
    Run(Vec<String>),
    /// A text for `sh -e -c`.
    Sh(String),
}

/// A step as it stands in JSON: exactly one of `run` and `sh`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Step", extend("oneOf" = [{"required": ["run"]}, {"required": ["sh"]}]))]
struct StepFields {
    /// Its name in results, events and logs; unique in its list.
    name: Token,
    /// A program and its arguments, without a shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(min = 1))]
    run: Option<Vec<String>>,
    /// A text for `sh -e -c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1))]
    sh: Option<String>,
    /// Seconds after which it is killed.
    #[serde(default = "default_timeout_s")]
    #[schemars(range(min = 1, max = 86_400))]
    timeout_s: u32,
    /// Variables for this step only; they win over the job's.
    #[serde(default)]
    env: Env,
    /// Where it starts, inside the source tree.
    #[serde(default)]
    cwd: TreePath,
}

impl Step {
    /// A step with defaults for everything but its name and command.
    pub fn new(name: Token, command: Command) -> Self {
        Self {
            name,
            command,
            timeout_s: DEFAULT_STEP_TIMEOUT_S,
            env: Env::new(),
            cwd: TreePath::root(),
        }
    }

    /// Time after which it is killed.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s.into())
    }
}

impl TryFrom<StepFields> for Step {
    type Error = String;

    fn try_from(fields: StepFields) -> Result<Self, String> {
        let command = match (fields.run, fields.sh) {
            (Some(argv), None) => Command::Run(argv),
            (None, Some(text)) => Command::Sh(text),
            (None, None) | (Some(_), Some(_)) => {
                return Err("must have exactly one of `run` and `sh`".to_owned());
            }
        };
        Ok(Self {
            name: fields.name,
            command,
            timeout_s: fields.timeout_s,
            env: fields.env,
            cwd: fields.cwd,
        })
    }
}

impl From<Step> for StepFields {
    fn from(step: Step) -> Self {
        let (run, sh) = match step.command {
            Command::Run(argv) => (Some(argv), None),
            Command::Sh(text) => (None, Some(text)),
        };
        Self {
            name: step.name,
            run,
            sh,
            timeout_s: step.timeout_s,
            env: step.env,
            cwd: step.cwd,
        }
    }
}

/// Checks a list of steps; `field` is its name in the message.
pub(crate) fn check_steps(field: &str, steps: &[Step]) -> Result<(), FieldError> {
    if steps.len() > MAX_STEPS {
        return Err(FieldError::new(
            field,
            format!("must be at most {MAX_STEPS} steps, is {}", steps.len()),
        ));
    }
    for (index, step) in steps.iter().enumerate() {
        check_step(&format!("{field}[{index}]"), step)?;
    }
    all_different(
        steps
            .iter()
            .enumerate()
            .map(|(index, step)| (format!("{field}[{index}].name"), step.name.as_str())),
    )
}

/// Checks the values and the size of an `env`; the names are checked by their type.
pub(crate) fn check_env(field: &str, env: &Env) -> Result<(), FieldError> {
    for (name, value) in env {
        if value.contains('\0') {
            return Err(FieldError::new(
                format!("{field}.{name}"),
                "must not contain a NUL",
            ));
        }
    }
    let bytes: usize = env
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if bytes > MAX_COMMAND_BYTES {
        return Err(FieldError::new(
            field,
            format!("must be at most {MAX_COMMAND_BYTES} bytes in all, is {bytes}"),
        ));
    }
    Ok(())
}

fn check_step(field: &str, step: &Step) -> Result<(), FieldError> {
    in_range(
        &format!("{field}.timeout_s"),
        step.timeout_s.into(),
        1,
        MAX_STEP_TIMEOUT_S.into(),
    )?;
    check_env(&format!("{field}.env"), &step.env)?;
    match &step.command {
        Command::Run(argv) => check_command(&format!("{field}.run"), argv),
        Command::Sh(text) => check_command(&format!("{field}.sh"), std::slice::from_ref(text)),
    }
}

fn check_command(field: &str, words: &[String]) -> Result<(), FieldError> {
    if words.first().is_none_or(String::is_empty) {
        return Err(FieldError::new(field, "must not be empty"));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err(FieldError::new(field, "must not contain a NUL"));
    }
    let bytes: usize = words.iter().map(String::len).sum();
    if bytes > MAX_COMMAND_BYTES {
        return Err(FieldError::new(
            field,
            format!("must be at most {MAX_COMMAND_BYTES} bytes in all, is {bytes}"),
        ));
    }
    Ok(())
}

fn default_timeout_s() -> u32 {
    DEFAULT_STEP_TIMEOUT_S
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_reads_back_what_it_writes() {
        let json =
            r#"{"name":"test","sh":"npm test","timeout_s":60,"env":{"CI":"true"},"cwd":"web"}"#;
        let step: Step = serde_json::from_str(json).unwrap();
        assert_eq!(step.command, Command::Sh("npm test".to_owned()));
        assert_eq!(serde_json::to_string(&step).unwrap(), json);
    }

    #[test]
    fn a_list_that_is_too_long_is_refused() {
        let steps: Vec<_> = (0..=MAX_STEPS)
            .map(|index| {
                Step::new(
                    Token::parse(format!("s{index}")).unwrap(),
                    Command::Sh("true".to_owned()),
                )
            })
            .collect();
        assert_eq!(
            check_steps("steps", &steps).unwrap_err().to_string(),
            "steps: must be at most 64 steps, is 65"
        );
        assert!(check_steps("steps", &steps[..MAX_STEPS]).is_ok());
    }

    #[test]
    fn an_environment_that_is_too_large_is_refused() {
        let env = Env::from([(EnvName::parse("A").unwrap(), "x".repeat(MAX_COMMAND_BYTES))]);
        assert_eq!(
            check_env("env", &env).unwrap_err().to_string(),
            "env: must be at most 65536 bytes in all, is 65537"
        );
    }
}
