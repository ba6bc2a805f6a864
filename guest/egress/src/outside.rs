//! Connecting to the outside: to an endpoint that rules list, at an address that they allow. The proxy of a guest connects through
//! this, and so does the host when it fetches something itself.
//!
//! ```text
//! endpoint ── listed? ── resolve ── address rules ── connect, to the checked address ──▶ stream
//!              NotAllowed  Unreachable  PrivateAddress  Unreachable
//! ```
//!
//! What always holds: of an endpoint that is not listed, nothing is resolved; no address is connected to that was not checked.

use std::net::SocketAddr;

use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::address;
use crate::endpoint::{Endpoint, Host};
use crate::limits;
use crate::policy::Rule;
use crate::resolve::Resolver;

/// Why the outside is not reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No rule lists the endpoint. Its name was not resolved.
    #[error("not allowed")]
    NotAllowed,
    /// The name leads to addresses that are not public, and not in the rules' networks either.
    #[error("leads to no address that is allowed")]
    PrivateAddress,
    /// The endpoint is allowed but could not be found or reached.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
}

/// Connects to `endpoint` if one of `rules` lists it, at an address that is public or in the networks of those that do.
pub async fn connect(
    rules: &[Rule],
    endpoint: &Endpoint,
    resolver: &dyn Resolver,
) -> Result<TcpStream, ConnectError> {
    let networks = networks_for(rules, endpoint).ok_or(ConnectError::NotAllowed)?;
    let mut addresses = addresses(endpoint, resolver).await?;
    addresses.retain(|found| address::is_allowed(found.ip(), &networks));
    if addresses.is_empty() {
        return Err(ConnectError::PrivateAddress);
    }
    first_to_answer(&addresses[..addresses.len().min(limits::ADDRESSES)]).await
}

/// The networks that `endpoint` may lie in besides public ones, or `None` if no rule lists it.
pub(crate) fn networks_for(rules: &[Rule], endpoint: &Endpoint) -> Option<Vec<IpNet>> {
    let mut listing = rules
        .iter()
        .filter(|rule| rule.hosts.contains(endpoint))
        .peekable();
    listing.peek()?;
    Some(
        listing
            .flat_map(|rule| rule.networks.iter().copied())
            .collect(),
    )
}

async fn addresses(
    endpoint: &Endpoint,
    resolver: &dyn Resolver,
) -> Result<Vec<SocketAddr>, ConnectError> {
    let unreachable = |problem: String| Err(ConnectError::Unreachable(problem));
    let name = match &endpoint.host {
        Host::Address(address) => return Ok(vec![(*address, endpoint.port).into()]),
        Host::Name(name) => name,
    };
    let found = match timeout(limits::RESOLVE_DEADLINE, resolver.resolve(name)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return unreachable(error.to_string()),
        Err(_elapsed) => return unreachable("no answer about its name".to_owned()),
    };
    if found.is_empty() {
        return unreachable("its name has no address".to_owned());
    }
    Ok(found
        .into_iter()
        .map(|address| (address, endpoint.port).into())
        .collect())
}

/// The first of `addresses` that answers.
async fn first_to_answer(addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    let mut failure = String::new();
    for address in addresses {
        match timeout(limits::CONNECT_DEADLINE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = error.to_string(),
            Err(_elapsed) => "no answer from its address".clone_into(&mut failure),
        }
    }
    Err(ConnectError::Unreachable(failure))
}
