//! What the operator allows a tenant. Bucket: [`crate::names::bucket::TENANTS`], key: the tenant.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::environment::MAX_DEFINITION_BYTES;
use crate::field_error::{self, FieldError, in_range_of_list};
use crate::https::{AddressRange, HostPort};
use crate::tag::schema_tag;
use crate::token::Token;

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
        for (index, rule) in self.hosts.iter().enumerate() {
            in_range_of_list(&format!("hosts[{index}].hosts"), rule.hosts.len(), 1)?;
            in_range_of_list(&format!("hosts[{index}].networks"), rule.networks.len(), 0)?;
        }
        Ok(())
    }
}
