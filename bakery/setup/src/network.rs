//! What a setup may reach: the registries and hosts that its environment names, as far as the operator allows them, and the variables
//! that tell the usual clients.
//!
//! What always holds: an environment widens nothing. A registry is what the operator's configuration says it is; a host is one that
//! the operator allows the tenant, in the networks that the operator allows with it.

use std::collections::BTreeMap;
use std::fmt;

use egress::{Endpoint, Phase, Policy, Rule};
use ipnet::IpNet;
use schemas::environment::Network;
use schemas::guest::{CA_BUNDLE, PROXY_PORT};
use schemas::https::HostPort;
use schemas::step::Env;
use schemas::{EnvName, Tenant, Token};
use serde::Deserialize;

use crate::error::SetupError;

/// What the names in an environment's `network.registries` mean.
pub type Registries = BTreeMap<Token, Registry>;

/// The hosts of one registry, and how its client is told about them. This is what an operator writes:
///
/// ```toml
/// hosts = ["registry.example.com:443"]
/// networks = ["10.20.0.0/16"]             # where these hosts may lie besides public addresses
/// env = { npm_config_registry = "https://registry.example.com/" }
/// ```
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RegistryFields")]
pub struct Registry {
    /// What the setup may reach.
    pub rule: Rule,
    /// Variables for the setup steps of environments that name this registry.
    pub env: Env,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegistryFields {
    hosts: Vec<Endpoint>,
    #[serde(default)]
    networks: Vec<IpNet>,
    #[serde(default)]
    env: Env,
}

impl TryFrom<RegistryFields> for Registry {
    type Error = &'static str;

