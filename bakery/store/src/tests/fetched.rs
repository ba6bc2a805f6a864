//! What a fetch brings, and from where.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

#[tokio::test]
async fn a_snapshot_that_was_published_is_fetched_on_another_machine() {
    let fixture = Fixture::start().await;
    let baked = fixture.baked(&[1, 0, 2]);
    let details = Details {
        packages: vec!["make=4.3-4.1".to_owned()],
        source_date_epoch: Some(1_700_000_000),
        gate: None,
    };
    let bakery = fixture.store("bakery").await;
    let published = bakery
        .publish(&baked, parts(), details.clone(), &NoProgress)
        .await
        .unwrap();
    let worker = fixture.store("worker").await;
    let key = parts().key();
    assert_eq!(worker.find(&key).await.unwrap(), Some(published.digest));
    let progress = Last::default();
    let snapshot = worker.fetch(&key, &progress).await.unwrap();
    assert_eq!(snapshot.manifest, published.manifest);
    assert_eq!(snapshot.manifest.details, details);
    for name in ["memory", "state"] {
        let path = snapshot.dir.join(name);
        assert_eq!(
            fs::read(&path).unwrap(),
            fs::read(baked.join(name)).unwrap()
        );
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o444);
    }
    let told = progress.told();
    assert_eq!((told.chunks_done, told.chunks_total), (3, 3));
    assert_eq!((told.what, told.chunks_saved), (Direction::Download, 0));
    assert_eq!(told.bytes_done, told.bytes_total);
}

#[tokio::test]
async fn zeros_are_holes_on_the_disk() {
    let fixture = Fixture::start().await;
    fixture.publish(&[0, 0, 0, 0, 1, 0, 0, 0], parts()).await;
    let store = fixture.store("worker").await;
    let snapshot = store.fetch(&parts().key(), &NoProgress).await.unwrap();
    let of = |name| snapshot.dir.join(name).metadata().unwrap();
    assert_eq!(of("disk").len(), 4 << 30);
    assert_eq!(of("disk").blocks(), 0);
    assert!(of("memory").blocks() * 512 <= CHUNK_BYTES as u64 + 4096);
}

#[tokio::test]
async fn a_chunk_that_occurs_twice_is_downloaded_once() {
    let fixture = Fixture::start().await;
    fixture.publish(&[1, 2, 1, 1], parts()).await;
    let requests = fixture.requests();
    let store = fixture.store("worker").await;
    let progress = Last::default();
    store.fetch(&parts().key(), &progress).await.unwrap();
    assert_eq!(requests.count("GetObject"), 3);
    assert_eq!(progress.told().chunks_saved, 2);
}

#[tokio::test]
async fn what_another_snapshot_in_the_cache_has_is_copied_from_it() {
    let fixture = Fixture::start().await;
    fixture.publish(&[1, 2, 3], template()).await;
    fixture.publish(&[1, 9, 3], parts()).await;
    let store = fixture.store("worker").await;
    store.fetch(&template().key(), &NoProgress).await.unwrap();
    let requests = fixture.requests();
    let snapshot = store.fetch(&parts().key(), &NoProgress).await.unwrap();
    assert_eq!(requests.count("GetObject"), 1);
    let memory = fs::read(snapshot.dir.join("memory")).unwrap();
    assert_eq!(
        memory,
        fs::read(fixture.baked(&[1, 9, 3]).join("memory")).unwrap()
    );
}

#[tokio::test]
async fn a_neighbour_that_is_damaged_gives_nothing() {
    let fixture = Fixture::start().await;
    fixture.publish(&[1, 2], template()).await;
    fixture.publish(&[1, 9], parts()).await;
    let store = fixture.store("worker").await;
    let neighbour = store.fetch(&template().key(), &NoProgress).await.unwrap();
    let memory = neighbour.dir.join("memory");
    fs::remove_file(&memory).unwrap();
    fs::write(&memory, vec![7; 2 * CHUNK_BYTES]).unwrap();
    let requests = fixture.requests();
    let snapshot = store.fetch(&parts().key(), &NoProgress).await.unwrap();
    assert_eq!(requests.count("GetObject"), 2);
    assert_eq!(fs::read(snapshot.dir.join("memory")).unwrap()[0], 1);
}

