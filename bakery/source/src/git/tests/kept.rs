//! What is kept of a commit, who shares it, and when it goes.

use super::*;
use crate::values::Values as _;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_fetched_once_and_is_the_same_archive_wherever_it_is_made() {
    let rig = Rig::baked().await;
    let commit = rig.widget.head();
    let first = rig.bench.fetch(&rig.source(&commit, false)).await.unwrap();
    assert_eq!(first.digest.git_commit.as_ref().unwrap().as_str(), commit);
    assert_eq!(
        digest(&first, "package.json").await,
        Sha256Digest::of(b"{}\r\n")
    );
    assert_eq!(first.archive.newest_mtime(), 1_700_000_000);
    let stored = format!("s3://build-sources/acme/untrusted/git/{commit}/plain.tar.zst");
    assert_eq!(first.stored.uri.to_string(), stored);
    let asked = rig.server.asked.load(Ordering::Relaxed);
    let second = rig.bench.fetch(&rig.source(&commit, false)).await.unwrap();
    assert_eq!(second.digest, first.digest);
    assert_eq!(rig.server.asked.load(Ordering::Relaxed), asked);
    let from_s3 = rig.bench.fetch(&Source::Archive(first.stored)).await;
    assert_eq!(from_s3.unwrap().archive.entries(), 3);
    rig.bench.snapshots.clear();
    let third = rig.bench.fetch(&rig.source(&commit, false)).await.unwrap();
    assert_eq!(third.digest, first.digest);
    assert!(rig.server.asked.load(Ordering::Relaxed) > asked);
    assert_eq!(rig.bench.slots(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_that_nobody_fetches_for_long_goes_with_its_pointer() {
    let rig = Rig::baked().await;
    let source = rig.source(&rig.widget.head(), false);
    let first = rig.bench.fetch(&source).await.unwrap();
    let ArchiveUri::S3(uri) = &first.stored.uri else {
        panic!("{}", first.stored.uri)
    };
    let (sources, snapshots) = (&rig.bench.sources, &rig.bench.snapshots);
    let month = Duration::from_hours(30 * 24);
    let long_ago = std::time::SystemTime::now() - month;
    snapshots.put("git.odd", "x".into()).await.unwrap();
    snapshots.date_back(long_ago);
    rig.bench.fetch(&source).await.unwrap();
    assert_eq!(sources.collect_commits(month).await.unwrap(), 0);
    snapshots.date_back(long_ago);
    assert_eq!(sources.collect_commits(month).await.unwrap(), 1);
    assert_eq!(snapshots.list("git.").await.unwrap().len(), 1);
    let size = rig.bench.s3.objects.size(uri.bucket(), uri.key()).await;
    assert_eq!(size.unwrap(), None);
    let again = rig.bench.fetch(&source).await.unwrap();
    assert_eq!(again.digest, first.digest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_at_one_commit_share_its_failure() {
    let rig = Rig::baked().await;
    let absent = rig.source(&"1".repeat(40), false);
    rig.bench.fetch(&absent).await.unwrap_err();
    let alone = rig.server.asked.swap(0, Ordering::Relaxed);
    let fetch = || rig.bench.fetch(&absent);
    let (a, b) = tokio::join!(fetch(), fetch());
    assert_eq!(told(&a.unwrap_err()), told(&b.unwrap_err()));
    assert_eq!(rig.server.asked.load(Ordering::Relaxed), alone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_that_the_tenant_has_replaced_is_made_anew() {
    let rig = Rig::baked().await;
    let commit = rig.widget.head();
    let first = rig.bench.fetch(&rig.source(&commit, false)).await.unwrap();
    let ArchiveUri::S3(uri) = &first.stored.uri else {
        panic!("{}", first.stored.uri)
    };
    let put = rig
        .bench
        .s3
        .objects
        .put(uri.bucket(), uri.key(), "x".into());
    put.await.unwrap();
    let again = rig.bench.fetch(&rig.source(&commit, false)).await.unwrap();
    assert_eq!(again.digest, first.digest);
    let from_s3 = rig.bench.fetch(&Source::Archive(first.stored)).await;
    assert!(from_s3.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_at_one_commit_share_one_fetch() {
    let rig = Rig::baked().await;
    let alone = {
        let commit = rig.widget.head();
        rig.bench.fetch(&rig.source(&commit, false)).await.unwrap();
        rig.server.asked.swap(0, Ordering::Relaxed)
    };
    rig.widget.write("more", b"x");
    let source = rig.source(&rig.widget.commit(), false);
    let fetch = || rig.bench.fetch(&source);
    let (a, b, c) = tokio::join!(fetch(), fetch(), fetch());
    assert_eq!(a.unwrap().digest, b.unwrap().digest);
    assert!(c.is_ok());
    assert_eq!(rig.server.asked.load(Ordering::Relaxed), alone);
}
