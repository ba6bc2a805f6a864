//! What a collection takes, what it leaves, and what runs beside it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::task::JoinHandle;

use super::*;

/// Longer than any test.
const LONG: Duration = Duration::from_hours(1);

fn plan(keep: &[&KeyParts], grace: Duration) -> Collection {
    Collection {
        keep: keep.iter().map(|parts| parts.key()).collect(),
        grace,
        dry_run: false,
    }
}

async fn chunks(fixture: &Fixture) -> BTreeSet<Sha256Digest> {
    let objects = &fixture.server.objects;
    let part = objects::list(objects, Kind::Chunk, None).await.unwrap();
    part.objects.into_iter().map(|(digest, _)| digest).collect()
}

#[tokio::test]
async fn what_is_published_is_listed_until_it_is_not() {
    let fixture = Fixture::start().await;
    let store = fixture.store("bakery").await;
    let published = fixture.publish(&[1], parts()).await;
    fixture.publish(&[2], template()).await;
    let listed = store.list().await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.contains(&(parts().key(), published.digest)));
    for _ in 0..2 {
        store.unpublish(&parts().key()).await.unwrap();
        assert_eq!(store.find(&parts().key()).await.unwrap(), None);
    }
    assert_eq!(store.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_not_kept_goes_and_what_others_share_stays() {
    let fixture = Fixture::start().await;
    let (kept, goes) = (salted("kept"), salted("goes"));
    fixture.publish(&[1, 2], kept.clone()).await;
    let gone = fixture.publish(&[2, 3], goes.clone()).await;
    let store = fixture.store("bakery").await;
    let mut dry = plan(&[&kept], Duration::ZERO);
    dry.dry_run = true;
    let before = chunks(&fixture).await;
    let would_go = store.collect(&dry).await.unwrap();
    assert_eq!(chunks(&fixture).await, before);
    assert!(store.find(&goes.key()).await.unwrap().is_some());
    let collected = store
        .collect(&plan(&[&kept], Duration::ZERO))
        .await
        .unwrap();
    assert_eq!(collected, would_go);
    let expected = Gone {
        key: goes.key(),
        name: "widget".to_owned(),
        bytes: gone.stored_bytes,
    };
    assert_eq!(collected.snapshots, [expected]);
    assert_eq!(collected.chunks, 1);
    assert_eq!(store.find(&goes.key()).await.unwrap(), None);
    assert!(!chunks(&fixture).await.contains(&filled(3)));
    let worker = fixture.store("worker").await;
    worker.fetch(&kept.key(), &NoProgress).await.unwrap();
    let nothing = store.collect(&plan(&[&kept], Duration::ZERO)).await;
    assert_eq!(nothing.unwrap(), Collected::default());
}

#[tokio::test]
async fn nothing_goes_before_the_grace_period_is_over() {
    let fixture = Fixture::start().await;
    fixture.publish(&[1], parts()).await;
    let store = fixture.store("bakery").await;
    let collected = store.collect(&plan(&[], LONG)).await.unwrap();
    assert_eq!(collected, Collected::default());
    store.unpublish(&parts().key()).await.unwrap();
    let collected = store.collect(&plan(&[], LONG)).await.unwrap();
    assert_eq!(collected, Collected::default());
    let collected = store.collect(&plan(&[], Duration::ZERO)).await.unwrap();
    assert_eq!(collected.chunks, 2);
    assert_eq!(chunks(&fixture).await.len(), 0);
}

/// Makes every object of the bucket look as if it were an hour older.
fn age(fixture: &Fixture) {
    let bucket = &fixture.server.objects.buckets().snapshots;
    let mut directories = vec![fixture.server.file(bucket, "")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let file = fs::File::open(&path).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            file.set_modified(modified - LONG).unwrap();
        }
    }
}

#[tokio::test]
async fn the_chunks_of_a_template_outlive_its_pointer_by_a_grace_period() {
    let fixture = Fixture::start().await;
    fixture.publish(&[1, 2], template()).await;
    age(&fixture);
    let store = fixture.store("bakery").await;
    store.unpublish(&template().key()).await.unwrap();
    let grace = LONG / 2;
    let collected = store.collect(&plan(&[], grace)).await.unwrap();
    assert_eq!(collected.chunks, 0);
    age(&fixture);
    let collected = store.collect(&plan(&[], grace)).await.unwrap();
    assert_eq!(collected.chunks, 3);
}

