//! What is remembered of bakes beside the snapshots themselves: which keys failed, and for which sources an environment was baked last.
//! Both lie in the bucket `build-snapshots`.
//!
//! What always holds: a failure that is remembered is that of the key's last bake; it goes when a bake of the key succeeds.

use std::time::Duration;

use async_nats::jetstream::kv;
use bus::retry::{self, Failure, Policy};
use bus::telemetry::Causes;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use schemas::bake::{BakeFailure, RecentBake, RecentBakes};
use schemas::result::LogRef;
use schemas::{FieldError, HostClass, Sha256Digest, Token, Trust, names};
use serde::Serialize;
use store::Fault;

use crate::error::BakeError;

/// 5 min until a key that failed may be baked for a job again: a mirror that was away is back by then. Doubled with every failure in a row.
const FIRST_BACKOFF: Duration = Duration::from_mins(5);

/// One day: by then somebody has looked, or the lockfile has changed.
const LONGEST_BACKOFF: Duration = Duration::from_hours(24);

/// 1 min to write into the bucket: a server that is started again is back sooner.
const WRITE_FOR: Policy = Policy {
    give_up_after: Some(Duration::from_mins(1)),
    ..Policy::FOREVER
};

/// The bucket.
#[derive(Clone)]
pub struct History(kv::Store);

/// Whose bakes of which environment, for which hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shelf {
    /// The host class.
    pub class: HostClass,
    /// How far the authors of the sources are trusted.
    pub trust: Trust,
    /// Whose environment it is.
    pub tenant: Token,
    /// The environment.
    pub environment: Token,
}

/// Who asks for a bake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What its events are told apart by.
    pub request_id: Token,
    /// When.
    pub at: Timestamp,
    /// Whether a failure that is remembered does not count.
    pub again: bool,
}

/// Why the bucket cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The server.
    #[error("{doing} {key} in the bucket of snapshots")]
    Server {
        /// What was being done.
        doing: &'static str,
        /// To which key.
        key: String,
        /// What the client said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What stands there is something else.
    #[error("{key} in the bucket of snapshots: {problem}")]
    Invalid {
        /// The key.
        key: String,
        /// The field and what is wrong with it.
        problem: FieldError,
    },
}

impl HistoryError {
    /// Who can mend it.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Server { .. } | Self::Invalid { .. } => Fault::Host,
        }
    }
}

impl History {
    /// Of the bucket `build-snapshots`.
    pub fn new(snapshots: kv::Store) -> Self {
        Self(snapshots)
    }

    /// Why the last bake of `key` failed; none where it did not.
    pub async fn failure(&self, key: &Sha256Digest) -> Result<Option<BakeFailure>, HistoryError> {
        self.read(&names::bake_failure(key), BakeFailure::parse)
            .await
    }

    /// Why `key` is not baked for those who ask: its last bake failed while they waited, or not long enough ago.
    pub async fn left_alone(
        &self,
        key: &Sha256Digest,
        asked: &Asked,
    ) -> Result<Option<BakeFailure>, HistoryError> {
        let failure = self.failure(key).await?;
        Ok(failure.filter(|failure| is_left_alone(failure, asked, Timestamp::now())))
    }

    /// Remembers that a bake of `key` failed for those who asked, with the address of its log. A failure that time mends, or one that is
    /// remembered already, is not.
    pub async fn failed(
        &self,
        key: &Sha256Digest,
        error: &BakeError,
        asked: &Asked,
        log: Option<LogRef>,
    ) -> Result<(), HistoryError> {
        if error.fault() != Fault::Job || matches!(error, BakeError::Remembered(_)) {
            return Ok(());
        }
        let before = self.failure(key).await?;
        let failures = before
            .map_or(0, |failure| failure.failures)
            .saturating_add(1);
        let time = Timestamp::now();
        let failure = BakeFailure {
            request_id: asked.request_id.clone(),
            reason: error.reason().to_owned(),
            message: Causes(error).to_string(),
            step: error.step().cloned(),
            log,
            failures,
            time,
            retry_at: time + backoff(failures),
        };
        self.write(&names::bake_failure(key), &failure).await
    }

    /// Forgets that bakes of `key` failed.
    pub async fn succeeded(&self, key: &Sha256Digest) -> Result<(), HistoryError> {
        let name = names::bake_failure(key);
        if self.failure(key).await?.is_none() {
            return Ok(());
        }
        let deleted = self.0.delete(&name).await;
        deleted.map_err(failed("delete", &name))
    }

    /// What was baked for `shelf`, the newest first.
    pub async fn recent(&self, shelf: &Shelf) -> Result<Vec<RecentBake>, HistoryError> {
        let recent = self.read(&shelf.name(), RecentBakes::parse).await?;
        Ok(recent.unwrap_or_default().bakes)
    }

    /// Puts `bake` before all others of `shelf`, of which `keep` are left.
    pub async fn asked(
        &self,
        shelf: &Shelf,
        bake: RecentBake,
        keep: usize,
    ) -> Result<(), HistoryError> {
        let key = shelf.name();
        let noted = retry::with(WRITE_FOR, "remember a bake", || {
            let noting = self.note(&key, bake.clone(), keep);
            async { noting.await.map_err(Failure::Transient) }
        });
        noted.await
    }

