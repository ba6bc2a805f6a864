//! The way out of a guest while its setup steps run: a proxy port inside, an egress proxy here.
//!
//! What always holds: the port exists only between [`WayOut::open`] and [`WayOut::close`]; after the latter, and after a drop, no tunnel
//! is left, so a guest whose setup is over has no connection.

use egress::{Counters, Log, Phase, Policy, Proxy, SystemResolver};
use schemas::guest::PROXY_PORT;
use tokio::task::{JoinHandle, JoinSet};
use vm::{AgentClient, ProxyPort};

use crate::error::SetupError;

/// An open way out.
pub(crate) struct WayOut {
    proxy: Proxy,
    accepting: JoinHandle<()>,
}

impl WayOut {
    /// Opens the port inside the guest, and lets `policy` decide on what comes through it.
    pub(crate) async fn open(agent: &AgentClient, policy: Policy) -> Result<Self, SetupError> {
        let port = agent.proxy(PROXY_PORT).await;
        let port = port.map_err(SetupError::agent("open the way out of the guest"))?;
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
