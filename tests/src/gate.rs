//! A way to a server that is shut at first: whoever connects is refused, until it is opened.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::ports;

/// A port on loopback that leads, once it is open, to another.
#[derive(Debug)]
pub struct Gate {
    port: u16,
    server: u16,
    forwarding: Option<JoinHandle<()>>,
}

impl Gate {
    /// A way to the port `server` on which nobody listens yet.
    pub fn shut(server: u16) -> Result<Self> {
        let [port] = ports::free()?;
        Ok(Self {
            port,
            server,
            forwarding: None,
        })
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Opens it, until this is dropped.
    pub async fn open(self) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await;
        let listener = listener.with_context(|| format!("listen on port {}", self.port))?;
        let forwarding = tokio::spawn(forward(listener, self.server));
        Ok(Self {
            port: self.port,
            server: self.server,
            forwarding: Some(forwarding),
        })
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(forwarding) = &self.forwarding {
            forwarding.abort();
        }
    }
}

async fn forward(listener: TcpListener, server: u16) {
    while let Ok((mut client, _)) = listener.accept().await {
        tokio::spawn(async move {
            // A connection that breaks off does so on both sides.
            if let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await {
                let _ended = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_gate_refuses_until_it_is_open() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let gate = Gate::shut(server.local_addr().unwrap().port()).unwrap();
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, gate.port()));
        assert!(connect().await.is_err());
        let port = gate.port();
        let _open = gate.open().await.unwrap();
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .unwrap();
        let (mut served, _) = server.accept().await.unwrap();
        served.write_all(b"hello").await.unwrap();
        let mut greeting = [0; 5];
        client.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"hello");
    }
}
