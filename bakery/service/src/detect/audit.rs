//! The proxy of guests on a port of loopback, which lets everything through and remembers what it was asked for.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use egress::{Endpoint, Log, Policy, Proxy, SystemResolver};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// A listening proxy. It ends when this is dropped.
pub(super) struct Audit {
    address: SocketAddr,
    seen: Arc<Mutex<BTreeSet<Endpoint>>>,
    listening: AbortHandle,
}

impl Audit {
    /// Listens. The client is the operator's own, so it may reach what this host reaches.
    pub(super) async fn start() -> io::Result<Self> {
        let everywhere =
            ["0.0.0.0/0", "::/0"].map(|network| network.parse().expect("these are ranges"));
        let seen: Arc<Mutex<BTreeSet<Endpoint>>> = Arc::default();
        let remembering = Arc::clone(&seen);
        let log = Log::with_listener(move |entry| {
            if let Ok(endpoint) = format!("{}:{}", entry.host, entry.port).parse() {
                let mut seen = remembering.lock().unwrap_or_else(PoisonError::into_inner);
                seen.insert(endpoint);
            }
        });
        let proxy = Proxy::new(Policy::audit(everywhere.to_vec()), SystemResolver, log);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Ok(Self {
            address: listener.local_addr()?,
            seen,
            listening: tokio::spawn(serve(listener, proxy)).abort_handle(),
        })
    }

    /// Its address, as clients want it.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked for. A request is remembered once it has ended.
    pub(super) fn seen(&self) -> BTreeSet<Endpoint> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn serve(listener: TcpListener, proxy: Proxy) {
    while let Ok((stream, _)) = listener.accept().await {
        let proxy = proxy.clone();
        tokio::spawn(async move { proxy.serve(stream).await });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn what_a_client_asks_for_is_let_through_and_remembered() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = server.local_addr().unwrap().to_string();
        let audit = Audit::start().await.unwrap();
        let mut client = TcpStream::connect(audit.address).await.unwrap();
        let request = format!("CONNECT {endpoint} HTTP/1.1\r\nHost: {endpoint}\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let (mut inside, _) = server.accept().await.unwrap();
        inside.write_all(b"hello").await.unwrap();
        drop(inside);
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
        // The tunnel is at its end for the client a moment before it is in the log.
        while audit.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(audit.seen(), BTreeSet::from([endpoint.parse().unwrap()]));
    }
}
