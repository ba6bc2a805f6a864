//! Archives over https, fetched by the host itself: by the rules of the way out of a guest, with bounds on everything.
//!
//! ```text
//! uri ── allowed? ── resolve, check, connect ── TLS ── GET ── 200 ──▶ spool, hashed and counted
//!  ▲                                                    │
//!  ╰───────── Location, at most 5 times ◀── 301 … 308 ──╯
//! ```
//!
//! What always holds: a redirect is followed only to a host that the tenant may fetch from as well, over https, with every check again;
//! of any other host nothing is resolved. What comes back is bytes to be hashed: no header is believed.

mod problem;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use egress::{Endpoint, Resolver};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT_ENCODING, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use schemas::Sha256Digest;
use schemas::https::HttpsUri;
use schemas::source::ArchiveUri;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::error::SourceError;
use crate::hosts::{Hosts, Owner};
use crate::spool::{Spool, SpoolError};

pub use problem::HttpsProblem;

/// 5: a release page, a content network and what lies between them. curl's own limit is 50, browsers' 20.
const MAX_REDIRECTS: usize = 5;

/// 30 min for everything: 2 GiB over a line of 10 Mbit/s.
pub(crate) const DEADLINE: Duration = Duration::from_mins(30);

/// 60 s without a byte, in the handshake, before the answer or within it: the server is gone.
const IDLE: Duration = Duration::from_mins(1);

/// 200: characters of a refused address that its error repeats.
const SHOWN: usize = 200;

/// What a download needs besides its address.
pub(crate) struct Client<'a> {
    pub(crate) hosts: &'a Hosts,
    pub(crate) resolver: &'a dyn Resolver,
    /// Certificate authorities, as PEM.
    pub(crate) ca_bundle: &'a Path,
    /// Most bytes of an archive.
    pub(crate) limit: u64,
}

impl Client<'_> {
    /// Fetches `uri` into an unnamed file in the directory `into`; returns the digest of its bytes as well.
    pub(crate) async fn download(
        &self,
        uri: &HttpsUri,
        into: &Path,
    ) -> Result<(File, Sha256Digest), SourceError> {
        let failed = |source| SourceError::Https {
            uri: uri.clone(),
            source,
        };
        let endpoint = self.hosts.check(uri)?;
        let downloading = async {
            let (endpoint, answer) = self.follow(uri, endpoint).await.map_err(failed)?;
            self.spool(uri, endpoint, answer, into).await
        };
        let late = |_| failed(HttpsProblem::TimedOut("the download", DEADLINE));
        timeout(DEADLINE, downloading).await.map_err(late)?
    }

    /// Asks for `uri`, and for what it leads to, until the archive itself is offered.
    async fn follow(
        &self,
        uri: &HttpsUri,
        endpoint: Endpoint,
    ) -> Result<(Endpoint, Response<Incoming>), HttpsProblem> {
        let tls = tls(self.ca_bundle)?;
        let (mut uri, mut endpoint) = (uri.clone(), endpoint);
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.ask(&uri, &endpoint, &tls).await?;
            if answer.status() == StatusCode::OK {
                return Ok((endpoint, answer));
            }
            (uri, endpoint) = self.redirect(&uri, &endpoint, &answer)?;
        }
        Err(HttpsProblem::TooManyRedirects)
    }

    /// Sends one request over a connection of its own.
    async fn ask(
        &self,
        uri: &HttpsUri,
        endpoint: &Endpoint,
        tls: &TlsConnector,
    ) -> Result<Response<Incoming>, HttpsProblem> {
        let outside = egress::connect(self.hosts.rules(), endpoint, self.resolver).await;
        let outside = outside.map_err(|source| HttpsProblem::Connect {
            endpoint: endpoint.clone(),
            source,
        })?;
        let name = ServerName::try_from(uri.host())
            .map_err(|error| HttpsProblem::Name(uri.host(), error))?;
        let stream = in_time("the TLS handshake", tls.connect(name, outside)).await?;
        let stream = stream.map_err(|error| HttpsProblem::Tls(endpoint.clone(), error))?;
        let failed = |error| HttpsProblem::Http(endpoint.clone(), error);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        // Ends with the answer's body, or when that is dropped; what broke it the body says as well.
        tokio::spawn(connection);
        let answer = in_time("the answer", sender.send_request(request(uri))).await?;
        answer.map_err(failed)
    }

    /// Where `answer` leads, if it leads anywhere that we go.
    fn redirect(
        &self,
        from: &HttpsUri,
        endpoint: &Endpoint,
        answer: &Response<Incoming>,
    ) -> Result<(HttpsUri, Endpoint), HttpsProblem> {
        let status = answer.status();
        let leads_on = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
        let location = answer.headers().get(LOCATION).filter(|_| leads_on);
        let location = location.ok_or_else(|| HttpsProblem::Status {
            endpoint: endpoint.clone(),
            status,
        })?;
        let location = String::from_utf8_lossy(location.as_bytes());
        let refused = |problem| HttpsProblem::Redirect {
            endpoint: endpoint.clone(),
            // What follows the `?` may be a key to what lies there.
            to: location
                .chars()
                .take_while(|c| *c != '?')
                .take(SHOWN)
                .collect(),
            problem,
        };
        let to = resolve(from, &location).ok_or_else(|| refused("is no https address"))?;
        let endpoint = self.hosts.endpoint(&to);
        let endpoint = endpoint.ok_or_else(|| {
            refused(match self.hosts.owner() {
                Owner::Tenant(_) => "the tenant may not fetch from",
                Owner::Operator => "the operator may not fetch from",
            })
        })?;
        Ok((to, endpoint))
    }

    /// Copies the body, counted and hashed, whatever length the server announced.
    async fn spool(
        &self,
        uri: &HttpsUri,
        endpoint: Endpoint,
        answer: Response<Incoming>,
        into: &Path,
    ) -> Result<(File, Sha256Digest), SourceError> {
        let failed = |source| SourceError::Https {
            uri: uri.clone(),
            source,
        };
        let mut spool = Spool::new(into, self.limit)?;
        let mut body = answer.into_body();
        while let Some(frame) = in_time("the next piece", body.frame())
            .await
            .map_err(failed)?
        {
            let frame =
                frame.map_err(|error| failed(HttpsProblem::Http(endpoint.clone(), error)))?;
            let Ok(bytes) = frame.into_data() else {
                continue;
            };
            spool.write(&bytes).await.map_err(|error| match error {
                SpoolError::Disk(error) => SourceError::Spool(error),
                SpoolError::Full => SourceError::TooLarge {
                    uri: ArchiveUri::Https(uri.clone()),
                    limit: self.limit,
                },
            })?;
        }
        spool.finish().await
    }
}

