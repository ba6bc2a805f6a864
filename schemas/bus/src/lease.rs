//! Who does a piece of work, of all who could: a key in the bucket `build-leases` that its holder renews and that goes by itself when
//! the holder is dead.
//!
//! ```text
//! free ──take (compare-and-set, TTL)──▶ held ──renew (compare-and-set, TTL)──▶ held
//!   ▲                                    │ │
//!   └──────────── released ◀─────────────┘ └── TTL over, or somebody else's revision ──▶ lost
//! ```
//!
//! What always holds: whoever holds a lease has a revision that nobody else can have; work that runs under a lease is dropped before the
//! server can give the lease to another, even while the server cannot be reached.

use std::time::Duration;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{Context, kv};
use schemas::names::bucket;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout_at};
use tracing::{debug, warn};

/// 25 s: two renewals may be lost on the way. It belongs to the value, so every renewal sends it again.
pub const TTL: Duration = Duration::from_secs(25);

/// 8 s: three fit into [`TTL`].
const RENEW_EVERY: Duration = Duration::from_secs(8);

/// 20 s after the last renewal that the server confirmed, work under the lease is dropped: before [`TTL`] is over by the server's clock,
/// which began to count when it stored the renewal and not when we heard of it.
pub const LOST_AFTER: Duration = Duration::from_secs(20);

/// A lease that this process holds. Where it is dropped without [`Lease::release`], it goes when its time is over.
#[derive(Debug)]
pub struct Lease {
    leases: Leases,
    key: String,
    holder: String,
    revision: u64,
    /// When the renewal that the server confirmed last was sent.
    sent_at: Instant,
}

/// The bucket of leases.
#[derive(Debug, Clone)]
pub struct Leases {
    jetstream: Context,
    bucket: kv::Store,
}

/// Why a lease is not held.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The server cannot be asked.
    #[error("{doing} the lease {key}")]
    Server {
        /// What was being done.
        doing: &'static str,
        /// The lease.
        key: String,
        /// What the client said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It was held, and is no longer.
    #[error("the lease {key} was lost: {why}")]
    Lost {
        /// The lease.
        key: String,
        /// How.
        why: &'static str,
    },
}

impl Leases {
    /// Opens the bucket, which `bakery init` made.
    pub async fn open(
        jetstream: &Context,
    ) -> Result<Self, async_nats::jetstream::context::KeyValueError> {
        Ok(Self {
            jetstream: jetstream.clone(),
            bucket: jetstream.get_key_value(bucket::LEASES).await?,
        })
    }

    /// Takes the lease `key`; none where somebody else holds it. `holder` is for people who look into the bucket.
    pub async fn take(&self, key: &str, holder: &str) -> Result<Option<Lease>, LeaseError> {
        let entry = self.bucket.entry(key).await;
        let entry = entry.map_err(failed("look for", key))?;
        let free_since = match entry {
            None => 0,
            Some(entry) if entry.operation == kv::Operation::Put => return Ok(None),
            // The mark that a released or expired lease left counts as a revision.
            Some(mark) => mark.revision,
        };
        let sent_at = Instant::now();
        match self.put(key, holder, free_since).await {
            Ok(revision) => {
                debug!(key, holder, "lease taken");
                Ok(Some(Lease {
                    leases: self.clone(),
                    key: key.to_owned(),
                    holder: holder.to_owned(),
                    revision,
                    sent_at,
                }))
            }
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(None),
            Err(error) => Err(failed("take", key)(error)),
        }
    }

    /// Returns once nobody holds the lease `key`.
    pub async fn free(&self, key: &str) {
        crate::watch::gone(&self.bucket, key).await;
    }

    /// A raw publish: the client's own update would drop the time to live.
    async fn put(&self, key: &str, holder: &str, after: u64) -> Result<u64, PublishError> {
        let subject = format!("$KV.{}.{key}", bucket::LEASES);
        let message = PublishMessage::build()
            .payload(holder.to_owned().into())
            .ttl(TTL)
            .expected_last_subject_sequence(after);
        let stored = self.jetstream.send_publish(subject, message).await?.await?;
        Ok(stored.sequence)
    }
}

impl Lease {
    /// Does `work` and renews meanwhile. Where the lease is lost first, the work is dropped where it stands.
    pub async fn while_held<T>(&mut self, work: impl Future<Output = T>) -> Result<T, LeaseError> {
        tokio::select! {
            done = work => Ok(done),
            lost = self.renew_until_lost() => Err(lost),
        }
    }

    /// Until when the work under it may go on; later than now, it is surely ours. Every renewal moves it.
    pub fn held_until(&self) -> Instant {
        self.sent_at + LOST_AFTER
    }

    /// Gives it back. Where that does not succeed, it goes when its time is over.
    pub async fn release(self) {
        let (bucket, revision) = (&self.leases.bucket, Some(self.revision));
        if let Err(error) = bucket.delete_expect_revision(&self.key, revision).await {
            warn!(key = self.key, %error, "lease not given back: it goes when its time is over");
        }
    }

    async fn renew_until_lost(&mut self) -> LeaseError {
        let mut beat = interval_at(Instant::now() + RENEW_EVERY, RENEW_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = self.held_until();
            let renewed = timeout_at(deadline, async {
                beat.tick().await;
                self.renew().await
            });
            match renewed.await {
                Ok(Ok(())) => {}
                Ok(Err(lost @ LeaseError::Lost { .. })) => return lost,
                Ok(Err(LeaseError::Server { source, .. })) => {
                    warn!(key = self.key, error = %source, "lease not renewed");
                }
                Err(_) => return self.lost("no renewal was confirmed for 20 s"),
            }
        }
    }

    /// Renews it once. After an error that is not [`LeaseError::Lost`] it is held still, until [`Lease::held_until`], and may be renewed.
    pub async fn renew(&mut self) -> Result<(), LeaseError> {
        let sent_at = Instant::now();
        let put = self.leases.put(&self.key, &self.holder, self.revision);
        match put.await {
            Ok(revision) => {
                (self.revision, self.sent_at) = (revision, sent_at);
                Ok(())
            }
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                Err(self.lost("somebody else has it, or its time was over"))
            }
            Err(error) => Err(failed("renew", &self.key)(error)),
        }
    }

    fn lost(&self, why: &'static str) -> LeaseError {
        LeaseError::Lost {
            key: self.key.clone(),
            why,
        }
    }
}

fn failed<E>(doing: &'static str, key: &str) -> impl FnOnce(E) -> LeaseError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let key = key.to_owned();
    move |error| LeaseError::Server {
        doing,
        key,
        source: error.into(),
    }
}