    /// One try at it: another bakery may write at the same moment, and loses nothing by it.
    async fn note(&self, key: &str, bake: RecentBake, keep: usize) -> Result<(), HistoryError> {
        let entry = self.0.entry(key).await.map_err(failed("read", key))?;
        let revision = entry.as_ref().map_or(0, |entry| entry.revision);
        let before = entry.filter(|entry| entry.operation == kv::Operation::Put);
        let before = before.map(|entry| RecentBakes::parse(&entry.value));
        let before = before
            .transpose()
            .map_err(|problem| HistoryError::Invalid {
                key: key.to_owned(),
                problem,
            })?;
        let bakes = with_newest(before.unwrap_or_default().bakes, bake, keep);
        let body = serde_json::to_vec(&RecentBakes { bakes }).expect("its fields are JSON");
        let written = self.0.update(key, body.into(), revision).await;
        written.map(drop).map_err(failed("write", key))
    }

    async fn read<T>(
        &self,
        key: &str,
        parse: impl Fn(&[u8]) -> Result<T, FieldError>,
    ) -> Result<Option<T>, HistoryError> {
        let value = self.0.get(key).await.map_err(failed("read", key))?;
        let invalid = |problem| HistoryError::Invalid {
            key: key.to_owned(),
            problem,
        };
        value
            .map(|value| parse(&value).map_err(invalid))
            .transpose()
    }

    async fn write(&self, key: &str, value: &impl Serialize) -> Result<(), HistoryError> {
        let body = serde_json::to_vec(value).expect("its fields are JSON");
        let body = Bytes::from(body);
        let what = format!("write {key}");
        let written = retry::with(WRITE_FOR, &what, || async {
            let put = self.0.put(key, body.clone()).await;
            put.map_err(Failure::Transient)
        });
        written.await.map(drop).map_err(failed("write", key))
    }
}

impl Shelf {
    /// Its key in the bucket.
    pub fn name(&self) -> String {
        names::recent_bakes(&self.class, self.trust, &self.tenant, &self.environment)
    }
}

fn failed<E>(doing: &'static str, key: &str) -> impl FnOnce(E) -> HistoryError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let key = key.to_owned();
    move |error| HistoryError::Server {
        doing,
        key,
        source: error.into(),
    }
}

/// Whether a key that failed is not baked for those who asked: it failed while they waited, or not long enough ago and nobody asks for it
/// again.
fn is_left_alone(failure: &BakeFailure, asked: &Asked, now: Timestamp) -> bool {
    failure.time >= asked.at || (!asked.again && now < failure.retry_at)
}

fn backoff(failures: u32) -> SignedDuration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    let backoff = FIRST_BACKOFF.saturating_mul(doubled).min(LONGEST_BACKOFF);
    SignedDuration::try_from(backoff).expect("a day is a duration")
}

fn with_newest(bakes: Vec<RecentBake>, newest: RecentBake, keep: usize) -> Vec<RecentBake> {
    let others = bakes.into_iter().filter(|bake| bake.key != newest.key);
    let others: Vec<_> = others.take(keep.max(1) - 1).collect();
    std::iter::once(newest).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bake(key: &str) -> RecentBake {
        let digest = Sha256Digest::of(key);
        let archive =
            json!({"archive": {"uri": "s3://bucket/acme/a", "digest": {"sha256": digest}}});
        RecentBake {
            key: digest,
            source: serde_json::from_value(archive).unwrap(),
            asked_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_newest_stands_first_and_once_and_the_oldest_goes() {
        let mut bakes = Vec::new();
        for key in ["a", "b", "a", "c"] {
            bakes = with_newest(bakes, bake(key), 2);
        }
        assert_eq!(bakes, [bake("c"), bake("a")]);
        assert_eq!(with_newest(bakes, bake("d"), 0), [bake("d")]);
    }

    #[test]
    fn a_key_that_failed_is_left_alone_until_its_time_is_over_or_somebody_asks() {
        let at = |minute: u32| -> Timestamp {
            format!("2026-01-01T00:{minute:02}:00Z").parse().unwrap()
        };
        let failure: BakeFailure = serde_json::from_value(json!({
            "request_id": "r1", "reason": "step_failed", "message": "m", "failures": 1,
            "time": at(10), "retry_at": at(15)
        }))
        .unwrap();
        for (again, asked_at, now, left_alone) in [
            (false, 11, 11, true),
            (false, 11, 15, false),
            (true, 11, 11, false),
            // It failed while this one waited for it.
            (true, 9, 11, true),
            (false, 9, 16, true),
        ] {
            let asked = Asked {
                request_id: "r2".parse().unwrap(),
                at: at(asked_at),
                again,
            };
            let found = is_left_alone(&failure, &asked, at(now));
            assert_eq!(found, left_alone, "{again} {asked_at} {now}");
        }
    }

    #[test]
    fn a_key_that_fails_again_and_again_is_left_alone_for_longer_up_to_a_day() {
        let minutes = |failures| backoff(failures).as_secs() / 60;
        assert_eq!([1, 2, 3].map(minutes), [5, 10, 20]);
        assert_eq!([10, 40].map(minutes), [24 * 60, 24 * 60]);
    }
}
