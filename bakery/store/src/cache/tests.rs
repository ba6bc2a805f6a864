//! The cache's directory: found, installed, discarded, within its limit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tempfile::TempDir;

use super::*;

const KIB: u64 = 1024;

fn cache(max_bytes: u64) -> (TempDir, Cache) {
    let root = tempfile::tempdir().unwrap();
    let cache = reopened(&root, max_bytes);
    (root, cache)
}

/// As another process opens it.
fn reopened(root: &TempDir, max_bytes: u64) -> Cache {
    let directory = root.path().to_owned();
    Cache::open(&CacheConfig {
        directory,
        max_bytes,
    })
    .unwrap()
}

/// Installs a snapshot of `kib` KiB, last used that many seconds after the epoch.
async fn install(cache: &Cache, name: &str, kib: usize, used: u64) -> (Sha256Digest, InUse) {
    let digest = Sha256Digest::of(name);
    let download = cache.lock(&digest).await.unwrap();
    fs::create_dir_all(&download.directory).unwrap();
    fs::write(download.directory.join("memory"), vec![1; kib << 10]).unwrap();
    let (path, in_use) = cache.install(&download.directory, &digest).unwrap();
    download.done();
    set_used(&path, used);
    (digest, in_use)
}

fn set_used(path: &Path, used: u64) {
    let file = File::options()
        .write(true)
        .open(path.join(USED_FILE))
        .unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(used))
        .unwrap();
}

/// Lets the use end as long ago as it was.
fn unused(cache: &Cache, (digest, in_use): (Sha256Digest, InUse), used: u64) -> Sha256Digest {
    drop(in_use);
    set_used(&cache.snapshot(&digest), used);
    digest
}

fn count(directory: PathBuf) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[tokio::test]
async fn a_snapshot_is_found_once_it_is_installed() {
    let (root, cache) = cache(1 << 30);
    let digest = Sha256Digest::of("a");
    assert!(cache.find(&digest).unwrap().is_none());
    install(&cache, "a", 1, 1).await;
    let (path, _in_use) = reopened(&root, 1 << 30).find(&digest).unwrap().unwrap();
    assert_eq!(fs::read(path.join("memory")).unwrap(), vec![1; 1024]);
    assert_eq!(count(cache.partials()), 0);
}

#[tokio::test]
async fn what_is_discarded_is_gone_and_may_be_so_already() {
    let (_root, cache) = cache(1 << 30);
    let (digest, _in_use) = install(&cache, "a", 1, 1).await;
    for _ in 0..2 {
        cache.discard(&digest).unwrap();
        assert!(cache.find(&digest).unwrap().is_none());
        assert_eq!(count(cache.discarded()), 0);
    }
}

#[test]
fn what_is_discarded_is_gone_also_while_another_process_sweeps() {
    let (root, cache) = cache(1 << 30);
    let other = reopened(&root, 1 << 30);
    let done = AtomicBool::new(false);
    let done = &done;
    thread::scope(|scope| {
        scope.spawn(move || {
            while !done.load(Ordering::SeqCst) {
                other.sweep(SystemTime::UNIX_EPOCH).unwrap();
            }
        });
        let path = cache.snapshot(&Sha256Digest::of("a"));
        let discarded = (0..200).all(|_| {
            fs::create_dir(&path).is_ok()
                && cache.discard(&Sha256Digest::of("a")).is_ok()
                && !path.exists()
        });
        // Before it is asserted, or the other thread would never end.
        done.store(true, Ordering::SeqCst);
        assert!(discarded);
    });
}

#[tokio::test]
async fn what_was_used_longest_ago_leaves_first_and_what_is_in_use_never() {
    let (root, cache) = cache(400 * KIB);
    let oldest = install(&cache, "oldest", 100, 1).await;
    let middle = install(&cache, "middle", 100, 2).await;
    let middle = unused(&cache, middle, 2);
    let latest = install(&cache, "latest", 100, 3).await;
    let latest = unused(&cache, latest, 3);
    let download = cache.lock(&Sha256Digest::of("new")).await.unwrap();
    reopened(&root, 400 * KIB)
        .make_room(150 * KIB, &download)
        .unwrap();
    let here = |digest| cache.snapshot(&digest).exists();
    assert_eq!(
        (here(oldest.0), here(middle), here(latest)),
        (true, false, true)
    );
    cache.make_room(1 << 30, &download).unwrap();
    assert_eq!((here(oldest.0), here(latest)), (true, false));
    let oldest = unused(&cache, oldest, 1);
    cache.make_room(1 << 30, &download).unwrap();
    assert!(!here(oldest));
}

#[tokio::test]
async fn holes_take_no_room_and_a_download_continues_in_the_room_it_has() {
    let (_root, cache) = cache(300 * KIB);
    let kept = install(&cache, "kept", 100, 1).await;
    let kept = unused(&cache, kept, 1);
    let sparse = cache.snapshot(&kept).join("disk");
    File::create(sparse).unwrap().set_len(1 << 40).unwrap();
    let download = cache.lock(&Sha256Digest::of("new")).await.unwrap();
    fs::create_dir_all(&download.directory).unwrap();
    fs::write(download.directory.join("memory"), vec![1; 150 << 10]).unwrap();
    cache.make_room(180 * KIB, &download).unwrap();
    assert!(cache.snapshot(&kept).exists());
}

#[tokio::test]
async fn a_download_that_nobody_works_on_leaves_too() {
    let (_root, cache) = cache(100 * KIB);
    let left = cache.lock(&Sha256Digest::of("left")).await.unwrap();
    fs::create_dir_all(&left.directory).unwrap();
    fs::write(left.directory.join("memory"), vec![1; 90 << 10]).unwrap();
    let download = cache.lock(&Sha256Digest::of("new")).await.unwrap();
    cache.make_room(50 * KIB, &download).unwrap();
    assert!(left.directory.exists(), "it is under way");
    let directory = left.directory.clone();
    drop(left);
    cache.make_room(50 * KIB, &download).unwrap();
    assert!(!directory.exists());
}

#[tokio::test]
async fn a_download_is_abandoned_after_a_day_without_progress_and_not_before() {
    let (_root, cache) = cache(1 << 30);
    let left = cache.lock(&Sha256Digest::of("left")).await.unwrap();
    fs::create_dir_all(&left.directory).unwrap();
    let directory = left.directory.clone();
    let begun = left.locked.metadata().unwrap().modified().unwrap();
    let late = begun + ABANDONED + Duration::from_secs(1);
    cache.sweep(late).unwrap();
    assert!(directory.exists(), "it is under way");
    drop(left);
    cache.sweep(begun + ABANDONED).unwrap();
    assert!(directory.exists());
    cache.sweep(late).unwrap();
    assert_eq!(count(cache.partials()), 0);
}
