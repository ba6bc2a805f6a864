//! Addresses behind https, and the hosts and networks that an operator allows.

use std::net::IpAddr;

use crate::text::{TextError, quoted, text_type};

/// Longest address: what servers and proxies take everywhere.
const MAX_URI_BYTES: usize = 2048;

/// Where https listens unless the address says otherwise.
const HTTPS_PORT: u16 = 443;

const SCHEME: &str = "https://";

text_type!(
    /// An address behind https: a host, perhaps a port, and a path. It holds no user, no password and no fragment, and only characters
    /// that go over the wire as they are.
    HttpsUri, check: check_https,
    schema: {"type": "string", "pattern": "^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[!-~]*)?$", "maxLength": 2048}
);

text_type!(
    /// A host and a port, as `git.example.com:443`. The host is written in lower case; it is a name or an IPv4 address.
    HostPort, check: check_host_port,
    schema: {"type": "string", "pattern": "^[a-z0-9.-]+:[0-9]{1,5}$", "maxLength": 261}
);

text_type!(
    /// A range of addresses, as `10.20.0.0/16`.
    AddressRange, check: check_range,
    schema: {"type": "string", "pattern": "^[0-9a-f.:]+/[0-9]{1,3}$"}
);

impl HttpsUri {
    /// The host in lower case, without the port.
    pub fn host(&self) -> String {
        let (authority, _) = self.parts();
        let host = authority
            .split_once(':')
            .map_or(authority, |(host, _)| host);
        host.to_ascii_lowercase()
    }

    /// The port, 443 where the address has none.
    pub fn port(&self) -> u16 {
        let (authority, _) = self.parts();
        let port = authority.split_once(':').map(|(_, port)| port);
        port.map_or(HTTPS_PORT, |port| {
            port.parse().expect("the port was read when this was made")
        })
    }

    /// Host and port as an operator allows them.
    pub fn endpoint(&self) -> HostPort {
        HostPort(format!("{}:{}", self.host(), self.port()))
    }

    /// Path and query; `/` where the address ends with its host.
    pub fn target(&self) -> &str {
        match self.parts() {
            (_, "") => "/",
            (_, target) => target,
        }
    }

    /// The address for a log or an error: without its query, which may be a key to what lies there.
    pub fn shown(&self) -> String {
        match self.0.split_once('?') {
            Some((shown, _)) => format!("{shown}?..."),
            None => self.0.clone(),
        }
    }

    /// What stands between the scheme and the first `/`, and the rest.
    fn parts(&self) -> (&str, &str) {
        let rest = &self.0[SCHEME.len()..];
        rest.split_at(rest.find('/').unwrap_or(rest.len()))
    }
}

fn check_https(text: &str) -> Result<(), TextError> {
    // Not its query, which may be a key to what lies there.
    let shown = quoted(text.split('?').next().unwrap_or(text));
    let refused = |problem: &str| {
        Err(TextError::new(format!(
            "must be https://<host>/<path> {problem}, is {shown}"
        )))
    };
    let Some(rest) = text.strip_prefix(SCHEME) else {
        return refused("with that scheme");
    };
    let plain = |byte: u8| byte.is_ascii_graphic() && !br##""#<>\^`{|}"##.contains(&byte);
    if text.len() > MAX_URI_BYTES || !text.bytes().all(plain) {
        return refused("of at most 2048 plain characters, without a fragment");
    }
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains(['@', '?']) {
        return refused("without a user or password");
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    if !is_host(&host.to_ascii_lowercase()) {
        return refused("with a host's name");
    }
    if port.is_some_and(|port| !is_port(port)) {
        return refused("with a port between 1 and 65535");
    }
    Ok(())
}

fn check_host_port(text: &str) -> Result<(), TextError> {
    let good = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| is_host(host) && is_port(port));
    if !good {
        return Err(TextError::new(format!(
            "must be <host>:<port> in lower case, is {}",
            quoted(text)
        )));
    }
    Ok(())
}

fn is_host(text: &str) -> bool {
    let good = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
    };
    (1..=255).contains(&text.len())
        && text.bytes().all(good)
        && text
            .split('.')
            .all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn check_range(text: &str) -> Result<(), TextError> {
    let good = text.split_once('/').is_some_and(|(address, bits)| {
        let most = match address.parse() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        bits.parse::<u8>().is_ok_and(|bits| bits <= most)
    });
    if !good {
        return Err(TextError::new(format!(
            "must be <address>/<bits>, is {}",
            quoted(text)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_a_port_and_what_is_asked_for() {
        let uri = HttpsUri::parse("https://Git.example.com:8443/a/b.git?x=1").unwrap();
        assert_eq!(uri.endpoint().as_str(), "git.example.com:8443");
        assert_eq!(uri.target(), "/a/b.git?x=1");
        let short = HttpsUri::parse("https://git.example.com").unwrap();
        assert_eq!((short.port(), short.target()), (443, "/"));
    }

    #[test]
    fn an_address_is_shown_without_its_query() {
        let shown = |uri: &str| HttpsUri::parse(uri).unwrap().shown();
        assert_eq!(
            shown("https://a.example/b?sig=secret"),
            "https://a.example/b?..."
        );
        assert_eq!(shown("https://a.example/b"), "https://a.example/b");
    }

    #[test]
    fn an_address_that_could_mean_another_host_is_refused() {
        for bad in [
            "http://a.example/",
            "https://",
            "https://user@a.example/",
            "https://a.example:0/",
            "https://a.example:+443/",
            "https://a.example:99999/",
            "https://a.example?x@b.example/",
            "https://a..example/",
            "https://a.example/#b",
            "https://a.example/ b",
            "https://a.example\\b.example/",
            "https://[::1]/",
        ] {
            assert!(HttpsUri::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_and_networks_are_checked() {
        assert!(HostPort::parse("git.example.com:443").is_ok());
        for bad in ["git.example.com", "A.example:1", ":1", "a:0", "a:x"] {
            assert!(HostPort::parse(bad).is_err(), "{bad}");
        }
        for good in ["10.0.0.0/8", "fd00::/8"] {
            assert!(AddressRange::parse(good).is_ok(), "{good}");
        }
        for bad in ["10.0.0.0", "10.0.0.0/33", "x/8"] {
            assert!(AddressRange::parse(bad).is_err(), "{bad}");
        }
    }
}
