//! An https server on loopback, under a name of `example.com`, and the certificate authority that vouches for it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use egress::Resolver;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Answers requests.
pub(crate) type Handler =
    Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Full<Bytes>>> + Send + Sync>;

/// A running server.
pub(crate) struct Server {
    /// Its port on 127.0.0.1.
    pub(crate) port: u16,
    /// How many requests came.
    pub(crate) asked: Arc<AtomicUsize>,
    authority: String,
}

impl Server {
    /// Starts one that proves to be `name`.
    pub(crate) async fn start(name: &str, handler: Handler) -> Self {
        let (acceptor, authority) = acceptor(name);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, handler) = (acceptor.clone(), Arc::clone(&handler));
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else {
                        return;
                    };
                    let service = hyper::service::service_fn(move |request| {
                        count.fetch_add(1, Ordering::Relaxed);
                        let answer = handler(request);
                        async move { Ok::<_, io::Error>(answer.await) }
                    });
                    let server = auto::Builder::new(TokioExecutor::new());
                    // A client that leaves is its own matter.
                    drop(server.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Self {
            port,
            asked,
            authority,
        }
    }

    /// Writes the certificate authority into the directory `into`.
    pub(crate) fn ca_bundle(&self, into: &Path) -> PathBuf {
        let path = into.join("ca.pem");
        std::fs::write(&path, &self.authority).unwrap();
        path
    }
}

/// TLS as `name`, and the authority that vouches for it as PEM.
fn acceptor(name: &str) -> (TlsAcceptor, String) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    (
        TlsAcceptor::from(Arc::new(config)),
        authority_certificate.pem(),
    )
}

/// Serves fixed answers by path, and 404 for every other.
pub(crate) fn pages(pages: Vec<(&'static str, Response<Full<Bytes>>)>) -> Handler {
    let pages: HashMap<_, _> = pages.into_iter().collect();
    Arc::new(move |request| {
        let page = pages.get(request.uri().path()).cloned();
        let missing = || {
            Response::builder()
                .status(404)
                .body(Full::default())
                .unwrap()
        };
        let page = page.unwrap_or_else(missing);
        Box::pin(async move { page })
    })
}

/// How a server of repositories behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As git is today.
    Current,
    /// As one that knows git's first protocol only: it hands out what a branch or a tag points to, and nothing else.
    Old,
    /// As one with this configuration, which has a program that packs something else than what was asked for.
    Lying(PathBuf),
}

/// Serves every repository below the directory `root`, with git's own program for that.
pub(crate) fn repositories(root: &Path, manner: Manner) -> Handler {
    let root = root.to_owned();
    Arc::new(move |request| Box::pin(backend(root.clone(), manner.clone(), request)))
}

/// One request through `git http-backend`, which is a CGI program.
async fn backend(
    root: PathBuf,
    manner: Manner,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let header = |name: &str| {
        let value = head.headers.get(name).map(|value| value.to_str().unwrap());
        value.unwrap_or_default().to_owned()
    };
    let mut command = tokio::process::Command::new("git");
    command.env("GIT_CONFIG_GLOBAL", "/dev/null");
    match manner {
        Manner::Current => drop(command.env("GIT_PROTOCOL", header("git-protocol"))),
        Manner::Old => {}
        Manner::Lying(configuration) => {
            command.env("GIT_PROTOCOL", header("git-protocol"));
            command.env("GIT_CONFIG_GLOBAL", configuration);
        }
    }
    let mut child = command
        .arg("http-backend")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeding = tokio::spawn(async move { stdin.write_all(&body).await });
    let output = child.wait_with_output().await.unwrap();
    // It may have answered without reading all.
    drop(feeding.await);
    answer(&output.stdout)
}

/// What a CGI program wrote, as an answer.
fn answer(output: &[u8]) -> Response<Full<Bytes>> {
    let end = output.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap();
    let mut answer = Response::builder();
    for line in std::str::from_utf8(&output[..end]).unwrap().lines() {
        let (name, value) = line.split_once(": ").unwrap();
        answer = match name {
            "Status" => answer.status(&value[..3]),
            _ => answer.header(name, value),
        };
    }
    let body = Bytes::copy_from_slice(&output[end + 4..]);
    answer.body(Full::new(body)).unwrap()
}

/// A resolver that finds every name on loopback, and keeps the names that it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Loopback {
    pub(crate) asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Resolver for Loopback {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(name.to_owned());
        Ok(vec![Ipv4Addr::LOCALHOST.into()])
    }
}
