//! Waiting for a key of a bucket.
//!
//! What always holds: a change between the question and the watch is not missed, since a watch begins with what is there; a watch that
//! breaks off is begun anew.

use std::time::Duration;

use async_nats::jetstream::kv::{self, Entry, Operation, Watch};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::timeout;

use crate::retry::{self, Failure, Policy};

/// 30 s between two looks at a key whose end a watch should tell: longer than a lease lives.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Returns the value of `key` once it has one.
pub async fn put(bucket: &kv::Store, key: &str) -> Bytes {
    let entry = until(bucket, key, |operation| operation == Operation::Put);
    entry.await.value
}

/// Returns once `key` has no value: also when it never had one.
pub async fn gone(bucket: &kv::Store, key: &str) {
    while has_value(bucket, key).await {
        // A watch tells of what was deleted, and is silent about what is not there: what went while a watch was broken and whose mark
        // went as well is found by looking again.
        let gone = until(bucket, key, |operation| operation != Operation::Put);
        if timeout(LOOK_AGAIN_AFTER, gone).await.is_ok() {
            return;
        }
    }
}

async fn has_value(bucket: &kv::Store, key: &str) -> bool {
    let what = format!("look for {key}");
    let look = retry::with(Policy::FOREVER, &what, || async {
        bucket.entry(key).await.map_err(Failure::Transient)
    });
    let entry = look.await.expect("what is tried for ever does not fail");
    entry.is_some_and(|entry| entry.operation == Operation::Put)
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