/// A snapshot that nobody publishes any more and that is old, whose chunks a collection takes.
async fn forgotten(memory: &[u8]) -> Fixture {
    let fixture = Fixture::start().await;
    fixture.publish(memory, salted("old")).await;
    let store = fixture.store("bakery").await;
    store.unpublish(&salted("old").key()).await.unwrap();
    age(&fixture);
    fixture
}

/// Publishes a snapshot that has chunks of the forgotten one, by a bakery that knows the grace period.
fn publishing(fixture: &Fixture, store: Store, memory: &[u8]) -> JoinHandle<Published> {
    let dir = fixture.baked(memory);
    tokio::spawn(async move {
        let published = store.publish(&dir, parts(), Details::default(), &NoProgress);
        published.await.unwrap()
    })
}

async fn is_fetched(fixture: &Fixture) {
    let worker = fixture.store("worker").await;
    worker.fetch(&parts().key(), &NoProgress).await.unwrap();
}

/// What a collection waits for at one of its requests, and the other way round.
#[derive(Clone, Default)]
struct Turns {
    reached: Arc<Notify>,
    passed: Arc<Notify>,
}

impl Turns {
    /// For an interceptor: says that the request was made, and waits until it may be answered.
    async fn stop(self) -> bool {
        self.reached.notify_one();
        self.passed.notified().await;
        true
    }
}

#[tokio::test]
async fn a_publication_between_a_collections_listing_and_its_sweep_loses_nothing() {
    let fixture = forgotten(&[1]).await;
    let grace = LONG / 2;
    let store = fixture.store("bakery").await.with_grace(grace);
    let turns = Turns::default();
    let (at, stopped) = (turns.clone(), AtomicBool::new(false));
    fixture.server.intercept(move |operation, key| {
        // The publication, which looks at it too, is not stopped.
        let looks = operation == "HeadObject" && key == Kind::Chunk.key(&filled(1));
        let stops = looks && !stopped.swap(true, Ordering::SeqCst);
        let at = at.clone();
        async move { !stops || at.stop().await }
    });
    let collector = store.clone();
    let collecting = tokio::spawn(async move { collector.collect(&plan(&[], grace)).await });
    turns.reached.notified().await;
    let published = publishing(&fixture, store, &[1]).await;
    turns.passed.notify_one();
    collecting.await.unwrap().unwrap();
    assert_eq!(published.unwrap().chunks_uploaded, 2);
    is_fetched(&fixture).await;
}

