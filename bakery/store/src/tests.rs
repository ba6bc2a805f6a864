//! The whole way, with an S3 server in this process: publish, find, fetch, and what must not be fetched.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bus::testing::S3Server;
use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::key::tests::parts;
use crate::memory::MemoryPointers;
use crate::objects::object_key;

/// A bucket, its pointers, and a directory for whatever lies on this machine.
struct Fixture {
    server: S3Server,
    pointers: Arc<MemoryPointers>,
    directory: TempDir,
}

impl Fixture {
    async fn start() -> Self {
        Self {
            server: S3Server::start().await,
            pointers: Arc::default(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// The store as another machine sees it, with a cache of its own.
    async fn store(&self, machine: &str) -> Store {
        let cache = self.directory.path().join(machine);
        let objects = self.server.objects.clone();
        Store::with_pointers(
            objects,
            self.pointers.clone(),
            CacheConfig {
                directory: cache,
                max_bytes: 1 << 40,
            },
        )
        .await
        .unwrap()
    }

    /// A directory with a sparse memory file, a state and a disk.
    fn baked(&self, memory: &[u8]) -> std::path::PathBuf {
        let dir = self.directory.path().join("baked");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("memory"), memory).unwrap();
        fs::write(dir.join("state"), "state").unwrap();
        fs::write(dir.join("disk"), vec![0; 1 << 20]).unwrap();
        dir
    }

    async fn put_object(&self, digest: &Sha256Digest, body: &[u8]) {
        let body = Bytes::copy_from_slice(body);
        let key = object_key(digest);
        let objects = &self.server.objects;
        objects
            .put(&objects.buckets().snapshots, &key, body)
            .await
            .unwrap();
    }
}

fn object_of(published: &Published, name: &str) -> Sha256Digest {
    let mut files = published.manifest.files.iter();
    files.find(|file| file.name == name).unwrap().object
}

#[tokio::test]
async fn a_snapshot_that_was_published_is_fetched_on_another_machine() {
    let fixture = Fixture::start().await;
    let baked = fixture.baked(b"memory");
    let details = Details {
        packages: vec!["make=4.3-4.1".to_owned()],
        source_date_epoch: Some(1_700_000_000),
        gate: None,
    };
    let published = fixture
        .store("bakery")
        .await
        .publish(&baked, parts(), details.clone(), &NoProgress)
        .await
        .unwrap();
    assert!(published.won);
    let worker = fixture.store("worker").await;
    assert_eq!(
        worker.find(&parts().key()).await.unwrap(),
        Some(published.digest)
    );
    let snapshot = worker.fetch(&parts().key(), &NoProgress).await.unwrap();
    assert_eq!(snapshot.manifest, published.manifest);
    assert_eq!(snapshot.manifest.details, details);
    for name in ["memory", "state", "disk"] {
        let path = snapshot.dir.join(name);
        assert_eq!(
            fs::read(&path).unwrap(),
            fs::read(baked.join(name)).unwrap()
        );
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o444);
    }
}

#[tokio::test]
async fn the_second_fetch_comes_from_the_cache() {
    let fixture = Fixture::start().await;
    let store = fixture.store("worker").await;
    let baked = fixture.baked(b"memory");
    let published = store
        .publish(&baked, parts(), Details::default(), &NoProgress)
        .await
        .unwrap();
    let first = store.fetch(&parts().key(), &NoProgress).await.unwrap();
    fixture
        .put_object(&object_of(&published, "memory"), b"damage")
        .await;
    assert_eq!(
        store.fetch(&parts().key(), &NoProgress).await.unwrap(),
        first
    );
    assert_eq!(
        fixture
            .store("worker")
            .await
            .fetch(&parts().key(), &NoProgress)
            .await
            .unwrap(),
        first
    );
}

#[tokio::test]
async fn what_is_stored_already_is_not_sent_again() {
    let fixture = Fixture::start().await;
    let store = fixture.store("bakery").await;
    let first = store
        .publish(
            &fixture.baked(b"memory"),
            parts(),
            Details::default(),
            &NoProgress,
        )
        .await
        .unwrap();
    let mut other = parts();
    other.salt = "b".to_owned();
    let second = store
        .publish(
            &fixture.baked(b"another"),
            other,
            Details::default(),
            &NoProgress,
        )
        .await
        .unwrap();
    let of = |published: &Published| -> u64 {
        published
            .manifest
            .files
            .iter()
            .map(|file| file.stored_bytes)
            .sum()
    };
    assert!(first.uploaded_bytes > of(&first));
    let manifest = second.manifest.to_bytes().len() as u64;
    let memory = second
        .manifest
        .files
        .iter()
        .find(|file| file.name == "memory");
    assert_eq!(
        second.uploaded_bytes,
        manifest + memory.unwrap().stored_bytes
    );
}

#[tokio::test]
async fn a_key_that_nobody_published_is_not_found() {
    let fixture = Fixture::start().await;
    let store = fixture.store("worker").await;
    let key = parts().key();
    assert_eq!(store.find(&key).await.unwrap(), None);
    let error = store.fetch(&key, &NoProgress).await.unwrap_err();
    assert_eq!(error.to_string(), format!("no snapshot has the key {key}"));
    assert_eq!(error.fault(), Fault::Host);
}

#[tokio::test]
async fn a_damaged_object_is_refused_and_nothing_of_it_is_left() {
    let fixture = Fixture::start().await;
    let store = fixture.store("bakery").await;
    let published = store
        .publish(
            &fixture.baked(b"memory"),
            parts(),
            Details::default(),
            &NoProgress,
        )
        .await
        .unwrap();
    let other = zstd::encode_all(b"yromem".as_slice(), 3).unwrap();
    fixture
        .put_object(&object_of(&published, "memory"), &other)
        .await;
    let worker = fixture.store("worker").await;
    let error = worker.fetch(&parts().key(), &NoProgress).await.unwrap_err();
    let digest = published.digest;
    assert_eq!(
        error.to_string(),
        format!("snapshot {digest}: memory is an object that does not have its own digest")
    );
    let cache = fixture.directory.path().join("worker");
    for directory in ["snapshots", "partial"] {
        assert_eq!(fs::read_dir(cache.join(directory)).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_damaged_manifest_is_refused() {
    let fixture = Fixture::start().await;
    let store = fixture.store("bakery").await;
    let published = store
        .publish(
            &fixture.baked(b"memory"),
            parts(),
            Details::default(),
            &NoProgress,
        )
        .await
        .unwrap();
    let digest = published.digest;
    fixture.put_object(&digest, b"{}").await;
    assert_eq!(
        store
            .fetch(&parts().key(), &NoProgress)
            .await
            .unwrap_err()
            .to_string(),
        format!("snapshot {digest}: its manifest does not have its own digest")
    );
    let key = parts().key();
    let not_a_manifest = Sha256Digest::of("{}");
    fixture.put_object(&not_a_manifest, b"{}").await;
    fixture
        .pointers
        .set(&names::snapshot_pointer(&key), not_a_manifest)
        .await
        .unwrap();
    let error = store
        .fetch(&key, &NoProgress)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("its manifest is no manifest: missing field"),
        "{error}"
    );
}

#[tokio::test]
async fn an_object_that_is_gone_is_named() {
    let fixture = Fixture::start().await;
    let store = fixture.store("worker").await;
    let key = parts().key();
    let digest = Sha256Digest::of("nothing");
    fixture
        .pointers
        .set(&names::snapshot_pointer(&key), digest)
        .await
        .unwrap();
    assert_eq!(
        store
            .fetch(&key, &NoProgress)
            .await
            .unwrap_err()
            .to_string(),
        format!("snapshot {digest}: its manifest is not in the object store")
    );
}

#[tokio::test]
async fn fetches_of_one_snapshot_at_once_end_in_one_directory() {
    let fixture = Fixture::start().await;
    let store = fixture.store("bakery").await;
    store
        .publish(
            &fixture.baked(b"memory"),
            parts(),
            Details::default(),
            &NoProgress,
        )
        .await
        .unwrap();
    let fetches = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.fetch(&parts().key(), &NoProgress).await.unwrap().dir })
    });
    let mut dirs = Vec::new();
    for fetch in fetches.collect::<Vec<_>>() {
        dirs.push(fetch.await.unwrap());
    }
    dirs.dedup();
    assert_eq!(dirs.len(), 1);
}

