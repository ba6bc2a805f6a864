//! What a guest may reach, and when: a table of phases, fixed when the guest starts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;

/// Where in its life a guest is. Phases only move forward, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// A source is being fetched.
    Source,
    /// An environment's setup steps run: what its lockfiles name is being installed.
    Setup,
    /// A job's steps run.
    Steps,
}

/// Hosts that are allowed together, and where they may lie. This is what an operator writes:
///
/// ```toml
/// hosts = ["registry.example:443"]
/// networks = ["10.20.0.0/16"]
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Exact hosts and ports. Default: none.
    #[serde(default)]
    pub hosts: Vec<Endpoint>,
    /// Ranges that are not public and in which these hosts may nevertheless lie, since mirrors often sit on private
    /// networks. Default: none, so that a name cannot lead into the operator's own network.
    #[serde(default)]
    pub networks: Vec<IpNet>,
}

/// The table of what is allowed in which phase. A phase without rules allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    phases: BTreeMap<Phase, Vec<Rule>>,
    /// Where any host may lie besides public addresses, where any host is allowed.
    audit: Option<Vec<IpNet>>,
}

impl Policy {
    /// Nothing is allowed in any phase.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Any host is allowed in any phase, at public addresses and in `networks`. What is asked for is in the log: for finding out what a
    /// program reaches, never for a guest that somebody else decides on.
    pub fn audit(networks: Vec<IpNet>) -> Self {
        Self {
            phases: BTreeMap::new(),
            audit: Some(networks),
        }
    }

    /// The same policy, with `rule` allowed in `phase` as well.
    #[must_use]
    pub fn allow(mut self, phase: Phase, rule: Rule) -> Self {
        self.phases.entry(phase).or_default().push(rule);
        self
    }

    /// What is allowed in `phase` to a request for `endpoint`.
    pub(crate) fn rules(&self, phase: Phase, endpoint: &Endpoint) -> Cow<'_, [Rule]> {
        let Some(networks) = &self.audit else {
            let rules = self.phases.get(&phase).map_or(&[][..], Vec::as_slice);
            return Cow::Borrowed(rules);
        };
        Cow::Owned(vec![Rule {
            hosts: vec![endpoint.clone()],
            networks: networks.clone(),
        }])
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Setup => "setup",
            Self::Steps => "steps",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::networks_for;

    fn rule(hosts: &[&str], networks: &[&str]) -> Rule {
        Rule {
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            networks: networks
                .iter()
                .map(|network| network.parse().unwrap())
                .collect(),
        }
    }

    fn networks(policy: &Policy, phase: Phase, endpoint: &str) -> Option<usize> {
        let endpoint = endpoint.parse().unwrap();
        networks_for(&policy.rules(phase, &endpoint), &endpoint).map(|networks| networks.len())
    }

    #[test]
    fn an_audit_allows_any_host_in_any_phase_and_in_the_networks_given() {
        let policy = Policy::audit(vec!["10.0.0.0/8".parse().unwrap()]);
        for phase in [Phase::Source, Phase::Setup, Phase::Steps] {
            assert_eq!(networks(&policy, phase, "any.example:1"), Some(1));
        }
    }

    #[test]
    fn a_host_is_allowed_in_the_phases_that_list_it_and_no_other() {
        let policy = Policy::nothing().allow(Phase::Setup, rule(&["registry.example:443"], &[]));
        assert_eq!(
            networks(&policy, Phase::Setup, "registry.example:443"),
            Some(0)
        );
        assert_eq!(
            networks(&policy, Phase::Source, "registry.example:443"),
            None
        );
        assert_eq!(
            networks(&policy, Phase::Steps, "registry.example:443"),
            None
        );
    }

    #[test]
    fn host_and_port_must_both_be_exactly_those_listed() {
        let policy = Policy::nothing().allow(Phase::Setup, rule(&["registry.example:443"], &[]));
        for other in [
            "registry.example:80",
            "a.registry.example:443",
            "example:443",
            "registry.example.evil.example:443",
        ] {
            assert_eq!(networks(&policy, Phase::Setup, other), None, "{other}");
        }
    }

    #[test]
    fn networks_are_those_of_the_rules_that_list_the_host() {
        let policy = Policy::nothing()
            .allow(Phase::Setup, rule(&["a.example:443"], &["10.0.0.0/8"]))
            .allow(Phase::Setup, rule(&["b.example:443"], &["172.16.0.0/12"]))
            .allow(Phase::Setup, rule(&["b.example:443"], &["192.168.0.0/16"]));
        assert_eq!(networks(&policy, Phase::Setup, "a.example:443"), Some(1));
        assert_eq!(networks(&policy, Phase::Setup, "b.example:443"), Some(2));
    }

    #[test]
    fn a_rule_is_read_from_the_operators_configuration() {
        let text = "hosts = ['Registry.example:443']\nnetworks = ['10.20.0.0/16']";
        assert_eq!(
            toml::from_str::<Rule>(text).unwrap(),
            rule(&["registry.example:443"], &["10.20.0.0/16"])
        );
    }

    #[test]
    fn a_rule_without_a_port_or_with_a_misspelt_field_is_refused() {
        let error = toml::from_str::<Rule>("hosts = ['registry.example']")
            .unwrap_err()
            .to_string();
        assert!(error.contains("a port is missing"), "{error}");
        assert!(toml::from_str::<Rule>("network = []").is_err());
    }
}
