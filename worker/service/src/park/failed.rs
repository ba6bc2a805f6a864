//! A bake that failed: what its key in the bucket of snapshots says, or one of its events.

use async_nats::jetstream::kv::{Entry, Operation};
use schemas::bake::{BakeEvent, BakeFailure};
use schemas::result::LogRef;

/// What is known of a bake that failed.
#[derive(Clone, Debug)]
pub struct FailedBake {
    /// Why, in one word.
    pub reason: String,
    /// Why, in one sentence.
    pub message: String,
    /// Its output.
    pub log: Option<LogRef>,
}

impl From<&BakeFailure> for FailedBake {
    fn from(failure: &BakeFailure) -> Self {
        Self {
            reason: failure.reason.clone(),
            message: failure.message.clone(),
            log: failure.log.clone(),
        }
    }
}

impl From<&BakeEvent> for FailedBake {
    fn from(event: &BakeEvent) -> Self {
        Self {
            reason: event.reason.clone().unwrap_or_default(),
            message: event.message.clone().unwrap_or_default(),
            log: event.log.clone(),
        }
    }
}

/// The failure in a value; none where it was taken back, or is none.
pub(super) fn read_failure(entry: &Entry) -> Option<BakeFailure> {
    match entry.operation {
        Operation::Put => BakeFailure::parse(&entry.value).ok(),
        Operation::Delete | Operation::Purge => None,
    }
}
