//! The way out of a guest while its setup steps run: a proxy port inside, an egress proxy here.
//!
//! What always holds: the port exists only between [`WayOut::open`] and [`WayOut::close`]; after the latter, and after a drop, no tunnel
//! is left, so a guest is frozen without a connection.

use std::collections::BTreeMap;

use egress::{Counters, Log, Phase, Policy, Proxy, SystemResolver};
use schemas::guest::{CA_BUNDLE, PROXY_PORT};
use schemas::step::Env;
use schemas::{EnvName, Token};
use tokio::task::{JoinHandle, JoinSet};
use vm::{AgentClient, ProxyPort};

use crate::config::Registry;
use crate::error::BakeError;

/// An open way out.
pub(crate) struct WayOut {
    proxy: Proxy,
    accepting: JoinHandle<()>,
}

impl WayOut {
    /// Opens the port inside the guest, and lets `policy` decide on what comes through it.
    pub(crate) async fn open(agent: &AgentClient, policy: Policy) -> Result<Self, BakeError> {
        let port = agent.proxy(PROXY_PORT).await;
        let port = port.map_err(BakeError::agent("open the way out of the guest"))?;
        let proxy = Proxy::new(policy, SystemResolver, Log::new());
        proxy
            .advance(Phase::Setup)
            .await
            .expect("a new proxy is in the phase before");
        let accepting = tokio::spawn(accept(port, proxy.clone()));
        Ok(Self { proxy, accepting })
    }

    /// Closes the port and cuts what is open; returns what was let through and what was not.
    pub(crate) async fn close(mut self) -> Counters {
        self.accepting.abort();
        // Ended, or aborted just now: either way the port is dropped once this returns.
        let _aborted = (&mut self.accepting).await;
        self.proxy.close().await;
        self.proxy.log().counters()
    }
}

impl Drop for WayOut {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Serves each connection until this future is dropped, and its tunnels with it.
async fn accept(mut port: ProxyPort, proxy: Proxy) {
    let mut tunnels = JoinSet::new();
    while let Some(tunnel) = port.accept().await {
        let proxy = proxy.clone();
        tunnels.spawn(async move { proxy.serve(tunnel).await });
        while tunnels.try_join_next().is_some() {}
    }
}

/// The policy and the variables for an environment that names `registries`. Nothing is allowed in any other phase.
pub(crate) fn allowed(
    registries: &[Token],
    configured: &BTreeMap<Token, Registry>,
) -> Result<(Policy, Env), BakeError> {
    let mut policy = Policy::nothing();
    let mut env = proxy_variables();
    for name in registries {
        let registry = configured
            .get(name)
            .ok_or_else(|| BakeError::UnknownRegistry { name: name.clone() })?;
        policy = policy.allow(Phase::Setup, registry.rule.clone());
        env.extend(registry.env.clone());
    }
    Ok((policy, env))
}

/// What tells the usual clients where the proxy is and whom to trust.
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
        ("no_proxy", loopback),
        ("NO_PROXY", loopback),
        ("SSL_CERT_FILE", CA_BUNDLE),
        ("NODE_EXTRA_CA_CERTS", CA_BUNDLE),
    ];
    let name = |name| EnvName::parse(name).expect("a plain word is a name");
    values
        .into_iter()
        .map(|(variable, value)| (name(variable), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_that_the_operator_does_not_name_is_refused() {
        let error = allowed(&["npm".parse().unwrap()], &BTreeMap::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "network.registries: npm is not in the configuration of this bakery"
        );
    }

    #[test]
    fn a_registrys_variables_stand_above_those_of_the_proxy() {
        let name: EnvName = "no_proxy".parse().unwrap();
        let registry = Registry {
            rule: egress::Rule::default(),
            env: Env::from([(name.clone(), "b.example.com".to_owned())]),
        };
        let npm: Token = "npm".parse().unwrap();
        let configured = BTreeMap::from([(npm.clone(), registry)]);
        let (_, env) = allowed(&[npm], &configured).unwrap();
        assert_eq!(env[&name], "b.example.com");
    }
}
