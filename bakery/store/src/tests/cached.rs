//! One cache directory, its limit, and several processes that share it.

use super::*;

#[tokio::test]
async fn the_second_fetch_comes_from_the_cache_in_any_process() {
    let fixture = Fixture::start().await;
    fixture.publish(&[1], parts()).await;
    let store = fixture.store("worker").await;
    let first = store.fetch(&parts().key(), &NoProgress).await.unwrap();
    let requests = fixture.requests();
    for store in [store, fixture.store("worker").await] {
        let again = store.fetch(&parts().key(), &NoProgress).await.unwrap();
        assert_eq!(again, first);
    }
    assert_eq!(requests.count("GetObject"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn fetches_of_one_snapshot_at_once_are_one_download_also_of_two_processes() {
    let fixture = Fixture::start().await;
    fixture.publish(&[1, 2, 3], parts()).await;
    let requests = fixture.requests();
    let stores = [fixture.store("worker").await, fixture.store("worker").await];
    let fetches = stores.iter().cycle().take(8).cloned().map(|store| {
        tokio::spawn(async move { store.fetch(&parts().key(), &NoProgress).await.unwrap() })
    });
    let mut snapshots = Vec::new();
    for fetch in fetches.collect::<Vec<_>>() {
        snapshots.push(fetch.await.unwrap());
    }
    snapshots.dedup();
    assert_eq!(snapshots.len(), 1);
    assert_eq!(requests.count("GetObject"), 4);
}

#[tokio::test]
async fn the_snapshot_that_was_used_longest_ago_leaves_unless_it_is_in_use() {
    let fixture = Fixture::start().await;
    let names = ["a", "b", "c"];
    for (name, byte) in names.into_iter().zip(1..) {
        fixture.publish(&[byte, byte + 10], salted(name)).await;
    }
    // Room for two of them, which have 1 MiB each.
    let store = fixture.limited("worker", 5 << 19).await;
    let other = fixture.limited("worker", 5 << 19).await;
    let in_use = store.fetch(&salted("a").key(), &NoProgress).await.unwrap();
    let unused = store.fetch(&salted("b").key(), &NoProgress).await.unwrap();
    let left = unused.dir.clone();
    drop(unused);
    let fetched = other.fetch(&salted("c").key(), &NoProgress).await.unwrap();
    assert!(in_use.dir.exists() && fetched.dir.exists());
    assert!(!left.exists());
    let kept = in_use.clone();
    drop(in_use);
    let again = other.fetch(&salted("b").key(), &NoProgress).await.unwrap();
    assert!(kept.dir.exists() && fetched.dir.exists() && again.dir.exists());
}

#[tokio::test]
async fn a_snapshot_larger_than_the_limit_is_fetched_all_the_same() {
    let fixture = Fixture::start().await;
    fixture.publish(&[1], salted("a")).await;
    fixture.publish(&[2, 3], salted("b")).await;
    let store = fixture.limited("worker", 1 << 19).await;
    let first = store.fetch(&salted("a").key(), &NoProgress).await.unwrap();
    let left = first.dir.clone();
    drop(first);
    let second = store.fetch(&salted("b").key(), &NoProgress).await.unwrap();
    assert!(second.dir.exists() && !left.exists());
}
