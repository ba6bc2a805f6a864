//! What is not what its digest says, in the object store and in the cache: never had, and mended where that can be.

use super::*;

/// Flips one bit of the chunk's object, behind the server's back.
fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_chunk_with_a_flipped_bit_is_refused_and_fetched_again() {
    let fixture = Fixture::start().await;
    fixture.publish(&[1, 2], parts()).await;
    let (file, key) = (fixture.chunk_file(&filled(2)), Kind::Chunk.key(&filled(2)));
    let good = fs::read(&file).unwrap();
    flip(&file);
    let asked = Arc::new(Mutex::new(0));
    let counted = asked.clone();
    fixture.server.intercept(move |operation, object| {
        if operation == "GetObject" && object == key {
            let mut asked = counted.lock().unwrap();
            *asked += 1;
            if *asked == 2 {
                fs::write(&file, &good).unwrap();
            }
        }
        ready(true)
    });
    let worker = fixture.store("worker").await;
    let snapshot = worker.fetch(&parts().key(), &NoProgress).await.unwrap();
    assert_eq!(*asked.lock().unwrap(), 2);
    let memory = fs::read(snapshot.dir.join("memory")).unwrap();
    assert_eq!(memory[CHUNK_BYTES..], vec![2; CHUNK_BYTES]);
}

/// Fetches what must be refused, and gives the reason.
async fn refused(fixture: &Fixture) -> String {
    let worker = fixture.store("worker").await;
    let error = worker.fetch(&parts().key(), &NoProgress).await.unwrap_err();
    let cache = fixture.directory.path().join("worker");
    assert_eq!(count(&cache.join("snapshots")), 0);
    assert_eq!(error.fault(), Fault::Host);
    error.to_string()
}

#[tokio::test]
async fn a_chunk_that_stays_damaged_is_refused_with_the_snapshots_key_and_file() {
    let fixture = Fixture::start().await;
    fixture.publish(&[1, 2], parts()).await;
    let key = parts().key();
    let chunk = filled(2);
    // What is refused is withdrawn, and its chunk deleted.
    let again = || fixture.publish(&[1, 2], parts());
    for damage in [filled(1), Sha256Digest::of("state")] {
        let other = fs::read(fixture.chunk_file(&damage)).unwrap();
        fixture.put_object(Kind::Chunk, &chunk, &other).await;
        assert_eq!(
            refused(&fixture).await,
            format!("snapshot {key}: memory does not have the digest of its chunk {chunk}")
        );
        assert!(!fixture.chunk_file(&chunk).exists());
        again().await;
    }
    fixture.put_object(Kind::Chunk, &chunk, b"no zstd").await;
    let error = refused(&fixture).await;
    let wanted = format!("snapshot {key}: memory cannot be decompressed: ");
    assert!(error.starts_with(&wanted), "{error}");
    again().await;
    let long = vec![0; 1 << 20];
    fixture.put_object(Kind::Chunk, &chunk, &long).await;
    assert_eq!(
        refused(&fixture).await,
        format!("snapshot {key}: memory has a chunk of 1048576 bytes")
    );
}

#[tokio::test]
async fn a_chunk_that_is_gone_is_named() {
    let fixture = Fixture::start().await;
    fixture.publish(&[1, 2], parts()).await;
    fs::remove_file(fixture.chunk_file(&filled(2))).unwrap();
    let key = parts().key();
    assert_eq!(
        refused(&fixture).await,
        format!("snapshot {key}: memory is not whole in the object store")
    );
}

#[tokio::test]
async fn a_manifest_that_is_damaged_or_gone_is_refused() {
    let fixture = Fixture::start().await;
    let published = fixture.publish(&[1], parts()).await;
    let key = parts().key();
    fixture
        .put_object(Kind::Manifest, &published.digest, b"{}")
        .await;
    assert_eq!(
        refused(&fixture).await,
        format!("snapshot {key}: its manifest does not have its own digest")
    );
    let not_a_manifest = Sha256Digest::of("{}");
    fixture
        .put_object(Kind::Manifest, &not_a_manifest, b"{}")
        .await;
    let point = async |digest| {
        let name = names::snapshot_pointer(&key);
        fixture.pointers.set(&name, digest).await.unwrap();
    };
    point(not_a_manifest).await;
    let error = refused(&fixture).await;
    assert!(
        error.contains("its manifest is no manifest: missing field"),
        "{error}"
    );
    point(Sha256Digest::of("nothing")).await;
    assert_eq!(
        refused(&fixture).await,
        format!("snapshot {key}: its manifest is not whole in the object store")
    );
}

#[tokio::test]
async fn a_manifest_of_another_key_is_refused_and_its_own_snapshot_stays() {
    let fixture = Fixture::start().await;
    let published = fixture.publish(&[1], salted("other")).await;
    let (key, other) = (parts().key(), salted("other").key());
    let point = async || {
        let name = names::snapshot_pointer(&key);
        fixture.pointers.set(&name, published.digest).await.unwrap();
    };
    let wanted = format!("snapshot {key}: its manifest is that of key {other}");
    point().await;
    let bakery = fixture.store("bakery").await;
    assert_eq!(bakery.find_whole(&key).await.unwrap(), None);
    assert_eq!(refused(&fixture).await, wanted);
    assert_eq!(bakery.find(&key).await.unwrap(), None);
    // Now with the snapshot in the cache, where it stays.
    let worker = fixture.store("worker").await;
    let cached = worker.fetch(&other, &NoProgress).await.unwrap();
    point().await;
    let error = worker.fetch(&key, &NoProgress).await.unwrap_err();
    assert_eq!(error.to_string(), wanted);
    assert!(cached.dir.exists());
    assert!(bakery.find_whole(&other).await.unwrap().is_some());
}

