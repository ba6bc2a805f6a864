//! Proposals without any client: addresses, networks, and what comes out as configuration.

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
