//! Serving what comes through a proxy port: each connection by a task of its own, all of them together ended at once.
//!
//! What always holds: the port is open as long as its [`Serving`]. Once that is gone no connection is taken, and those that were taken are
//! cut.

use tokio::task::{JoinHandle, JoinSet};

use crate::agent::ProxyPort;
use crate::tunnel::Tunnel;

/// A port that is being served. Dropping it ends that.
#[derive(Debug)]
pub struct Serving(JoinHandle<()>);

impl ProxyPort {
    /// Serves each connection with a future that `serve` makes for it, until the session ends.
    pub fn serve<F>(self, serve: impl FnMut(Tunnel) -> F + Send + 'static) -> Serving
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Serving(tokio::spawn(accept(self, serve)))
    }
}

impl Serving {
    /// Closes the port. When this returns, the port is gone; what served its connections is being dropped.
    pub async fn end(mut self) {
        self.0.abort();
        // Ended, or aborted just now: either way the port is dropped once this returns.
        let _aborted = (&mut self.0).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves until this future is dropped, and its connections with it.
async fn accept<F>(mut port: ProxyPort, mut serve: impl FnMut(Tunnel) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    while let Some(tunnel) = port.accept().await {
        connections.spawn(serve(tunnel));
        while connections.try_join_next().is_some() {}
    }
}
