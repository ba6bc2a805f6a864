//! What a tenant's snapshots are made from: a template, the inputs, and the setup that installs from them. Key:
//! [`crate::names::environment_key`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field_error::{self, FieldError, all_different, in_range_of_list};
use crate::https::HostPort;
use crate::path::TreePath;
use crate::step::{Env, Step, check_env, check_steps};
use crate::tag::schema_tag;
use crate::token::Token;

/// Longest definition of an environment or a template, as long as a job's body.
pub const MAX_DEFINITION_BYTES: usize = 256 * 1024;

/// Most inputs: each is hashed for every job.
pub const MAX_INPUTS: usize = 256;

/// Longest salt.
pub(crate) const MAX_SALT_BYTES: usize = 256;

schema_tag!(
    /// `sourdough/environment/v1`.
    EnvironmentSchema = "sourdough/environment/v1"
);

/// A template plus declared inputs plus the setup that installs from them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// The version of this definition.
    #[serde(default)]
    pub schema: EnvironmentSchema,
    /// Its name in the tenant's definitions.
    pub name: Token,
    /// The template that it is forked from.
    pub template: Token,
    /// The files that the setup sees, and no others, so that the key cannot lie. Regular files of the source tree.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub inputs: Vec<TreePath>,
    /// The commands that install from the inputs.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub setup: Vec<Step>,
    /// Variables for the setup and for every job that runs in this environment.
    #[serde(default)]
    pub env: Env,
    /// What the setup may reach.
    #[serde(default)]
    pub network: Network,
    /// Any text; another one gives another key.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub salt: String,
}

/// What the setup may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Entries of the operator's configuration, as `npm`. Default none: no way out.
    pub registries: Vec<Token>,
    /// Hosts beside those: each must be one that the operator allows the tenant. Default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub allow: Vec<HostPort>,
}

impl Environment {
    /// Reads a definition and checks every limit that the fields document.
    pub fn parse(body: &[u8]) -> Result<Self, FieldError> {
        let environment: Self = field_error::parse(body, MAX_DEFINITION_BYTES)?;
        environment.check()?;
        Ok(environment)
    }

    /// Checks what the types of the fields leave open.
    pub fn check(&self) -> Result<(), FieldError> {
        check_inputs(&self.inputs)?;
        check_steps("setup", &self.setup)?;
        check_env("env", &self.env)?;
        let registries = self.network.registries.iter().enumerate();
        all_different(
            registries.map(|(index, name)| (format!("network.registries[{index}]"), name.as_str())),
        )?;
        let allow = self.network.allow.iter().enumerate();
        all_different(
            allow.map(|(index, host)| (format!("network.allow[{index}]"), host.as_str())),
        )?;
        in_range_of_list("network.allow", self.network.allow.len(), 0)?;
        check_salt(&self.salt)
    }
}

/// Refuses a salt beyond its limit.
pub(crate) fn check_salt(salt: &str) -> Result<(), FieldError> {
    if salt.len() > MAX_SALT_BYTES {
        return Err(FieldError::new(
            "salt",
            format!("must be at most {MAX_SALT_BYTES} bytes, is {}", salt.len()),
        ));
    }
    Ok(())
}

fn check_inputs(inputs: &[TreePath]) -> Result<(), FieldError> {
    if inputs.len() > MAX_INPUTS {
        return Err(FieldError::new(
            "inputs",
            format!("must be at most {MAX_INPUTS} files, is {}", inputs.len()),
        ));
    }
    if let Some(index) = inputs.iter().position(TreePath::is_root) {
        return Err(FieldError::new(
            format!("inputs[{index}]"),
            "must be a file, is the source tree itself",
        ));
    }
    all_different(
        inputs
            .iter()
            .enumerate()
            .map(|(index, path)| (format!("inputs[{index}]"), path.as_str())),
    )
}
