//! What the operator allows a tenant. Bucket: [`crate::names::bucket::TENANTS`], key: the tenant.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Job;
use crate::environment::MAX_DEFINITION_BYTES;
use crate::field_error::{self, FieldError, in_range, in_range_of_list};
use crate::https::{AddressRange, HostPort};
use crate::tag::schema_tag;
use crate::token::Token;

/// As many places as a tenant's cap may have: each is a key that workers try in turn.
pub const MAX_CONCURRENCY: u32 = 1024;

/// The largest weight: with more, the tenants of weight 1 would hardly have a turn.
pub const MAX_WEIGHT: u32 = 100;

schema_tag!(
    /// `sourdough/tenant/v1`.
    TenantSchema = "sourdough/tenant/v1"
);

/// What a tenant may do. A tenant of whom nothing is stored is allowed what the defaults say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// The version of this message.
    #[serde(default)]
    pub schema: TenantSchema,
    /// The tenant.
    pub name: Token,
    /// Hosts that its sources may name, and that the setup of its environments may reach where they ask for it. Default none.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub hosts: Vec<AllowedHosts>,
    /// Jobs that all workers together run for it at a time. Default none: as many as there are slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub concurrency: Option<u32>,
    /// Its turns among the tenants of one priority: one of weight 2 gets two where one of weight 1 gets one. Default 1.
    #[serde(default = "default_weight")]
    #[schemars(range(min = 1, max = 100))]
    pub weight: u32,
    /// What a job may ask for at most. Default: what every job may.
    #[serde(default)]
    pub limits: Limits,
}

/// What a job of a tenant may ask for at most; what exceeds it is `invalid_job`. Each is unlimited where it is not given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// `timeouts.queue_s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub queue_s: Option<u32>,
    /// `timeouts.run_s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub run_s: Option<u32>,
    /// `retry.max_attempts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_attempts: Option<u32>,
    /// `artifacts[…].max_bytes`, all artifacts together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub artifact_bytes: Option<u64>,
}

impl Limits {
    /// Says which field of `job` asks for more.
    pub fn check(&self, job: &Job) -> Result<(), FieldError> {
        let artifact_bytes = job.artifacts.iter().fold(0_u64, |sum, artifact| {
            sum.saturating_add(artifact.max_bytes)
        });
        let asked = [
            (
                "timeouts.queue_s",
                u64::from(job.timeouts.queue_s),
                self.queue_s.map(u64::from),
            ),
            (
                "timeouts.run_s",
                job.timeouts.run_s.into(),
                self.run_s.map(u64::from),
            ),
            (
                "retry.max_attempts",
                job.retry.max_attempts.into(),
                self.max_attempts.map(u64::from),
            ),
            (
                "artifacts: the sum of max_bytes",
                artifact_bytes,
                self.artifact_bytes,
            ),
        ];
        for (field, asked, most) in asked {
            if let Some(most) = most.filter(|most| asked > *most) {
                let problem = format!("must be at most {most} for this tenant, is {asked}");
                return Err(FieldError::new(field, problem));
            }
        }
        Ok(())
    }
}

/// Tenants of whom nothing else is said take turns, one each.
fn default_weight() -> u32 {
    1
}

/// Hosts that are allowed together, and where they may lie.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowedHosts {
    /// Exact hosts and ports.
    #[schemars(length(min = 1, max = 64))]
    pub hosts: Vec<HostPort>,
    /// Ranges that are not public and in which these hosts may nevertheless lie. Default none, so that a name cannot lead into the
    /// operator's own network.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub networks: Vec<AddressRange>,
}

impl Tenant {
    /// What is allowed to a tenant of whom nothing is stored.
    pub fn unknown(name: Token) -> Self {
        Self {
            schema: TenantSchema,
            name,
            hosts: Vec::new(),
            concurrency: None,
            weight: default_weight(),
            limits: Limits::default(),
        }
    }

    /// Reads a body and checks every limit that the fields document.
    pub fn parse(body: &[u8]) -> Result<Self, FieldError> {
        let tenant: Self = field_error::parse(body, MAX_DEFINITION_BYTES)?;
        tenant.check()?;
        Ok(tenant)
    }

    /// The rules that allow `host`.
    pub fn rules_for<'a>(&'a self, host: &'a HostPort) -> impl Iterator<Item = &'a AllowedHosts> {
        self.hosts
            .iter()
            .filter(move |rule| rule.hosts.contains(host))
    }

    fn check(&self) -> Result<(), FieldError> {
        in_range_of_list("hosts", self.hosts.len(), 0)?;
        if let Some(concurrency) = self.concurrency {
            in_range("concurrency", concurrency.into(), 1, MAX_CONCURRENCY.into())?;
        }
        in_range("weight", self.weight.into(), 1, MAX_WEIGHT.into())?;
        for (index, rule) in self.hosts.iter().enumerate() {
            in_range_of_list(&format!("hosts[{index}].hosts"), rule.hosts.len(), 1)?;
            in_range_of_list(&format!("hosts[{index}].networks"), rule.networks.len(), 0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &[u8] = include_bytes!("../../examples/job.json");

    #[test]
    fn what_exceeds_a_tenants_limits_is_named() {
        let job = Job::parse(JOB).unwrap();
        assert_eq!(Limits::default().check(&job), Ok(()));
        let exactly = Limits {
            run_s: Some(job.timeouts.run_s),
            ..Limits::default()
        };
        assert_eq!(exactly.check(&job), Ok(()));
        let less = Limits {
            max_attempts: Some(1),
            ..Limits::default()
        };
        assert_eq!(
            less.check(&job).unwrap_err().to_string(),
            "retry.max_attempts: must be at most 1 for this tenant, is 2"
        );
    }
}
