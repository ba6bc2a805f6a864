//! Sources fetched from an S3 server in this process, and each refusal with its sentence.

use bus::testing::S3Server;
use bytes::Bytes;
use schemas::TreePath;
use store::Fault;

use super::*;

/// A tar with one file, `package.json`, as `.tar.zst`.
fn archive() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mtime(1_700_000_000);
    tar.append_data(&mut header, "package.json", b"{}".as_slice())
        .unwrap();
    zstd::encode_all(tar.into_inner().unwrap().as_slice(), 3).unwrap()
}

async fn fetch(
    server: &S3Server,
    uri: &str,
    digest: Sha256Digest,
    limits: &Limits,
) -> Result<Archive, SourceError> {
    fetch_again(server, &Recent::default(), "acme", uri, digest, limits).await
}

async fn fetch_again(
    server: &S3Server,
    recent: &Recent,
    tenant: &str,
    uri: &str,
    digest: Sha256Digest,
    limits: &Limits,
) -> Result<Archive, SourceError> {
    let source = ArchiveSource {
        uri: uri.to_owned().try_into().unwrap(),
        digest: digest.into(),
    };
    let into = tempfile::tempdir().unwrap();
    let tenant = tenant.parse().unwrap();
    let objects = &server.objects;
    fetch_archive(objects, recent, &source, &tenant, limits, into.path()).await
}

async fn server_with(key: &str, body: &[u8]) -> S3Server {
    let server = S3Server::start().await;
    let body = Bytes::copy_from_slice(body);
    server
        .objects
        .put("build-sources", key, body)
        .await
        .unwrap();
    server
}

#[tokio::test]
async fn an_archive_with_the_right_digest_is_read_and_its_inputs_are_hashed() {
    let stored = archive();
    let digest = Sha256Digest::of(&stored);
    let server = server_with("acme/a.tar.zst", &stored).await;
    let uri = "s3://build-sources/acme/a.tar.zst";
    let archive = fetch(&server, uri, digest, &Limits::default())
        .await
        .unwrap();
    assert_eq!(
        (archive.entries(), archive.newest_mtime()),
        (1, 1_700_000_000)
    );
    let input = TreePath::parse("package.json").unwrap();
    let both = [input.clone(), TreePath::parse("package-lock.json").unwrap()];
    let digests = archive.input_digests(&both[..1]).await.unwrap();
    assert_eq!(digests[&input], Sha256Digest::of("{}"));
    let error = archive.input_digests(&both).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "input package-lock.json: is not in the source"
    );
    assert_eq!(error.fault(), Fault::Job);
}

#[tokio::test]
async fn another_digest_than_the_jobs_is_refused_before_anything_is_read() {
    let server = server_with("acme/a.tar.zst", b"not even an archive").await;
    let uri = "s3://build-sources/acme/a.tar.zst";
    let wanted = Sha256Digest::of("wanted");
    let error = fetch(&server, uri, wanted, &Limits::default())
        .await
        .unwrap_err();
    let found = Sha256Digest::of("not even an archive");
    assert_eq!(
        error.to_string(),
        format!("source {uri}: has sha256 {found}, the job says {wanted}")
    );
    assert_eq!(error.fault(), Fault::Job);
}

#[tokio::test]
async fn a_source_that_is_not_there_is_the_messages_fault() {
    let server = S3Server::start().await;
    let uri = "s3://build-sources/acme/a.tar.zst";
    let error = fetch(&server, uri, Sha256Digest::of(""), &Limits::default())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), format!("source {uri}: is not there"));
    assert_eq!(error.fault(), Fault::Message);
}

#[tokio::test]
async fn what_was_fetched_a_moment_ago_is_there_for_its_tenant_and_its_digest_alone() {
    let stored = archive();
    let (server, recent) = (
        server_with("acme/a.tar.zst", &stored).await,
        Recent::default(),
    );
    let fetch = async |tenant, digest| {
        let (uri, limits) = ("s3://build-sources/acme/a.tar.zst", Limits::default());
        fetch_again(&server, &recent, tenant, uri, digest, &limits).await
    };
    let digest = Sha256Digest::of(&stored);
    fetch("acme", digest).await.unwrap();
    let deleted = server.objects.delete("build-sources", "acme/a.tar.zst");
    deleted.await.unwrap();
    // Its bytes are there also when the directory is gone in which they were put.
    let again = fetch("acme", digest).await.unwrap();
    let input = [TreePath::parse("package.json").unwrap()];
    let digests = again.input_digests(&input).await.unwrap();
    assert_eq!(digests[&input[0]], Sha256Digest::of("{}"));
    let other_digest = fetch("acme", Sha256Digest::of("another")).await;
    assert!(matches!(other_digest, Err(SourceError::Missing { .. })));
    let other_tenant = fetch("other", digest).await;
    assert!(matches!(other_tenant, Err(SourceError::Address { .. })));
}

#[tokio::test]
async fn an_address_outside_the_tenants_own_is_refused_without_a_look() {
    let server = server_with("other/a.tar.zst", &archive()).await;
    let digest = Sha256Digest::of(archive());
    for uri in [
        "s3://build-sources/other/a.tar.zst",
        "s3://build-sources/acme-2/a.tar.zst",
        "s3://build-artifacts/acme/a.tar.zst",
    ] {
        let error = fetch(&server, uri, digest, &Limits::default())
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("source {uri}: must lie under s3://build-sources/acme/")
        );
        assert_eq!(error.fault(), Fault::Message);
    }
}

#[tokio::test]
async fn an_archive_that_is_too_large_is_refused_by_its_announced_size() {
    let stored = archive();
    let server = server_with("acme/a.tar.zst", &stored).await;
    let limits = Limits {
        max_archive_bytes: stored.len() as u64 - 1,
        ..Limits::default()
    };
    let uri = "s3://build-sources/acme/a.tar.zst";
    let error = fetch(&server, uri, Sha256Digest::of(&stored), &limits)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "source {uri}: is larger than {} bytes",
            limits.max_archive_bytes
        )
    );
    assert_eq!(error.fault(), Fault::Job);
}