#[tokio::test]
async fn a_snapshot_that_is_damaged_is_withdrawn_and_so_is_what_shares_the_damage() {
    let fixture = Fixture::start().await;
    let mut derived = parts();
    derived.template_key = Some(template().key());
    let publish = async || {
        fixture.publish(&[1, 2], template()).await;
        fixture.publish(&[1, 2, 3], derived.clone()).await;
    };
    publish().await;
    let bakery = fixture.store("bakery").await;
    let whole = async |parts: &KeyParts| {
        let found = bakery.find_whole(&parts.key()).await.unwrap();
        found.is_some()
    };
    flip(&fixture.chunk_file(&filled(2)));
    assert!(whole(&derived).await, "only who reads the chunk can tell");
    let worker = fixture.store("worker").await;
    let error = worker.fetch(&derived.key(), &NoProgress).await;
    assert!(matches!(error, Err(StoreError::Corrupt { .. })));
    assert_eq!(bakery.find(&derived.key()).await.unwrap(), None);
    assert!(!whole(&template()).await, "it is baked anew");
    publish().await;
    assert!(whole(&derived).await && whole(&template()).await);
    for parts in [derived.clone(), template()] {
        worker.fetch(&parts.key(), &NoProgress).await.unwrap();
    }
}

#[tokio::test]
async fn one_publication_mends_all_that_is_damaged_and_not_only_what_was_found() {
    let fixture = Fixture::start().await;
    let memory: Vec<u8> = (1..=40).collect();
    fixture.publish(&memory, parts()).await;
    for byte in &memory {
        flip(&fixture.chunk_file(&filled(*byte)));
    }
    refused(&fixture).await;
    let left = memory
        .iter()
        .any(|byte| fixture.chunk_file(&filled(*byte)).exists());
    assert!(left, "the fetch ended with the first");
    fixture.publish(&memory, parts()).await;
    let worker = fixture.store("worker").await;
    worker.fetch(&parts().key(), &NoProgress).await.unwrap();
}

#[tokio::test]
async fn what_was_published_anew_meanwhile_is_not_withdrawn() {
    let fixture = Fixture::start().await;
    fixture.publish(&[1], parts()).await;
    let store = fixture.store("worker").await;
    let key = parts().key();
    let before = store.pointer(&key).await.unwrap();
    let anew = fixture.publish(&[2], parts()).await;
    let error = StoreError::Missing {
        key,
        file: "memory".to_owned(),
    };
    store.withdraw(&key, before, &error).await;
    assert_eq!(store.find(&key).await.unwrap(), Some(anew.digest));
}

#[tokio::test]
async fn a_snapshot_stays_published_while_its_damage_cannot_be_deleted_or_was_seen_once_only() {
    let fixture = Fixture::start().await;
    fixture.publish(&[1, 2], parts()).await;
    let key = parts().key();
    flip(&fixture.chunk_file(&filled(2)));
    let worker = fixture.store("worker").await;
    fixture
        .server
        .intercept(|operation, _| ready(operation != "DeleteObject"));
    let error = worker.fetch(&key, &NoProgress).await.unwrap_err();
    assert!(error.to_string().starts_with("delete s3://"), "{error}");
    assert!(worker.find(&key).await.unwrap().is_some());
    let (damaged, asked) = (Kind::Chunk.key(&filled(2)), Mutex::new(0));
    fixture.server.intercept(move |operation, object| {
        let reads = operation == "GetObject" && object == damaged;
        *asked.lock().unwrap() += u32::from(reads);
        ready(!reads || *asked.lock().unwrap() != 1)
    });
    let error = worker.fetch(&key, &NoProgress).await.unwrap_err();
    assert!(error.to_string().starts_with("read s3://"), "{error}");
    assert!(worker.find(&key).await.unwrap().is_some());
    assert!(fixture.chunk_file(&filled(2)).exists());
}

#[tokio::test]
async fn a_snapshot_that_is_published_again_does_not_rely_on_its_templates_chunks() {
    let fixture = Fixture::start().await;
    fixture.publish(&[1, 2], template()).await;
    let mut derived = parts();
    derived.template_key = Some(template().key());
    fixture.publish(&[1, 2, 3], derived.clone()).await;
    flip(&fixture.chunk_file(&filled(2)));
    fixture.publish(&[1, 2, 3], derived.clone()).await;
    let worker = fixture.store("worker").await;
    worker.fetch(&derived.key(), &NoProgress).await.unwrap();
}

/// Damages the cached snapshot, and expects that it is downloaded again.
async fn mended(damage: impl FnOnce(&Path)) {
    let fixture = Fixture::start().await;
    let store = fixture.store("worker").await;
    fixture.publish(&[1], parts()).await;
    let first = store.fetch(&parts().key(), &NoProgress).await.unwrap();
    damage(&first.dir);
    let again = store.fetch(&parts().key(), &NoProgress).await.unwrap();
    assert_eq!(again, first);
    assert_eq!(
        fs::read(first.dir.join("memory")).unwrap(),
        vec![1; CHUNK_BYTES]
    );
    let cache = fixture.directory.path().join("worker");
    for directory in ["partial", "discarded"] {
        assert_eq!(count(&cache.join(directory)), 0);
    }
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
