//! Jobs that are to end: a key in the bucket `build-cancels` says so.

use async_nats::jetstream::kv;

/// What is to end. Clones share it.
#[derive(Clone, Debug)]
pub struct Cancels {
    _bucket: kv::Store,
}

impl Cancels {
    /// Over that bucket.
    pub fn begin(bucket: kv::Store) -> Self {
        Self { _bucket: bucket }
    }
}
