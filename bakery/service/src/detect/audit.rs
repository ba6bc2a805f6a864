//! The proxy of guests on a port of loopback, which lets everything through and remembers what it was asked for.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use egress::{Endpoint, Log, Policy, Proxy, SystemResolver};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// 10 s for servers to close what a client has left.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// A listening proxy. It ends when this is dropped.
pub(super) struct Audit {
    address: SocketAddr,
    seen: Arc<Mutex<BTreeSet<Endpoint>>>,
    /// Connections that have not ended.
    open: watch::Sender<usize>,
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
        let open = watch::Sender::new(0);
        Ok(Self {
            address: listener.local_addr()?,
            seen,
            listening: tokio::spawn(serve(listener, proxy, open.clone())).abort_handle(),
            open,
        })
    }

    /// Its address, as clients want it.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a client that has ended asked for. A request is remembered once it has ended on the other side too, which is waited for.
    pub(super) async fn seen(&self) -> BTreeSet<Endpoint> {
        let mut open = self.open.subscribe();
        let all_ended = open.wait_for(|open| *open == 0);
        // A server that does not let go has been asked all the same; what it was asked is missing then.
        let _late = timeout(LAST_WORDS, all_ended).await;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn serve(listener: TcpListener, proxy: Proxy, open: watch::Sender<usize>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (proxy, open) = (proxy.clone(), open.clone());
        open.send_modify(|open| *open += 1);
        tokio::spawn(async move {
            proxy.serve(stream).await;
            open.send_modify(|open| *open -= 1);
        });
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
        let seen = audit.seen().await;
        assert_eq!(seen, BTreeSet::from([endpoint.parse().unwrap()]));
    }
}