/// What proves that a server is who it should be: the operator's certificate authorities, read anew for each download, so that a change
/// needs no restart.
fn tls(ca_bundle: &Path) -> Result<TlsConnector, HttpsProblem> {
    let failed = |source| HttpsProblem::Authorities {
        path: ca_bundle.to_owned(),
        source,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_bundle).map_err(failed)? {
        // One that rustls does not understand proves nothing; the others still do.
        let _odd = roots.add(certificate.map_err(failed)?);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has what the protocol versions ask for")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn request(uri: &HttpsUri) -> Request<Empty<Bytes>> {
    let host = match uri.port() {
        443 => uri.host(),
        port => format!("{}:{port}", uri.host()),
    };
    Request::get(uri.target())
        .header(HOST, host)
        .header(USER_AGENT, "sourdough")
        .header(ACCEPT_ENCODING, "identity")
        .body(Empty::new())
        .expect("an https address has a plain host and a plain target")
}

/// The address that `location` means on a page at `from` (RFC 3986, section 5.2, for what servers send); none if it is not https.
fn resolve(from: &HttpsUri, location: &str) -> Option<HttpsUri> {
    let location = location.split('#').next().unwrap_or_default();
    let authority = format!("https://{}:{}", from.host(), from.port());
    let text = if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("https:{location}")
    } else if location.starts_with('/') {
        format!("{authority}{location}")
    } else {
        let path = from.target().split('?').next().unwrap_or_default();
        let (directory, _) = path.rsplit_once('/')?;
        format!("{authority}{directory}/{location}")
    };
    HttpsUri::parse(text).ok()
}

async fn in_time<T>(
    what: &'static str,
    waiting: impl Future<Output = T>,
) -> Result<T, HttpsProblem> {
    let late = |_| HttpsProblem::TimedOut(what, IDLE);
    timeout(IDLE, waiting).await.map_err(late)
}