    fn try_from(fields: RegistryFields) -> Result<Self, Self::Error> {
        if fields.hosts.is_empty() {
            return Err("hosts: must name at least one");
        }
        Ok(Self {
            rule: Rule {
                hosts: fields.hosts,
                networks: fields.networks,
            },
            env: fields.env,
        })
    }
}

/// Names of the variables only: the address of a registry may hold a password.
impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Registry")
            .field("rule", &self.rule)
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// The policy and the variables for an environment that asks for `network`; none where it asks for nothing, and then there is no port
/// and no variable that speaks of one. Nothing is allowed in any other phase than the setup.
pub fn way_out(
    network: &Network,
    registries: &Registries,
    tenant: &Tenant,
) -> Result<Option<(Policy, Env)>, SetupError> {
    if network.registries.is_empty() && network.allow.is_empty() {
        return Ok(None);
    }
    let mut policy = Policy::nothing();
    let mut env = proxy_variables();
    for name in &network.registries {
        let registry = registries
            .get(name)
            .ok_or_else(|| SetupError::UnknownRegistry { name: name.clone() })?;
        policy = policy.allow(Phase::Setup, registry.rule.clone());
        env.extend(registry.env.clone());
    }
    for (index, host) in network.allow.iter().enumerate() {
        policy = policy.allow(Phase::Setup, rule(index, host, tenant)?);
    }
    Ok(Some((policy, env)))
}

/// The rule for one host that an environment names: in the networks of all the tenant's rules that allow it.
fn rule(index: usize, host: &HostPort, tenant: &Tenant) -> Result<Rule, SetupError> {
    let mut allowed = tenant.rules_for(host).peekable();
    if allowed.peek().is_none() {
        return Err(SetupError::HostNotAllowed {
            index,
            host: host.clone(),
            tenant: tenant.name.clone(),
        });
    }
    let endpoint = host.as_str().parse().map_err(|source| SetupError::Host {
        index,
        host: host.clone(),
        source,
    })?;
    let ranges = allowed.flat_map(|rule| &rule.networks);
    let networks = ranges.map(|range| {
        let range = range.as_str().parse();
        range.expect("an address range was read when the tenant was")
    });
    Ok(Rule {
        hosts: vec![endpoint],
        networks: networks.collect(),
    })
}

/// What tells the usual clients where the proxy is and whom to trust. Each client that has a trust store or a variable of its own is
/// named: pip and requests, cargo, git, curl, npm and node. Go and uv read the common ones.
fn proxy_variables() -> Env {
    let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
    let loopback = "localhost,127.0.0.1,::1";
    let values = [
        ("http_proxy", proxy.as_str()),
        ("https_proxy", &proxy),
        ("HTTP_PROXY", &proxy),
        ("HTTPS_PROXY", &proxy),
        ("npm_config_proxy", &proxy),
        ("npm_config_https_proxy", &proxy),
        ("CARGO_HTTP_PROXY", &proxy),
        ("no_proxy", loopback),
        ("NO_PROXY", loopback),
        ("SSL_CERT_FILE", CA_BUNDLE),
        ("NODE_EXTRA_CA_CERTS", CA_BUNDLE),
        ("PIP_CERT", CA_BUNDLE),
        ("REQUESTS_CA_BUNDLE", CA_BUNDLE),
        ("CARGO_HTTP_CAINFO", CA_BUNDLE),
        ("GIT_SSL_CAINFO", CA_BUNDLE),
        ("CURL_CA_BUNDLE", CA_BUNDLE),
    ];
    let name = |name| EnvName::parse(name).expect("a plain word is a name");
    values
        .into_iter()
        .map(|(variable, value)| (name(variable), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use schemas::tenant::AllowedHosts;

    use super::*;

    fn nobody() -> Tenant {
        Tenant::unknown("acme".parse().unwrap())
    }

    fn asking(registries: &[&str], allow: &[&str]) -> Network {
        Network {
            registries: registries
                .iter()
                .map(|name| name.parse().unwrap())
                .collect(),
            allow: allow.iter().map(|host| host.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn who_asks_for_nothing_gets_no_way_out() {
        let none = way_out(&Network::default(), &Registries::new(), &nobody());
        assert_eq!(none.unwrap(), None);
    }

    #[test]
    fn a_registry_that_the_operator_does_not_name_is_refused() {
        let asked = asking(&["npm"], &[]);
        let error = way_out(&asked, &Registries::new(), &nobody()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "network.registries: npm is not in the configuration of this host's service"
        );
        assert_eq!(error.fault(), store::Fault::Job);
    }

    #[test]
    fn a_registrys_variables_stand_above_those_of_the_proxy() {
        let text = "
            hosts = ['registry.example.com:443']
            env = { no_proxy = 'b.example.com' }
        ";
        let registries =
            Registries::from([("npm".parse().unwrap(), toml::from_str(text).unwrap())]);
        let found = way_out(&asking(&["npm"], &[]), &registries, &nobody());
        let (_, env) = found.unwrap().unwrap();
        assert_eq!(
            env[&"no_proxy".parse::<EnvName>().unwrap()],
            "b.example.com"
        );
        assert_eq!(env[&"PIP_CERT".parse::<EnvName>().unwrap()], CA_BUNDLE);
    }

    #[test]
    fn a_registry_without_a_host_is_refused() {
        let error = toml::from_str::<Registry>("hosts = []").unwrap_err();
        assert_eq!(error.message(), "hosts: must name at least one");
    }

    #[test]
    fn a_host_that_the_tenant_is_not_allowed_is_named_with_its_place() {
        let asked = asking(&[], &["a.example.com:443"]);
        let error = way_out(&asked, &Registries::new(), &nobody()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "network.allow[0]: a.example.com:443 is not allowed to tenant acme"
        );
        assert_eq!(error.fault(), store::Fault::Job);
    }

    #[test]
    fn a_host_of_the_tenants_is_allowed_in_the_networks_that_go_with_it_and_in_no_other_phase() {
        let mut tenant = nobody();
        for network in ["10.0.0.0/8", "192.168.0.0/16"] {
            tenant.hosts.push(AllowedHosts {
                hosts: vec!["a.example.com:443".parse().unwrap()],
                networks: vec![network.parse().unwrap()],
            });
        }
        let asked = asking(&[], &["a.example.com:443"]);
        let found = way_out(&asked, &Registries::new(), &tenant).unwrap();
        let rule = Rule {
            hosts: vec!["a.example.com:443".parse().unwrap()],
            networks: vec![
                "10.0.0.0/8".parse().unwrap(),
                "192.168.0.0/16".parse().unwrap(),
            ],
        };
        let wanted = Policy::nothing().allow(Phase::Setup, rule);
        assert_eq!(found, Some((wanted, proxy_variables())));
    }

    #[test]
    fn what_a_resolver_would_read_as_an_address_is_refused_even_where_it_is_allowed() {
        let mut tenant = nobody();
        let host: HostPort = "127.1:443".parse().unwrap();
        tenant.hosts.push(AllowedHosts {
            hosts: vec![host],
            networks: Vec::new(),
        });
        let asked = asking(&[], &["127.1:443"]);
        let error = way_out(&asked, &Registries::new(), &tenant).unwrap_err();
        assert!(matches!(error, SetupError::Host { index: 0, .. }));
    }

    #[test]
    fn what_is_logged_of_a_registry_holds_no_value() {
        let text = "
            hosts = ['registry.example.com:443']
            env = { npm_config_registry = 'https://user:password@registry.example.com/' }
        ";
        let logged = format!("{:?}", toml::from_str::<Registry>(text).unwrap());
        assert!(!logged.contains("password"), "{logged}");
        assert!(logged.contains("npm_config_registry"), "{logged}");
    }
}