#[tokio::test]
async fn an_interrupted_download_is_continued_with_what_it_has() {
    let fixture = Fixture::start().await;
    let published = fixture.publish(&[1, 2, 3, 4], parts()).await;
    let last = Kind::Chunk.key(&filled(4));
    fixture
        .server
        .intercept(move |operation, key| ready(operation != "GetObject" || key != last));
    let key = parts().key();
    let store = fixture.store("worker").await;
    assert!(store.fetch(&key, &NoProgress).await.is_err());
    let cache = fixture.directory.path().join("worker");
    assert_eq!(count(&cache.join("snapshots")), 0);
    // As a crash leaves a chunk that was being written, and one that never came.
    let partial = cache.join("partial").join(published.digest.to_string());
    let memory = fs::File::options()
        .write(true)
        .open(partial.join("memory"))
        .unwrap();
    for (index, byte) in [1, 2, 3].into_iter().enumerate() {
        let offset = (index * CHUNK_BYTES) as u64;
        memory
            .write_all_at(&vec![byte; CHUNK_BYTES], offset)
            .unwrap();
    }
    memory.write_all_at(&[7; 100], 50).unwrap();
    drop(memory);
    let requests = fixture.requests();
    // Another process, after the crash.
    let store = fixture.store("worker").await;
    let progress = Last::default();
    let snapshot = store.fetch(&key, &progress).await.unwrap();
    assert!(requests.count(&format!("GetObject {}", Kind::Chunk.key(&filled(1)))) == 1);
    for whole in [2, 3] {
        let asked = format!("GetObject {}", Kind::Chunk.key(&filled(whole)));
        assert_eq!(requests.count(&asked), 0);
    }
    assert!(progress.told().chunks_saved >= 2);
    let memory = fs::read(snapshot.dir.join("memory")).unwrap();
    assert_eq!(
        memory,
        fs::read(fixture.baked(&[1, 2, 3, 4]).join("memory")).unwrap()
    );
}

#[tokio::test]
async fn no_more_chunks_are_under_way_than_there_are_permits() {
    let fixture = Fixture::start().await;
    let memory: Vec<u8> = (1..=40).collect();
    fixture.publish(&memory, parts()).await;
    let store = fixture.store("worker").await;
    let permits = store.in_flight.clone();
    let least = Arc::new(Mutex::new(IN_FLIGHT));
    let seen = least.clone();
    fixture.server.intercept(move |operation, _| {
        if operation == "GetObject" {
            let mut least = seen.lock().unwrap();
            *least = permits.available_permits().min(*least);
        }
        ready(true)
    });
    store.fetch(&parts().key(), &NoProgress).await.unwrap();
    assert!(*least.lock().unwrap() < IN_FLIGHT);
    assert_eq!(store.in_flight.available_permits(), IN_FLIGHT);
    // With every permit taken nothing moves.
    let taken = store
        .in_flight
        .clone()
        .acquire_many_owned(16)
        .await
        .unwrap();
    let other = fixture.store("other").await;
    let other = Store {
        in_flight: store.in_flight.clone(),
        ..other
    };
    let requests = fixture.requests();
    let fetching = tokio::spawn(async move { other.fetch(&parts().key(), &NoProgress).await });
    tokio::task::yield_now().await;
    assert_eq!(requests.count("GetObject"), 0);
    drop(taken);
    fetching.await.unwrap().unwrap();
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
async fn a_second_publication_replaces_the_first_and_caches_do_not_mix_them_up() {
    let fixture = Fixture::start().await;
    let store = fixture.store("worker").await;
    for byte in [1, 2] {
        let published = fixture.publish(&[byte], parts()).await;
        assert!(published.won);
        let snapshot = store.fetch(&parts().key(), &NoProgress).await.unwrap();
        assert_eq!(snapshot.digest, published.digest);
        assert_eq!(fs::read(snapshot.dir.join("memory")).unwrap()[0], byte);
    }
}
