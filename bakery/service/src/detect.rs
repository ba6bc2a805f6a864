//! `bakery registries --detect`: what the package managers of this host download from, as settings for the configuration.
//!
//! | registry | how its hosts are found |
//! | --- | --- |
//! | `npm` | npm is asked for its configured registry |
//! | `debian` | apt is asked for its enabled sources |
//! | `pip`, `cargo` | one download of a small package by each, through our own proxy, which lists the hosts that it is asked for |
//!
//! What always holds: no host is written in this program; what is proposed was said or asked for by a client of this very host.

mod audit;
mod clients;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use egress::{Endpoint, Host, Resolver, SystemResolver};
use ipnet::IpNet;
use serde::Serialize;

use crate::program::ProgramError;
use crate::progress_bar::Bar;

/// A /24 around an address: mirrors of one name mostly stand side by side.
const PREFIX_V4: u8 = 24;

/// A /64, the usual subnet.
const PREFIX_V6: u8 = 64;

/// 127: how a program that is not there "ends", as the shell has it and `setpriv` too.
const NOT_FOUND: i32 = 127;

/// What was found out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Detected {
    /// What is proposed, by name, as the configuration has it.
    pub registries: BTreeMap<&'static str, Proposal>,
    /// What is worth knowing of them, by name: also why one is missing.
    pub notes: BTreeMap<&'static str, Vec<String>>,
}

/// A registry as it stands in the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Proposal {
    /// Its hosts.
    pub hosts: BTreeSet<Endpoint>,
    /// Ranges around those of their addresses that are not public.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub networks: BTreeSet<IpNet>,
    /// Variables that tell the client of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<&'static str, String>,
}

/// What one client says or shows.
#[derive(Debug, Default)]
struct Finding {
    hosts: BTreeSet<Endpoint>,
    env: BTreeMap<&'static str, String>,
    notes: Vec<String>,
}

/// Asks all of them.
pub async fn run(bar: &Bar) -> anyhow::Result<Detected> {
    let mut detected = Detected::default();
    detected.take("npm", clients::npm().await).await;
    bar.turn_to("asking apt");
    detected.take("debian", clients::debian().await).await;
    bar.turn_to("one download by pip");
    detected.take("pip", Box::pin(clients::pip()).await?).await;
    bar.turn_to("one download by cargo");
    detected
        .take("cargo", Box::pin(clients::cargo()).await?)
        .await;
    Ok(detected)
}

impl Detected {
    async fn take(&mut self, name: &'static str, finding: Finding) {
        if !finding.notes.is_empty() {
            self.notes.insert(name, finding.notes);
        }
        if finding.hosts.is_empty() {
            return;
        }
        let proposal = Proposal {
            networks: networks(&finding.hosts, &SystemResolver).await,
            hosts: finding.hosts,
            env: finding.env,
        };
        self.registries.insert(name, proposal);
    }

    /// As lines of the configuration.
    pub fn lines(&self) -> Vec<String> {
        let names: BTreeSet<_> = self.registries.keys().chain(self.notes.keys()).collect();
        names
            .into_iter()
            .flat_map(|name| self.block(name))
            .collect()
    }

    fn block(&self, name: &str) -> Vec<String> {
        let notes = self.notes.get(name).into_iter().flatten();
        let mut lines: Vec<_> = notes
            .map(|note| format!("# {name}: {}", one_line(note)))
            .collect();
        if let Some(proposal) = self.registries.get(name) {
            lines.push(format!("[registries.{name}]"));
            let list = |values: Vec<String>| toml::Value::from(values).to_string();
            lines.push(format!("hosts = {}", list(texts(&proposal.hosts))));
            if !proposal.networks.is_empty() {
                lines.push(format!("networks = {}", list(texts(&proposal.networks))));
            }
            if !proposal.env.is_empty() {
                let table = proposal
                    .env
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), toml::Value::from(value.as_str())));
                lines.push(format!("env = {}", toml::Value::Table(table.collect())));
            }
        }
        lines.push(String::new());
        lines
    }
}

impl Finding {
    /// Of a client that would not do it. What it said is the end of its own complaint.
    fn failed(client: &str, error: &ProgramError) -> Self {
        let note = match error {
            ProgramError::Failed { status, .. } if status.code() == Some(NOT_FOUND) => {
                format!("{client} is not installed")
            }
            ProgramError::Failed { .. } | ProgramError::Start { .. } => error.to_string(),
        };
        Self {
            notes: vec![note],
            ..Self::default()
        }
    }

    /// Takes in the registry at `url`, which `variable` tells the client.
    fn add_url(&mut self, url: &str, variable: Option<&'static str>) {
        let Some(address) = Address::parse(url) else {
            self.notes.push(format!(
                "what is configured is no address with a host: {}",
                without_login(url)
            ));
            return;
        };
        if address.plain {
            let note = "plain http, which a guest's way out does not carry: it needs a mirror behind https";
            self.notes.push(format!("{}: {note}", address.endpoint));
        }
        if let Some(variable) = variable {
            if address.login {
                self.notes.push(format!(
                    "its address holds a login, so that {variable} is left for you to set"
                ));
            } else {
                self.env.insert(variable, url.to_owned());
            }
        }
        self.hosts.insert(address.endpoint);
    }
}

