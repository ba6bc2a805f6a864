//! What a publication sends, and what it leaves visible.

use super::*;

#[tokio::test]
async fn zeros_cost_nothing_and_a_chunk_that_occurs_twice_is_sent_once() {
    let fixture = Fixture::start().await;
    let progress = Last::default();
    let store = fixture.store("bakery").await;
    let dir = fixture.baked(&[1, 0, 1, 2, 0, 0]);
    let published = store
        .publish(&dir, parts(), Details::default(), &progress)
        .await
        .unwrap();
    assert!(published.won);
    assert_eq!((published.chunks, published.chunks_uploaded), (4, 3));
    assert_eq!(published.uploaded_bytes, published.stored_bytes);
    let files = published.manifest.files.iter();
    let found: Vec<_> = files
        .map(|file| {
            let chunks = file.chunks.iter().map(|chunk| chunk.index);
            (
                file.name.as_str(),
                file.size_bytes,
                chunks.collect::<Vec<_>>(),
            )
        })
        .collect();
    let memory = 6 * CHUNK_BYTES as u64;
    assert_eq!(
        found,
        [
            ("disk", 4 << 30, vec![]),
            ("memory", memory, vec![0, 2, 3]),
            ("state", 5, vec![0])
        ]
    );
    let told = progress.told();
    let bytes = 3 * CHUNK_BYTES as u64 + 5;
    assert_eq!((told.chunks_done, told.chunks_total), (4, 4));
    assert_eq!((told.bytes_done, told.bytes_total), (bytes, bytes));
    assert_eq!((told.what, told.chunks_saved), (Direction::Upload, 1));
}

#[tokio::test]
async fn of_a_snapshot_derived_from_another_only_what_differs_is_sent() {
    let fixture = Fixture::start().await;
    let base = fixture.publish(&[1, 2, 3, 4, 5, 6], template()).await;
    let requests = fixture.requests();
    let mut derived = salted("derived");
    derived.template_key = Some(template().key());
    let published = fixture.publish(&[1, 2, 9, 4, 5, 6], derived).await;
    assert_eq!(published.chunks_uploaded, 1);
    assert_eq!(requests.count("PutObject"), 1);
    assert_eq!(requests.count("HeadObject"), 0, "a listing tells of all");
    assert!(published.uploaded_bytes < base.uploaded_bytes);
    assert!(published.stored_bytes > published.uploaded_bytes);
}

#[tokio::test]
async fn what_an_interrupted_publication_sent_is_not_sent_again() {
    let fixture = Fixture::start().await;
    let store = fixture.store("bakery").await;
    let dir = fixture.baked(&[1, 2, 3, 4]);
    let last = Kind::Chunk.key(&filled(4));
    fixture
        .server
        .intercept(move |operation, key| ready(operation != "PutObject" || key != last));
    let details = Details::default;
    let error = store.publish(&dir, parts(), details(), &NoProgress).await;
    assert!(error.unwrap_err().to_string().starts_with("store s3://"));
    assert_eq!(store.find(&parts().key()).await.unwrap(), None);
    let requests = fixture.requests();
    let published = store.publish(&dir, parts(), details(), &NoProgress).await;
    let sent = published.unwrap().chunks_uploaded;
    assert!(sent < 5, "{sent}");
    assert_eq!(requests.count("PutObject") as u64, sent);
}

#[tokio::test]
async fn what_is_old_and_relied_upon_is_sent_again_unless_the_template_has_it() {
    let fixture = Fixture::start().await;
    fixture.publish(&[1, 2], template()).await;
    fixture.publish(&[1, 3], salted("other")).await;
    let store = fixture.store("bakery").await.with_grace(Duration::ZERO);
    let mut derived = salted("derived");
    derived.template_key = Some(template().key());
    let dir = fixture.baked(&[1, 2, 3]);
    let published = store
        .publish(&dir, derived, Details::default(), &NoProgress)
        .await
        .unwrap();
    assert_eq!(published.chunks_uploaded, 1);
}

#[tokio::test]
async fn a_published_snapshot_is_whole_while_each_of_its_objects_is() {
    let fixture = Fixture::start().await;
    let store = fixture.store("bakery").await;
    let key = parts().key();
    assert_eq!(store.find_whole(&key).await.unwrap(), None);
    let published = fixture.publish(&[1, 2], parts()).await;
    let whole = Some(published.manifest.clone());
    assert_eq!(store.find_whole(&key).await.unwrap(), whole);
    for (kind, digest) in [(Kind::Chunk, filled(2)), (Kind::Manifest, published.digest)] {
        fixture.put_object(kind, &digest, b"").await;
        assert_eq!(store.find_whole(&key).await.unwrap(), None);
    }
}

#[tokio::test]
async fn publishing_a_snapshot_that_is_damaged_makes_it_whole() {
    let fixture = Fixture::start().await;
    let published = fixture.publish(&[1, 2], parts()).await;
    // Of the same length: only a fetch would find out.
    let length = published.manifest.files[1].chunks[1].stored_bytes as usize;
    fixture
        .put_object(Kind::Chunk, &filled(2), &vec![0; length])
        .await;
    fixture.publish(&[1, 2], parts()).await;
    let worker = fixture.store("worker").await;
    worker.fetch(&parts().key(), &NoProgress).await.unwrap();
}

#[tokio::test]
async fn of_two_publishers_at_once_the_first_stands_for_both() {
    let fixture = Fixture::start().await;
    let store = fixture.store("bakery").await;
    let baked = fixture.baked(&[1]);
    let one = store.publish(&baked, parts(), Details::default(), &NoProgress);
    let two = store.publish(&baked, parts(), Details::default(), &NoProgress);
    let (one, two) = tokio::join!(one, two);
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one.won != two.won);
    assert_eq!(one.digest, two.digest);
    assert_eq!(one.manifest, two.manifest);
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
