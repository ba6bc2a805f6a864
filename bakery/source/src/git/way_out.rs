//! The way out of the fetch VM: a proxy port inside, an egress proxy here.
//!
//! What always holds: the port is there as long as its [`WayOut`], and leads where the rules say, in the phase of sources and no other.

use std::sync::Arc;

use egress::{Log, Phase, Policy, Proxy, Resolver, Rule};
use tokio::task::{JoinHandle, JoinSet};
use vm::{AgentClient, ProxyPort};

use crate::git::problem::GitProblem;

/// An open way out.
pub(crate) struct WayOut {
    accepting: JoinHandle<()>,
}

impl WayOut {
    /// Opens the port inside the guest, and lets `rules` decide on what comes through it.
    pub(crate) async fn open(
        agent: &AgentClient,
        port: u16,
        rules: Vec<Rule>,
        resolver: Arc<dyn Resolver>,
    ) -> Result<Self, GitProblem> {
        let port = agent.proxy(port).await.map_err(GitProblem::Agent)?;
        let allow = |policy: Policy, rule| policy.allow(Phase::Source, rule);
        let policy = rules.into_iter().fold(Policy::nothing(), allow);
        // A new proxy is in the phase of sources.
        let proxy = Proxy::new(policy, resolver, Log::new());
        let accepting = tokio::spawn(accept(port, proxy));
        Ok(Self { accepting })
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
