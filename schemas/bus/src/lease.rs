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

mod confirmed;

use std::sync::Arc;
use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::stream::DirectGetErrorKind;
use async_nats::jetstream::{Context, kv};
use schemas::names::bucket;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout_at};
use tracing::{debug, warn};

use confirmed::{Answer, Confirmed};

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
    /// What taking it gave: nobody else ever has the same.
    taken: u64,
    confirmed: Confirmed,
}

/// The bucket of leases. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Leases {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
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
        let shared = Shared {
            jetstream: jetstream.clone(),
            bucket: jetstream.get_key_value(bucket::LEASES).await?,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Takes the lease `key`; none where somebody else holds it. `holder` is for people who look into the bucket.
    pub async fn take(&self, key: &str, holder: &str) -> Result<Option<Lease>, LeaseError> {
        let entry = self.shared.bucket.entry(key).await;
        let entry = entry.map_err(failed("look for", key))?;
        let free_since = match entry {
            None => 0,
            Some(entry) if entry.operation == kv::Operation::Put => return Ok(None),
            // The mark that a released or expired lease left counts as a revision.
            Some(mark) => mark.revision,
        };
        let sent_at = Instant::now();
        match self.put(key, holder, free_since, None).await {
            Ok(PublishAck {
                sequence: revision, ..
            }) => {
                debug!(key, holder, "lease taken");
                Ok(Some(Lease {
                    leases: self.clone(),
                    key: key.to_owned(),
                    holder: holder.to_owned(),
                    taken: revision,
                    confirmed: Confirmed { revision, sent_at },
                }))
            }
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(None),
            Err(error) => Err(failed("take", key)(error)),
        }
    }

    /// Returns once nobody holds the lease `key`.
    pub async fn free(&self, key: &str) {
        crate::watch::gone(&self.shared.bucket, key).await;
    }

    /// A raw publish: the client's own update would drop the time to live.
    async fn put(
        &self,
        key: &str,
        holder: &str,
        after: u64,
        id: Option<String>,
    ) -> Result<PublishAck, PublishError> {
        let message = PublishMessage::build()
            .payload(holder.to_owned().into())
            .ttl(TTL)
            .expected_last_subject_sequence(after);
        let message = match id {
            Some(id) => message.message_id(id),
            None => message,
        };
        let stored = self.shared.jetstream.send_publish(subject(key), message);
        stored.await?.await
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
        self.confirmed.sent_at + LOST_AFTER
    }

    /// Gives it back. Where that does not succeed, it goes when its time is over.
    pub async fn release(self) {
        let mut gone = self.delete(self.confirmed.revision).await;
        if gone.is_err()
            && let Ok(revision) = self.unconfirmed().await
        {
            gone = self.delete(revision).await;
        }
        if let Err(error) = gone {
            warn!(key = self.key, %error, "lease not given back: it goes when its time is over");
        }
    }

    async fn delete(&self, revision: u64) -> Result<(), kv::DeleteError> {
        let bucket = &self.leases.shared.bucket;
        bucket
            .delete_expect_revision(&self.key, Some(revision))
            .await
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

    /// Renews it once. After an error that is not [`LeaseError::Lost`] it is held still, until [`Lease::held_until`], and may be renewed;
    /// also after this was dropped before its end. The server may have stored what was not confirmed: the next renewal finds it by its id.
    pub async fn renew(&mut self) -> Result<(), LeaseError> {
        match self.put_again().await {
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                self.confirmed.revision = self.unconfirmed().await?;
                self.put_again().await.map_err(failed("renew", &self.key))
            }
            put => put.map_err(failed("renew", &self.key)),
        }
    }

    /// Puts it until something is stored that was not there before: the second time at the latest, since the id has then a revision that
    /// was never known here.
    async fn put_again(&mut self) -> Result<(), PublishError> {
        loop {
            let (sent_at, after) = (Instant::now(), self.confirmed.revision);
            let id = Some(self.renewal());
            let put = self.leases.put(&self.key, &self.holder, after, id);
            match self.confirmed.after(&put.await?, sent_at) {
                Answer::Renewed(confirmed) => {
                    self.confirmed = confirmed;
                    return Ok(());
                }
                Answer::StoredBefore(confirmed) => self.confirmed = confirmed,
            }
        }
    }

    /// The id of the renewal that follows the revision that is known.
    fn renewal(&self) -> String {
        let Confirmed { revision, .. } = self.confirmed;
        format!("{}-{}-{revision}", self.key, self.taken)
    }

    /// The revision of a renewal that was stored and not confirmed.
    async fn unconfirmed(&self) -> Result<u64, LeaseError> {
        let stream = &self.leases.shared.bucket.stream;
        let last = stream.direct_get_last_for_subject(subject(&self.key)).await;
        match last {
            Ok(last) if id_of(&last) == Some(&self.renewal()) => Ok(last.sequence),
            Err(error) if error.kind() != DirectGetErrorKind::NotFound => {
                Err(failed("look for", &self.key)(error))
            }
            Ok(_) | Err(_) => Err(self.lost("somebody else has it, or its time was over")),
        }
    }

    fn lost(&self, why: &'static str) -> LeaseError {
        LeaseError::Lost {
            key: self.key.clone(),
            why,
        }
    }
}

fn subject(key: &str) -> String {
    format!("$KV.{}.{key}", bucket::LEASES)
}

fn id_of(message: &StreamMessage) -> Option<&str> {
    let id = message.headers.get(NATS_MESSAGE_ID)?;
    Some(id.as_str())
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

#[cfg(test)]
mod tests;