/// What matters of an address with a scheme.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    endpoint: Endpoint,
    plain: bool,
    login: bool,
}

impl Address {
    fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.trim().split_once("://")?;
        let (plain, port) = match scheme {
            "https" => (false, 443),
            "http" => (true, 80),
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#']).next()?;
        let (login, host) = match authority.rsplit_once('@') {
            Some((_, host)) => (true, host),
            None => (false, authority),
        };
        let endpoint: Endpoint = host
            .parse()
            .or_else(|_| format!("{host}:{port}").parse())
            .ok()?;
        Some(Self {
            endpoint,
            plain,
            login,
        })
    }
}

/// Ranges around those addresses of the hosts that are not public.
async fn networks(hosts: &BTreeSet<Endpoint>, resolver: &dyn Resolver) -> BTreeSet<IpNet> {
    let mut networks = BTreeSet::new();
    for endpoint in hosts {
        let addresses = match &endpoint.host {
            Host::Address(address) => vec![*address],
            // A name that has no address now has none to cover.
            Host::Name(name) => resolver.resolve(name).await.unwrap_or_default(),
        };
        networks.extend(
            addresses
                .into_iter()
                .filter(|address| !egress::is_public(*address))
                .map(around),
        );
    }
    networks
}

fn around(address: IpAddr) -> IpNet {
    let prefix = match address {
        IpAddr::V4(_) => PREFIX_V4,
        IpAddr::V6(_) => PREFIX_V6,
    };
    let network = IpNet::new(address, prefix).expect("both prefixes are shorter than an address");
    network.trunc()
}

fn texts<'a>(values: impl IntoIterator<Item = &'a (impl ToString + 'a)>) -> Vec<String> {
    values.into_iter().map(ToString::to_string).collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn without_login(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::config::Config;

    /// Knows names by a table.
    struct Names(&'static [(&'static str, &'static str)]);

    #[async_trait]
    impl Resolver for Names {
        async fn resolve(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
            let known = self.0.iter().filter(|(known, _)| *known == name);
            Ok(known.map(|(_, address)| address.parse().unwrap()).collect())
        }
    }

    #[test]
    fn an_address_is_taken_apart_by_its_scheme() {
        let endpoint = |url: &str| {
            Address::parse(url)
                .map(|address| (address.endpoint.to_string(), address.plain, address.login))
        };
        assert_eq!(
            endpoint("https://a.example.com/npm/"),
            Some(("a.example.com:443".into(), false, false))
        );
        assert_eq!(
            endpoint("http://a.example.com:8080"),
            Some(("a.example.com:8080".into(), true, false))
        );
        assert_eq!(
            endpoint("https://u:p@a.example.com/x@y"),
            Some(("a.example.com:443".into(), false, true))
        );
        for bad in ["a.example.com", "file:///a", "https://", "undefined"] {
            assert_eq!(endpoint(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn networks_cover_the_addresses_that_are_not_public_and_no_others() {
        let resolver = Names(&[
            ("a.example.com", "10.20.30.40"),
            ("a.example.com", "10.20.30.41"),
            ("a.example.com", "fd00::1:2:3:4"),
            ("b.example.com", "8.8.8.8"),
        ]);
        let hosts = [
            "a.example.com:443",
            "b.example.com:443",
            "c.example.com:443",
        ];
        let hosts = hosts
            .into_iter()
            .map(|host| host.parse().unwrap())
            .collect();
        let found = texts(&networks(&hosts, &resolver).await);
        assert_eq!(found, ["10.20.30.0/24", "fd00::/64"]);
    }

    #[test]
    fn what_is_proposed_can_stand_in_the_configuration_as_it_is() {
        let mut npm = Finding::default();
        npm.add_url(
            "https://registry.example.com:8443/npm/",
            Some("npm_config_registry"),
        );
        let proposal = Proposal {
            hosts: npm.hosts,
            networks: ["10.20.30.0/24".parse().unwrap()].into(),
            env: npm.env,
        };
        let detected = Detected {
            registries: BTreeMap::from([("npm", proposal)]),
            notes: BTreeMap::from([("cargo", vec!["cargo is\nnot installed".to_owned()])]),
        };
        let lines = detected.lines();
        assert_eq!(lines[0], "# cargo: cargo is not installed");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("bakery.toml");
        std::fs::write(&file, format!("state = '/s'\n{}", lines.join("\n"))).unwrap();
        let config = Config::load(&file, |_| None).unwrap();
        let (name, registry) = config.registries.first_key_value().unwrap();
        assert_eq!(name.as_str(), "npm");
        assert_eq!(
            registry.rule.hosts[0].to_string(),
            "registry.example.com:8443"
        );
        assert_eq!(registry.rule.networks.len(), 1);
        assert_eq!(
            registry.env.values().next().unwrap(),
            "https://registry.example.com:8443/npm/"
        );
    }

    #[test]
    fn a_login_is_never_proposed() {
        let mut finding = Finding::default();
        finding.add_url(
            "https://user:password@registry.example.com/",
            Some("npm_config_registry"),
        );
        assert!(finding.env.is_empty());
        assert!(
            finding.notes[0].starts_with("its address holds a login"),
            "{:?}",
            finding.notes
        );
        finding.add_url("ftp://user:password@registry.example.com/", None);
        assert!(!format!("{finding:?}").contains("password"));
    }
}
