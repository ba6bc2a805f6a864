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
            ProgramError::Failed { .. }
            | ProgramError::Start { .. }
            | ProgramError::Late { .. } => error.to_string(),
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
            let note = format!("{}: {note}", address.endpoint);
            // Two sources of one site are one fact.
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
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
mod tests;
