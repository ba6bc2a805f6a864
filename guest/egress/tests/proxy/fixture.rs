//! What the tests of the proxy share: a resolver with a table, a server that echoes, and a proxy with its log.
#![allow(
    clippy::unwrap_used,
    reason = "clippy's exemption for tests covers test functions, not what they share"
)]

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use egress::{Entry, Log, Phase, Policy, Proxy, Resolver, Rule};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) const LOOPBACK: &[&str] = &["127.0.0.0/8"];

/// A resolver that knows a few names and counts how often it was asked.
#[derive(Clone, Default)]
pub(crate) struct Names {
    table: HashMap<String, Vec<IpAddr>>,
    pub(crate) asked: Arc<AtomicUsize>,
}

#[async_trait]
impl Resolver for Names {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.table
            .get(name)
            .cloned()
            .ok_or_else(|| io::Error::other("no such name"))
    }
}

pub(crate) fn names(entries: &[(&str, &[&str])]) -> Names {
    let addresses = |list: &[&str]| {
        list.iter()
            .map(|address| address.parse().unwrap())
            .collect()
    };
    let table = entries
        .iter()
        .map(|(name, list)| ((*name).to_owned(), addresses(list)))
        .collect();
    Names {
        table,
        asked: Arc::default(),
    }
}

/// A proxy whose setup phase allows `hosts` in `networks`, with every entry of its log.
pub(crate) struct Fixture {
    pub(crate) proxy: Proxy,
    pub(crate) entries: Arc<Mutex<Vec<Entry>>>,
}

impl Fixture {
    pub(crate) async fn in_setup(hosts: &[String], networks: &[&str], resolver: Names) -> Self {
        let rule = Rule {
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            networks: networks
                .iter()
                .map(|network| network.parse().unwrap())
                .collect(),
        };
        let entries = Arc::new(Mutex::new(Vec::new()));
        let log = Log::with_listener({
            let entries = Arc::clone(&entries);
            move |entry: &Entry| entries.lock().unwrap().push(entry.clone())
        });
        let proxy = Proxy::new(Policy::nothing().allow(Phase::Setup, rule), resolver, log);
        proxy.advance(Phase::Setup).await.unwrap();
        Self { proxy, entries }
    }

    /// Opens a stream to the proxy, as the agent channel does.
    pub(crate) fn open(&self) -> (DuplexStream, JoinHandle<()>) {
        let (guest, host) = tokio::io::duplex(4096);
        let proxy = self.proxy.clone();
        (guest, tokio::spawn(async move { proxy.serve(host).await }))
    }

    /// Opens a tunnel and reads the proxy's consent.
    pub(crate) async fn tunnel(&self, endpoint: &str) -> DuplexStream {
        let (mut guest, _served) = self.open();
        guest.write_all(connect(endpoint).as_bytes()).await.unwrap();
        let mut answer = [0; CONSENT.len()];
        guest.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, CONSENT.as_bytes());
        guest
    }

    /// Sends `request` and reads the whole answer.
    pub(crate) async fn ask(&self, request: &str) -> String {
        let (mut guest, served) = self.open();
        guest.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        guest.read_to_string(&mut answer).await.unwrap();
        served.await.unwrap();
        answer
    }

    /// Sends `request` and nothing after it, and reads the whole answer.
    pub(crate) async fn ask_and_finish(&self, request: &str) -> String {
        let (mut guest, served) = self.open();
        guest.write_all(request.as_bytes()).await.unwrap();
        guest.shutdown().await.unwrap();
        let mut answer = String::new();
        guest.read_to_string(&mut answer).await.unwrap();
        served.await.unwrap();
        answer
    }

    pub(crate) fn last(&self) -> Entry {
        self.entries.lock().unwrap().last().cloned().unwrap()
    }
}

pub(crate) const CONSENT: &str = "HTTP/1.1 200 Connection Established\r\n\r\n";

pub(crate) fn connect(endpoint: &str) -> String {
    format!("CONNECT {endpoint} HTTP/1.1\r\nHost: {endpoint}\r\n\r\n")
}

/// A server that sends back what it hears until the client has finished.
pub(crate) async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    address
}

/// An echo server that is allowed as `registry.example`.
pub(crate) async fn registry() -> (Fixture, String) {
    let endpoint = format!("registry.example:{}", echo().await.port());
    let resolver = names(&[("registry.example", &["127.0.0.1"])]);
    (
        Fixture::in_setup(std::slice::from_ref(&endpoint), LOOPBACK, resolver).await,
        endpoint,
    )
}

#[track_caller]
pub(crate) fn assert_refused(answer: &str, status: &str, line: &str) {
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
        "{answer}"
    );
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, format!("egress: {line}\n"));
    assert!(
        answer.contains(&format!("Content-Length: {}\r\n", body.len())),
        "{answer}"
    );
}