#[tokio::test]
async fn a_chunk_that_a_collection_takes_just_after_it_was_sent_again_is_sent_once_more() {
    let fixture = forgotten(&[1]).await;
    let grace = LONG / 2;
    let store = fixture.store("bakery").await.with_grace(grace);
    let (deletion, manifest) = (Turns::default(), Turns::default());
    let (delete, put) = (deletion.clone(), manifest.clone());
    fixture.server.intercept(move |operation, key| {
        let deletes = operation == "DeleteObject" && key == Kind::Chunk.key(&filled(1));
        let puts = operation == "PutObject" && key.starts_with("manifest/");
        let (delete, put) = (delete.clone(), put.clone());
        async move { (!deletes || delete.stop().await) && (!puts || put.stop().await) }
    });
    let collector = store.clone();
    let collecting = tokio::spawn(async move { collector.collect(&plan(&[], grace)).await });
    deletion.reached.notified().await;
    let published = publishing(&fixture, store, &[1]);
    manifest.reached.notified().await;
    deletion.passed.notify_one();
    collecting.await.unwrap().unwrap();
    assert!(!chunks(&fixture).await.contains(&filled(1)));
    manifest.passed.notify_one();
    published.await.unwrap();
    is_fetched(&fixture).await;
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_ends_a_collection_and_one_that_is_gone_does_not() {
    let fixture = Fixture::start().await;
    let published = fixture.publish(&[1], parts()).await;
    let store = fixture.store("bakery").await;
    let (digest, before) = (published.digest, chunks(&fixture).await);
    fixture.put_object(Kind::Manifest, &digest, b"{}").await;
    let error = store.collect(&plan(&[], Duration::ZERO)).await.unwrap_err();
    let wanted = format!("manifest {digest} does not have its own digest");
    assert_eq!(error.to_string(), wanted);
    assert_eq!(chunks(&fixture).await, before);
    assert_eq!(store.find(&parts().key()).await.unwrap(), Some(digest));
    let bucket = &fixture.server.objects.buckets().snapshots;
    fs::remove_file(fixture.server.file(bucket, &Kind::Manifest.key(&digest))).unwrap();
    let collected = store.collect(&plan(&[], Duration::ZERO)).await.unwrap();
    assert_eq!((collected.snapshots.len(), collected.chunks), (1, 2));
}

#[tokio::test]
async fn a_manifest_that_is_read_damaged_once_is_read_again() {
    let fixture = Fixture::start().await;
    let published = fixture.publish(&[1], parts()).await;
    let bucket = &fixture.server.objects.buckets().snapshots;
    let file = fixture
        .server
        .file(bucket, &Kind::Manifest.key(&published.digest));
    let good = fs::read(&file).unwrap();
    fs::write(&file, "{}").unwrap();
    let asked = Mutex::new(0);
    fixture.server.intercept(move |operation, key| {
        if operation == "GetObject" && key.starts_with("manifest/") {
            let mut asked = asked.lock().unwrap();
            *asked += 1;
            if *asked == 2 {
                fs::write(&file, &good).unwrap();
            }
        }
        ready(true)
    });
    let store = fixture.store("bakery").await;
    let collected = store.collect(&plan(&[&parts()], Duration::ZERO)).await;
    assert_eq!(collected.unwrap(), Collected::default());
}

#[tokio::test]
async fn a_publication_that_cannot_look_at_what_it_relies_on_leaves_nothing_visible() {
    let fixture = forgotten(&[1]).await;
    let store = fixture.store("bakery").await.with_grace(LONG / 2);
    let chunk = Kind::Chunk.key(&filled(1));
    // There are few chunks: a listing tells of them, and only the look behind the pointer asks for one.
    fixture
        .server
        .intercept(move |operation, key| ready(operation != "HeadObject" || key != chunk));
    let dir = fixture.baked(&[1]);
    let error = store.publish(&dir, parts(), Details::default(), &NoProgress);
    let error = error.await.unwrap_err();
    assert!(error.to_string().starts_with("look at s3://"), "{error}");
    assert_eq!(store.find(&parts().key()).await.unwrap(), None);
}

#[tokio::test]
async fn a_collection_at_each_request_of_a_publication_loses_nothing() {
    let memory = [1, 2, 3, 4, 5, 6];
    let fixture = forgotten(&memory).await;
    let grace = LONG / 2;
    let store = fixture.store("bakery").await.with_grace(grace);
    let (turns, alone) = (Turns::default(), Arc::new(AsyncMutex::new(())));
    let at = turns.clone();
    fixture.server.intercept(move |operation, key| {
        // Only the publication writes these: the forgotten snapshot is no template.
        let writes = operation == "PutObject" && key != "clock";
        let (at, alone) = (at.clone(), alone.clone());
        async move {
            if !writes {
                return true;
            }
            let _alone = alone.lock().await;
            at.stop().await
        }
    });
    let mut publishing = publishing(&fixture, store.clone(), &memory);
    let mut collections = 0;
    loop {
        tokio::select! {
            published = &mut publishing => {
                published.unwrap();
                break;
            }
            () = turns.reached.notified() => {
                store.collect(&plan(&[], grace)).await.unwrap();
                collections += 1;
                turns.passed.notify_one();
            }
        }
    }
    // Before each chunk and before the manifest, at least.
    assert!(collections > memory.len(), "{collections}");
    is_fetched(&fixture).await;
}

#[tokio::test]
async fn what_fills_more_than_one_page_of_a_listing_goes_all_the_same() {
    let fixture = Fixture::start().await;
    fixture.publish(&[1], parts()).await;
    let bucket = &fixture.server.objects.buckets().snapshots;
    for number in 0..1100 {
        let digest = Sha256Digest::of(format!("left {number}"));
        let file = fixture.server.file(bucket, &Kind::Chunk.key(&digest));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "left").unwrap();
    }
    let store = fixture.store("bakery").await;
    let collected = store.collect(&plan(&[&parts()], Duration::ZERO)).await;
    let collected = collected.unwrap();
    assert_eq!((collected.chunks, collected.bytes), (1100, 4400));
    is_fetched(&fixture).await;
}
