//! Archives over https and what the operator allows, from a server on loopback; each refusal with its sentence.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use schemas::Reason;
use store::Fault;

use super::*;
use crate::testing::bench::Bench;
use crate::testing::server::{Server, pages};

/// The name that the server proves to be.
const NAME: &str = "files.example.com";

/// A tar with one file, as `.tar.zst`.
fn archive() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    tar.append_data(&mut header, "package.json", b"{}".as_slice())
        .unwrap();
    zstd::encode_all(tar.into_inner().unwrap().as_slice(), 3).unwrap()
}

fn page(status: u16, location: &str, body: &[u8]) -> Response<Full<Bytes>> {
    let body = Full::new(Bytes::copy_from_slice(body));
    let answer = Response::builder().status(status);
    answer.header("location", location).body(body).unwrap()
}

async fn server() -> Server {
    let body = archive();
    let handler = pages(vec![
        ("/a/b.tar.zst", page(200, "", &body)),
        ("/moved", page(302, "a/b.tar.zst", b"")),
        ("/absolute", page(301, "/moved#x", b"")),
        ("/circle", page(307, "/circle", b"")),
        ("/away", page(302, "https://other.example.com/a", b"")),
        ("/plain", page(302, "http://files.example.com/a", b"")),
        ("/broken", page(503, "", b"")),
        (
            "/signed",
            page(302, "https://other.example.com/a?sig=secret", b""),
        ),
    ]);
    Server::start(NAME, handler).await
}

/// A tenant that may fetch from the server, which lies on loopback.
async fn bench(server: &Server) -> Bench {
    let host = format!("{NAME}:{}", server.port);
    let tenant = format!(
        r#"{{"name": "acme", "hosts": [{{"hosts": ["{host}"], "networks": ["127.0.0.0/8"]}}]}}"#
    );
    Bench::new(server, &tenant).await
}

fn source(server: &Server, path: &str, digest: Sha256Digest) -> Source {
    https(&format!("https://{NAME}:{}{path}", server.port), digest)
}

fn https(uri: &str, digest: Sha256Digest) -> Source {
    Source::Archive(ArchiveSource {
        uri: uri.to_owned().try_into().unwrap(),
        digest: digest.into(),
    })
}

/// The error with its causes, its owner and its word.
fn told(error: &SourceError) -> (String, Fault, Reason) {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    let sentence: Vec<_> = causes.map(ToString::to_string).collect();
    (sentence.join(": "), error.fault(), error.reason())
}

