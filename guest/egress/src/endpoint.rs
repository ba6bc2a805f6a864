//! A host and a port, in the one spelling that is compared.
//!
//! Names are lower case without a trailing dot; addresses are in their canonical form. Two endpoints are the same exactly
//! when they are equal, so a policy is checked with `==` and nothing else.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name that DNS can carry, in bytes (RFC 1035, section 2.3.4).
const MAX_NAME_BYTES: usize = 253;
/// The longest label of a name, in bytes (RFC 1035, section 2.3.4).
const MAX_LABEL_BYTES: usize = 63;

/// A host and a port, written `registry.example:443`, `192.0.2.7:443` or `[2001:db8::7]:443`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    /// What is asked for.
    pub host: Host,
    /// TCP port, never 0. There is no default: a policy says what it opens.
    pub port: u16,
}

/// The host part of an [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A DNS name in lower case, without a trailing dot.
    Name(String),
    /// An address literal. It is allowed only where a policy lists that very address.
    Address(IpAddr),
}

/// Why a text is no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No port after the host.
    #[error("a port is missing, as in host:443")]
    NoPort,
    /// The port is not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    BadPort,
    /// The host has a user name in front of it.
    #[error("a user name is not allowed")]
    UserInfo,
    /// The host is neither a DNS name nor an address.
    #[error("the host is neither a name nor an address")]
    BadHost,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if text.contains('@') {
            return Err(EndpointError::UserInfo);
        }
        let (host, port) = text.rsplit_once(':').ok_or(EndpointError::NoPort)?;
        Ok(Self {
            host: host.parse()?,
            port: parse_port(port)?,
        })
    }
}

impl FromStr for Host {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Some(inner) = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            let address: Ipv6Addr = inner.parse().map_err(|_| EndpointError::BadHost)?;
            return Ok(Self::Address(address.into()));
        }
        if let Ok(address) = text.parse::<std::net::Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        if is_name(text) {
            Ok(Self::Name(text.to_ascii_lowercase()))
        } else {
            Err(EndpointError::BadHost)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            Host::Address(IpAddr::V4(_)) | Host::Name(_) => {
                write!(f, "{}:{}", self.host, self.port)
            }
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

/// Digits only: `parse` alone would also take `+443`.
fn parse_port(text: &str) -> Result<u16, EndpointError> {
    match text.parse() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        Ok(_) | Err(_) => Err(EndpointError::BadPort),
    }
}

/// Letters, digits, `-` and `_`, in labels. A name that ends in a number is refused, because the system resolver reads
/// `127.1` and `0x7f000001` as addresses (the same rule as the WHATWG URL standard's "ends in a number").
fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME_BYTES
        && text.split('.').all(is_label)
        && text
            .rsplit('.')
            .next()
            .is_some_and(|last| !last.starts_with(|first: char| first.is_ascii_digit()))
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL_BYTES).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, EndpointError> {
        text.parse::<Endpoint>()
            .map(|endpoint| endpoint.to_string())
    }

    #[test]
    fn a_name_is_compared_in_lower_case() {
        assert_eq!(
            parsed("Registry.Example:443").unwrap(),
            "registry.example:443"
        );
    }

    #[test]
    fn an_address_is_compared_in_its_canonical_form() {
        assert_eq!(parsed("192.0.2.7:80").unwrap(), "192.0.2.7:80");
        assert_eq!(
            parsed("[2001:DB8:0:0::7]:443").unwrap(),
            "[2001:db8::7]:443"
        );
    }

    #[test]
    fn what_is_not_exactly_a_host_and_a_port_is_refused() {
        let cases = [
            ("registry.example", EndpointError::NoPort),
            ("registry.example:", EndpointError::BadPort),
            ("registry.example:0", EndpointError::BadPort),
            ("registry.example:+443", EndpointError::BadPort),
            ("registry.example:65536", EndpointError::BadPort),
            ("someone@registry.example:443", EndpointError::UserInfo),
            (
                "registry.example:443@evil.example:443",
                EndpointError::UserInfo,
            ),
            ("registry.example.:443", EndpointError::BadHost),
            ("registry..example:443", EndpointError::BadHost),
            ("-registry.example:443", EndpointError::BadHost),
            (":443", EndpointError::BadHost),
            ("registry.example:80:443", EndpointError::BadHost),
            ("registry.example/:443", EndpointError::BadHost),
            ("régistry.example:443", EndpointError::BadHost),
            ("2001:db8::7:443", EndpointError::BadHost),
            ("[fe80::1%eth0]:443", EndpointError::BadHost),
        ];
        for (text, expected) in cases {
            assert_eq!(parsed(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_name_that_a_resolver_would_read_as_an_address_is_refused() {
        for text in [
            "127.1:443",
            "2130706433:443",
            "0x7f000001:443",
            "0177.0.0.1:443",
            "registry.0x7f:443",
        ] {
            assert_eq!(parsed(text), Err(EndpointError::BadHost), "{text}");
        }
    }

    #[test]
    fn a_name_is_at_most_253_bytes_of_labels_of_at_most_63() {
        let label = "a".repeat(MAX_LABEL_BYTES);
        let longest = [&label[..], &label, &label, &label[..61]].join(".");
        assert!(parsed(&format!("{longest}:443")).is_ok());
        assert_eq!(
            parsed(&format!("{longest}a:443")),
            Err(EndpointError::BadHost)
        );
        assert_eq!(
            parsed(&format!("{label}a.example:443")),
            Err(EndpointError::BadHost)
        );
    }
}
