//! The registry that an environment's packages come from: the one that this machine's npm is configured for.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

/// `[registries.<name>]` of the bakery's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Registry {
    /// Hosts with their ports, exactly.
    pub hosts: Vec<String>,
    /// Ranges outside the public internet in which they may lie.
    pub networks: Vec<String>,
    /// Variables that tell the registry's client where to go.
    pub env: std::collections::BTreeMap<String, String>,
}

/// TEST-NET-3 of RFC 5737. No public host has such an address, but mirrors inside sandboxes do, and the bakery lets a
/// guest reach an address that is not public only where its operator says so.
const SANDBOX_NETWORK: &str = "203.0.113.0/24";

impl Registry {
    /// What `npm config get registry` says.
    pub fn of_npm() -> Result<Self> {
        let output = Command::new("npm")
            .args(["config", "get", "registry"])
            .output()
            .context("run npm; deploy/install-packages sees to what is missing")?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("npm config get registry: {}\n{errors}", output.status);
        }
        Self::at(String::from_utf8_lossy(&output.stdout).trim())
    }

    fn at(address: &str) -> Result<Self> {
        Ok(Self {
            hosts: vec![endpoint(address)?],
            networks: vec![SANDBOX_NETWORK.to_owned()],
            env: [("npm_config_registry".to_owned(), address.to_owned())].into(),
        })
    }
}

/// `host:port` of an address. It names no user: a bake has no secrets.
fn endpoint(address: &str) -> Result<String> {
    let (scheme, rest) = address.split_once("://").unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let port = match scheme {
        "https" => 443,
        // The way out of a guest carries tunnels only, and a client makes one for https: alone.
        _ => bail!("npm's registry must be at an https: address, not {address:?}"),
    };
    if authority.is_empty() || authority.contains('@') {
        bail!("npm's registry needs an address with a host and without a user, not {address:?}");
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| {
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    Ok(if has_port {
        authority.to_owned()
    } else {
        format!("{authority}:{port}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_an_address_is_always_known() {
        for (address, expected) in [
            ("https://registry.example.com/", "registry.example.com:443"),
            (
                "https://registry.example.com:4873/npm/",
                "registry.example.com:4873",
            ),
            ("https://[2001:db8::7]/npm", "[2001:db8::7]:443"),
        ] {
            assert_eq!(endpoint(address).unwrap(), expected);
        }
    }

    #[test]
    fn an_address_that_no_guest_may_be_given_is_refused() {
        for address in [
            "http://registry.example.com",
            "",
            "ftp://example.com/",
            "https://",
            "https://user:secret@example.com/",
        ] {
            assert!(endpoint(address).is_err(), "{address}");
        }
    }

    #[test]
    fn the_client_is_told_the_whole_address() {
        let registry = Registry::at("https://registry.example.com/npm/").unwrap();
        assert_eq!(
            registry.env["npm_config_registry"],
            "https://registry.example.com/npm/"
        );
    }
}
