//! `bakery registries`: what the names in an environment's `network.registries` mean on this host.

use serde::Serialize;
use setup::Registries;

use crate::table::Table;

/// A registry of the configuration. The values of its variables are not shown: an address may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its hosts.
    pub hosts: Vec<String>,
    /// Where they may lie besides public addresses.
    pub networks: Vec<String>,
    /// The variables that tell clients of it.
    pub variables: Vec<String>,
}

/// The registries of the configuration.
pub fn listed(registries: &Registries) -> Vec<Listed> {
    let listed = registries.iter().map(|(name, registry)| Listed {
        name: name.to_string(),
        hosts: texts(&registry.rule.hosts),
        networks: texts(&registry.rule.networks),
        variables: registry.env.keys().map(ToString::to_string).collect(),
    });
    listed.collect()
}

/// The same for a person.
pub fn table(registries: &[Listed]) -> Vec<String> {
    let mut table = Table::new(["NAME", "HOSTS", "NETWORKS", "VARIABLES"]);
    for listed in registries {
        let cells = [&listed.hosts, &listed.networks, &listed.variables];
        let [hosts, networks, variables] = cells.map(|cell| cell.join(" "));
        table.row([listed.name.clone(), hosts, networks, variables]);
    }
    table.lines()
}

fn texts(values: &[impl ToString]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_listed_without_its_password() {
        let text = "[npm]\nhosts = ['registry.example.com:443']\nnetworks = ['10.20.0.0/16']\n\
                    env = { npm_config_registry = 'https://user:password@registry.example.com/' }";
        let registries: Registries = toml::from_str(text).unwrap();
        let lines = table(&listed(&registries));
        assert_eq!(lines.len(), 2);
        assert!(
            lines[1].starts_with("npm   registry.example.com:443  10.20.0.0/16"),
            "{}",
            lines[1]
        );
        assert!(!lines[1].contains("password"), "{}", lines[1]);
    }
}