#[tokio::test]
async fn a_second_publication_replaces_the_first_and_caches_do_not_mix_them_up() {
    let fixture = Fixture::start().await;
    let store = fixture.store("bakery").await;
    for memory in ["first", "second"] {
        let baked = fixture.baked(memory.as_bytes());
        let published = store
            .publish(&baked, parts(), Details::default(), &NoProgress)
            .await
            .unwrap();
        assert!(published.won);
        let snapshot = store.fetch(&parts().key(), &NoProgress).await.unwrap();
        assert_eq!(snapshot.digest, published.digest);
        assert_eq!(
            fs::read(snapshot.dir.join("memory")).unwrap(),
            memory.as_bytes()
        );
    }
}

#[tokio::test]
async fn a_template_leads_to_the_key_that_was_set_last() {
    let fixture = Fixture::start().await;
    let store = fixture.store("bakery").await;
    let (class, name) = (parts().host_class, "node".parse().unwrap());
    assert_eq!(store.template_key(&class, &name).await.unwrap(), None);
    for text in ["first", "second"] {
        let key = Sha256Digest::of(text);
        store.set_template_key(&class, &name, key).await.unwrap();
        assert_eq!(store.template_key(&class, &name).await.unwrap(), Some(key));
    }
}

#[tokio::test]
async fn of_two_publishers_at_once_the_first_stands_for_both() {
    let fixture = Fixture::start().await;
    let store = fixture.store("bakery").await;
    let baked = fixture.baked(b"memory");
    let one = store.publish(&baked, parts(), Details::default(), &NoProgress);
    let two = store.publish(&baked, parts(), Details::default(), &NoProgress);
    let (one, two) = tokio::join!(one, two);
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one.won != two.won);
    assert_eq!(one.digest, two.digest);
    assert_eq!(one.manifest, two.manifest);
}

