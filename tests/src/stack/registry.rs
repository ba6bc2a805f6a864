//! The registries that environments' packages come from: those that this machine's own clients are configured for.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::programs::Programs;
use crate::state::State;

/// `[registries.<name>]` of the bakery's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registry {
    /// Hosts with their ports, exactly.
    pub hosts: Vec<String>,
    /// Ranges outside the public internet in which they may lie.
    #[serde(default)]
    pub networks: Vec<String>,
    /// Variables that tell the registry's client where to go.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// Which registries a stack's setups may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachable {
    /// npm's.
    Npm,
    /// Each that `bakery registries --detect` finds. It downloads a package with every client, so what it found is kept in the
    /// state directory.
    Detected,
}

/// What `bakery registries --detect` prints.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Detected {
    #[serde(default)]
    registries: BTreeMap<String, Registry>,
}

impl Reachable {
    /// The registries by their names. Blocks until they are known.
    pub fn find(self, state: &State, programs: &Programs) -> Result<BTreeMap<String, Registry>> {
        match self {
            Self::Npm => Ok([("npm".to_owned(), Registry::of_npm()?)].into()),
            Self::Detected => detected(state, programs),
        }
    }
}

fn detected(state: &State, programs: &Programs) -> Result<BTreeMap<String, Registry>> {
    let path = state.path().join("registries.toml");
    if let Ok(text) = fs::read_to_string(&path) {
        return parse(&text);
    }
    let output = Command::new(&programs.bakery)
        .args(["registries", "--detect"])
        .output()
        .context("run bakery registries --detect")?;
    ensure!(
        output.status.success(),
        "bakery registries --detect: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).context("a configuration is UTF-8")?;
    let found = parse(&text)?;
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(found)
}

fn parse(text: &str) -> Result<BTreeMap<String, Registry>> {
    let detected: Detected =
        toml::from_str(text).with_context(|| format!("read the registries in\n{text}"))?;
    Ok(detected.registries)
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
    fn what_was_detected_is_read() {
        let text = "# pip\n[registries.pip]\nhosts = [\"registry.example.com:443\"]\nenv = { A = \"b\" }\n";
        assert_eq!(parse(text).unwrap()["pip"].env["A"], "b");
    }

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