#[tokio::test]
async fn an_archive_over_https_is_fetched_once_and_lies_in_the_object_store_afterwards() {
    let server = server().await;
    let bench = bench(&server).await;
    let digest = Sha256Digest::of(archive());
    for path in ["/absolute", "/absolute", "/not-even-there"] {
        let fetched = bench.fetch(&source(&server, path, digest)).await.unwrap();
        assert_eq!(fetched.archive.entries(), 1);
        assert_eq!(fetched.digest.sha256, digest);
        let kept = format!("s3://build-sources/acme/{digest}.tar.zst");
        assert_eq!(fetched.stored.uri.to_string(), kept);
        let again = bench.fetch(&Source::Archive(fetched.stored)).await.unwrap();
        assert_eq!(again.archive.entries(), 1);
    }
    // Two redirects and the archive, once.
    assert_eq!(server.asked.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn an_object_that_the_tenant_has_replaced_is_fetched_anew() {
    let server = server().await;
    let bench = bench(&server).await;
    let digest = Sha256Digest::of(archive());
    let key = names::source_object(&"acme".parse().unwrap(), &digest);
    let put = bench.s3.objects.put("build-sources", &key, "x".into());
    put.await.unwrap();
    let source = source(&server, "/a/b.tar.zst", digest);
    assert!(bench.fetch(&source).await.is_ok());
    let size = bench.s3.objects.size("build-sources", &key).await.unwrap();
    assert_eq!(size, Some(archive().len() as u64));
}

#[tokio::test]
async fn nothing_is_resolved_for_a_host_that_the_operator_does_not_allow() {
    let server = server().await;
    let bench = bench(&server).await;
    let digest = Sha256Digest::of(archive());
    for uri in [
        "https://other.example.com/a".to_owned(),
        format!("https://{NAME}/a"),
        format!("https://127.0.0.1:{}/a", server.port),
    ] {
        let error = bench.fetch(&https(&uri, digest)).await.unwrap_err();
        let (sentence, fault, reason) = told(&error);
        assert!(
            sentence.contains("tenant acme may not fetch from"),
            "{sentence}"
        );
        assert_eq!((fault, reason), (Fault::Job, Reason::InvalidJob));
    }
    let away = bench.fetch(&source(&server, "/away", digest)).await;
    let (sentence, fault, reason) = told(&away.unwrap_err());
    assert!(
        sentence.contains("the tenant may not fetch from"),
        "{sentence}"
    );
    assert_eq!((fault, reason), (Fault::Job, Reason::InvalidJob));
    assert_eq!(*bench.resolver.asked.lock().unwrap(), [NAME]);
}

#[tokio::test]
async fn an_allowed_name_that_leads_into_the_hosts_own_network_is_refused() {
    let server = server().await;
    let host = format!("{NAME}:{}", server.port);
    let tenant = format!(r#"{{"name": "acme", "hosts": [{{"hosts": ["{host}"]}}]}}"#);
    let bench = Bench::new(&server, &tenant).await;
    let source = source(&server, "/moved", Sha256Digest::of(b""));
    let (sentence, fault, _) = told(&bench.fetch(&source).await.unwrap_err());
    assert!(
        sentence.ends_with("leads to no address that is allowed"),
        "{sentence}"
    );
    assert_eq!(fault, Fault::Job);
    assert_eq!(server.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn answers_that_are_not_the_archive_are_told_apart() {
    let server = server().await;
    let bench = bench(&server).await;
    let digest = Sha256Digest::of(b"other");
    for (path, sentence, reason) in [
        ("/a/b.tar.zst", "has sha256", Reason::SourceDigestMismatch),
        ("/missing", "answers 404", Reason::InvalidJob),
        ("/broken", "answers 503", Reason::SourceUnavailable),
        ("/circle", "more than 5 redirects", Reason::InvalidJob),
        ("/plain", "is no https address", Reason::InvalidJob),
    ] {
        let error = bench.fetch(&source(&server, path, digest)).await;
        let told = told(&error.unwrap_err());
        assert!(told.0.contains(sentence), "{path}: {}", told.0);
        assert_eq!(told.2, reason, "{path}");
    }
}

#[tokio::test]
async fn what_follows_an_address_is_in_no_error() {
    let server = server().await;
    let mut bench = bench(&server).await;
    let digest = Sha256Digest::of(b"other");
    let errors = async |bench: &Bench| {
        let mut sentences = Vec::new();
        for path in ["/a/b.tar.zst", "/missing", "/signed", "/circle"] {
            let source = source(&server, &format!("{path}?sig=secret"), digest);
            sentences.push(told(&bench.fetch(&source).await.unwrap_err()).0);
        }
        let elsewhere = https("https://other.example.com/a?sig=secret", digest);
        sentences.push(told(&bench.fetch(&elsewhere).await.unwrap_err()).0);
        sentences
    };
    let mut sentences = errors(&bench).await;
    let shared = Arc::get_mut(&mut bench.sources.shared).unwrap();
    shared.config.limits.max_archive_bytes = 1;
    sentences.extend(errors(&bench).await);
    for sentence in sentences {
        assert!(!sentence.contains("secret"), "{sentence}");
        assert!(sentence.contains("?..."), "{sentence}");
    }
}

#[tokio::test]
async fn a_server_that_proves_to_be_another_is_not_asked() {
    let server = Server::start("other.example.com", pages(Vec::new())).await;
    let bench = bench(&server).await;
    let source = source(&server, "/a", Sha256Digest::of(b""));
    let (sentence, fault, _) = told(&bench.fetch(&source).await.unwrap_err());
    assert!(
        sentence.contains("speak TLS with files.example.com"),
        "{sentence}"
    );
    assert_eq!(fault, Fault::Host);
    assert_eq!(server.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_archive_that_is_larger_than_it_may_be_is_not_taken() {
    let server = server().await;
    let mut bench = bench(&server).await;
    let shared = Arc::get_mut(&mut bench.sources.shared).unwrap();
    shared.config.limits.max_archive_bytes = 20;
    let source = source(&server, "/a/b.tar.zst", Sha256Digest::of(archive()));
    let (sentence, ..) = told(&bench.fetch(&source).await.unwrap_err());
    assert!(sentence.ends_with("is larger than 20 bytes"), "{sentence}");
}

#[tokio::test]
async fn a_tenant_of_whom_nothing_is_stored_may_fetch_from_nowhere() {
    let server = server().await;
    let bench = bench(&server).await;
    let known = bench
        .sources
        .tenant(&"acme".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(known.hosts.len(), 1);
    let unknown: Token = "other".parse().unwrap();
    let unknown = bench.sources.tenant(&unknown).await.unwrap();
    assert!(unknown.hosts.is_empty());
    let odd = Bench::new(&server, "{}").await;
    let error = odd.sources.tenant(&"acme".parse().unwrap()).await;
    assert_eq!(error.unwrap_err().fault(), Fault::Host);
}
