//! The hosts that a tenant's sources may name, as the rules by which they are reached.

use std::fmt;

use egress::{Endpoint, Rule};
use schemas::https::HttpsUri;
use schemas::tenant::AllowedHosts;
use schemas::{Tenant, Token};

use crate::error::SourceError;

/// What the operator allows one tenant, or itself.
#[derive(Debug, Clone)]
pub(crate) struct Hosts {
    owner: Owner,
    rules: Vec<Rule>,
}

/// Who fetches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// A tenant, for its jobs.
    Tenant(Token),
    /// The operator, for templates.
    Operator,
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(tenant) => write!(formatter, "tenant {tenant}"),
            Self::Operator => formatter.write_str("the operator"),
        }
    }
}

impl Hosts {
    /// The hosts of `tenant`.
    pub(crate) fn of(tenant: &Tenant) -> Self {
        Self {
            owner: Owner::Tenant(tenant.name.clone()),
            rules: tenant.hosts.iter().map(rule).collect(),
        }
    }

    /// The hosts that the operator allows itself.
    pub(crate) fn of_operator(allowed: &Rule) -> Self {
        Self {
            owner: Owner::Operator,
            rules: vec![allowed.clone()],
        }
    }

    /// The endpoint of `uri`, if its owner may fetch from it. Nothing is resolved to find out.
    pub(crate) fn check(&self, uri: &HttpsUri) -> Result<Endpoint, SourceError> {
        self.endpoint(uri).ok_or_else(|| SourceError::NotAllowed {
            uri: uri.clone(),
            owner: self.owner.clone(),
            host: uri.endpoint(),
        })
    }

    /// The same, without the sentence.
    pub(crate) fn endpoint(&self, uri: &HttpsUri) -> Option<Endpoint> {
        let endpoint = uri.endpoint().as_str().parse().ok()?;
        self.rules
            .iter()
            .any(|rule| rule.hosts.contains(&endpoint))
            .then_some(endpoint)
    }

    /// Who fetches.
    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Every rule.
    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rules that list `endpoint`, with no other host in them.
    pub(crate) fn rules_for(&self, endpoint: &Endpoint) -> Vec<Rule> {
        self.rules
            .iter()
            .filter(|rule| rule.hosts.contains(endpoint))
            .map(|rule| Rule {
                hosts: vec![endpoint.clone()],
                networks: rule.networks.clone(),
            })
            .collect()
    }
}

/// What cannot be an endpoint, or a range, was never allowed: a name that ends in a number, a prefix longer than the address.
fn rule(allowed: &AllowedHosts) -> Rule {
    Rule {
        hosts: allowed
            .hosts
            .iter()
            .filter_map(|host| host.as_str().parse().ok())
            .collect(),
        networks: allowed
            .networks
            .iter()
            .filter_map(|range| range.as_str().parse().ok())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(tenant: &[u8]) -> Hosts {
        Hosts::of(&Tenant::parse(tenant).unwrap())
    }

    #[test]
    fn a_host_is_allowed_with_its_port_and_no_other() {
        let hosts = hosts(br#"{"name": "acme", "hosts": [{"hosts": ["git.example.com:443"]}]}"#);
        let check = |uri: &str| hosts.check(&HttpsUri::parse(uri).unwrap());
        assert!(check("https://Git.example.com/a").is_ok());
        for other in [
            "https://git.example.com:8443/a",
            "https://example.com/a",
            "https://127.1/a",
        ] {
            let sentence = check(other).unwrap_err().to_string();
            assert!(sentence.contains("tenant acme may not"), "{sentence}");
        }
    }

    #[test]
    fn a_way_out_for_one_host_opens_no_other() {
        let hosts = hosts(
            br#"{"name": "acme", "hosts": [{"hosts": ["a.example:443", "b.example:443"], "networks": ["10.0.0.0/8"]}]}"#,
        );
        let rules = hosts.rules_for(&"a.example:443".parse().unwrap());
        assert_eq!((rules.len(), rules[0].hosts.len()), (1, 1));
        assert_eq!(rules[0].networks.len(), 1);
    }
}
