//! The way out of a guest while its setup steps run: a proxy port inside, an egress proxy here.
//!
//! What always holds: the port exists only between [`WayOut::open`] and [`WayOut::close`]; after the latter, and after a drop, no tunnel
//! is left, so a guest whose setup is over has no connection.

use egress::{Counters, Log, Phase, Policy, Proxy, SystemResolver};
use schemas::guest::PROXY_PORT;
use vm::{AgentClient, Serving};

use crate::error::SetupError;

/// An open way out.
pub(crate) struct WayOut {
    proxy: Proxy,
    serving: Serving,
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
        let served = proxy.clone();
        let serving = port.serve(move |tunnel| {
            let proxy = served.clone();
            async move { proxy.serve(tunnel).await }
        });
        Ok(Self { proxy, serving })
    }

    /// Closes the port and cuts what is open; returns what was let through and what was not.
    pub(crate) async fn close(self) -> Counters {
        self.serving.end().await;
        self.proxy.close().await;
        self.proxy.log().counters()
    }
}