/// Damages the cached snapshot, and expects that it is downloaded again.
async fn mended(damage: impl FnOnce(&Path)) {
    let fixture = Fixture::start().await;
    let store = fixture.store("worker").await;
    let baked = fixture.baked(b"memory");
    store
        .publish(&baked, parts(), Details::default(), &NoProgress)
        .await
        .unwrap();
    let first = store.fetch(&parts().key(), &NoProgress).await.unwrap();
    damage(&first.dir);
    assert_eq!(
        store.fetch(&parts().key(), &NoProgress).await.unwrap(),
        first
    );
    assert_eq!(fs::read(first.dir.join("memory")).unwrap(), b"memory");
    let partial = fixture.directory.path().join("worker/partial");
    assert_eq!(fs::read_dir(partial).unwrap().count(), 0);
}

#[tokio::test]
async fn a_cached_snapshot_that_is_not_whole_is_downloaded_again() {
    mended(|dir| fs::remove_file(dir.join("manifest.json")).unwrap()).await;
    mended(|dir| {
        fs::remove_file(dir.join("manifest.json")).unwrap();
        fs::write(dir.join("manifest.json"), "").unwrap();
    })
    .await;
    mended(|dir| fs::remove_file(dir.join("memory")).unwrap()).await;
    mended(|dir| {
        fs::remove_file(dir.join("memory")).unwrap();
        fs::write(dir.join("memory"), "mem").unwrap();
    })
    .await;
    mended(|dir| {
        fs::remove_dir_all(dir).unwrap();
        fs::write(dir, "").unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_published_snapshot_is_whole_while_each_of_its_objects_is() {
    let fixture = Fixture::start().await;
    let store = fixture.store("bakery").await;
    let key = parts().key();
    assert_eq!(store.find_whole(&key).await.unwrap(), None);
    let baked = fixture.baked(b"memory");
    let published = store
        .publish(&baked, parts(), Details::default(), &NoProgress)
        .await
        .unwrap();
    let whole = Some(published.manifest.clone());
    assert_eq!(store.find_whole(&key).await.unwrap(), whole);
    for digest in [object_of(&published, "memory"), published.digest] {
        fixture.put_object(&digest, b"").await;
        assert_eq!(store.find_whole(&key).await.unwrap(), None);
    }
}

#[tokio::test]
async fn publishing_a_snapshot_that_is_not_whole_makes_it_so() {
    let fixture = Fixture::start().await;
    let store = fixture.store("bakery").await;
    let baked = fixture.baked(b"memory");
    let publish = || store.publish(&baked, parts(), Details::default(), &NoProgress);
    let published = publish().await.unwrap();
    fixture
        .put_object(&object_of(&published, "memory"), b"")
        .await;
    let again = publish().await.unwrap();
    let whole = store.find_whole(&parts().key()).await.unwrap();
    assert_eq!(whole, Some(again.manifest));
    let worker = fixture.store("worker").await;
    worker.fetch(&parts().key(), &NoProgress).await.unwrap();
}
