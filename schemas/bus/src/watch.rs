//! Waiting for a key of a bucket.
//!
//! What always holds: a change between the question and the watch is not missed, since a watch begins with what is there; a watch that
//! breaks off is begun anew.

use async_nats::jetstream::kv::{self, Entry, Operation, Watch};
use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::retry::{self, Failure, Policy};

/// Returns the value of `key` once it has one.
pub async fn put(bucket: &kv::Store, key: &str) -> Bytes {
    let entry = until(bucket, key, |operation| operation == Operation::Put);
    entry.await.value
}

/// Returns once `key` has no value: also when it never had one.
pub async fn gone(bucket: &kv::Store, key: &str) {
    // A watch tells of what was deleted, and is silent about what never was there.
    let what = format!("look for {key}");
    let look = retry::with(Policy::FOREVER, &what, || async {
        bucket.entry(key).await.map_err(Failure::Transient)
    });
    if let Ok(None) = look.await {
        return;
    }
    until(bucket, key, |operation| operation != Operation::Put).await;
}

/// Every change of the bucket's keys that match, from what is there now; for ever.
pub async fn begin(bucket: &kv::Store, keys: &str) -> Watch {
    let what = format!("watch {keys}");
    let begun = retry::with(Policy::FOREVER, &what, || async {
        let watch = bucket.watch_with_history(keys).await;
        watch.map_err(Failure::Transient)
    });
    begun.await.expect("what is tried for ever does not fail")
}

async fn until(bucket: &kv::Store, key: &str, wanted: impl Fn(Operation) -> bool) -> Entry {
    loop {
        let mut watch = begin(bucket, key).await;
        while let Some(change) = watch.next().await {
            // An error is followed by what was missed.
            if let Ok(entry) = change
                && wanted(entry.operation)
            {
                return entry;
            }
        }
    }
}
