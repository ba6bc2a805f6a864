//! `bakery serve`: takes one request at a time for its host class, bakes, and says what came of it.
//!
//! | what happens | event | the message |
//! | --- | --- | --- |
//! | published, or found | `published` (reason `found`) | acknowledged |
//! | the environment's or the request's fault, or nothing that time mends | `failed` | acknowledged |
//! | the host's fault | `retrying` | given back for 10 s |
//! | the host's fault, for the fifth time | `failed` | acknowledged |
//! | the event that ends it cannot be stored | none | given back for 10 s |
//! | the bakery is asked to end | `retrying` | given back for 1 s |
//! | the bakery dies | none | comes again after 30 s |
//!
//! What always holds: the event is stored before the message is acknowledged; while a bake runs its message is kept alive;
//! when this returns no VM is left.

mod outcome;

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::{self, AckKind, Message};
use bus::objects::Objects;
use bus::retry::{self, Failure, Policy};
use bus::{nats, streams};
use futures_util::StreamExt as _;
use schemas::names::{bucket, stream};
use store::{CacheConfig, Store};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use vm::Driver;

use self::outcome::Outcome;
use crate::bakery::{Bakery, MakeInitramfs};
use crate::config::Config;
use crate::definitions::Definitions;

/// 10 s: three of them fit into the time after which the server gives the message to another.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// 20 s for one question for a request, so that a consumer that was lost is soon made again.
const FETCH_EXPIRY: Duration = Duration::from_secs(20);

/// Serves until `shutdown`.
pub async fn run(
    config: Arc<Config>,
    driver: Arc<dyn Driver>,
    make_initramfs: MakeInitramfs,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let _lock = take_over(&config.state)?;
    let starting = Box::pin(Server::start(config, driver, make_initramfs));
    let Some(server) = shutdown.run_until_cancelled(starting).await else {
        return Ok(());
    };
    let server = server?;
    info!(class = %server.bakery.class(), "bakery ready");
    while let Some(Some(message)) = shutdown.run_until_cancelled(server.next()).await {
        server.serve(&message, &shutdown).await;
    }
    // The last message may just have been given back.
    server.client.flush().await.context("tell NATS the last")?;
    server.client.drain().await.context("leave NATS")?;
    info!("bakery ended");
    Ok(())
}

/// A bakery with its connections.
struct Server {
    bakery: Bakery,
    objects: Objects,
    definitions: Definitions,
    client: async_nats::Client,
    jetstream: jetstream::Context,
}

impl Server {
    /// Waits for NATS and S3, and opens what lies there.
    async fn start(
        config: Arc<Config>,
        driver: Arc<dyn Driver>,
        make_initramfs: MakeInitramfs,
    ) -> anyhow::Result<Self> {
        let client = nats::connect(&config.nats, "bakery").await?;
        let jetstream = jetstream::new(client.clone());
        let objects = Objects::connect(&config.objects).await?;
        objects.wait_ready().await?;
        let snapshots = jetstream.get_key_value(bucket::SNAPSHOTS).await;
        let snapshots = snapshots.with_context(|| {
            let bucket = bucket::SNAPSHOTS;
            format!("open the bucket {bucket}: was `bakery init` run on this server?")
        })?;
        let cache = CacheConfig {
            directory: config.state.join("cache"),
            max_bytes: 20 << 30,
        };
        let store = Store::open(objects.clone(), snapshots, cache).await?;
        Ok(Self {
            bakery: Bakery::new(config, driver, make_initramfs, objects.clone(), store)?,
            objects,
            definitions: Definitions::open(&jetstream).await?,
            client,
            jetstream,
        })
    }

    /// The next request, however long it takes.
    async fn next(&self) -> Option<Message> {
        loop {
            let fetched = retry::with(Policy::FOREVER, "take a bake request", || async {
                Box::pin(self.fetch()).await.map_err(Failure::Transient)
            });
            if let Ok(Some(message)) = fetched.await {
                return Some(message);
            }
        }
    }

    /// One question for a request. The consumer is made where it is not there.
    async fn fetch(&self) -> Result<Option<Message>, FetchError> {
        let config = streams::bake_consumer(self.bakery.class());
        let requests = self.jetstream.get_stream_no_info(stream::BAKE_REQUESTS);
        let requests = requests.await.map_err(FetchError::of("find the stream"))?;
        let consumer: PullConsumer = requests
            .create_consumer(config)
            .await
            .map_err(FetchError::of("make the consumer"))?;
        let mut batch = consumer
            .fetch()
            .max_messages(1)
            .expires(FETCH_EXPIRY)
            .messages()
            .await
            .map_err(FetchError::of("ask for a request"))?;
        let message = batch.next().await.transpose();
        message.map_err(|source| FetchError {
            doing: "receive a request",
            source,
        })
    }

    /// Bakes for one message and answers it.
    async fn serve(&self, message: &Message, shutdown: &CancellationToken) {
        let baking = outcome::handle(self, message);
        let outcome = tokio::select! {
            outcome = baking => outcome,
            () = keep_alive(message) => unreachable!("a heart does not stop by itself"),
            () = shutdown.cancelled() => outcome::abandon(self, message).await,
        };
        let answered = match outcome {
            Outcome::Settled => message.double_ack().await,
            Outcome::Again(delay) => message.ack_with(AckKind::Nak(Some(delay))).await,
        };
        if let Err(error) = answered {
            warn!(subject = %message.subject, %error, "bake request not answered, it will come again");
        }
    }
}

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
struct FetchError {
    doing: &'static str,
    source: async_nats::Error,
}

impl FetchError {
    fn of<E: Into<async_nats::Error>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self {
            doing,
            source: error.into(),
        }
    }
}

/// Tells the server that the message is worked on, for ever.
async fn keep_alive(message: &Message) {
    let mut heart = interval(HEARTBEAT);
    heart.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        heart.tick().await;
        if let Err(error) = message.ack_with(AckKind::Progress).await {
            warn!(subject = %message.subject, %error, "heartbeat not sent");
        }
    }
}

/// Makes the state directory this process's own, and removes what a dead bakery left in it.
fn take_over(state: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(state).with_context(|| format!("create {}", state.display()))?;
    let path = state.join("bakery.lock");
    let lock = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            anyhow::bail!(
                "another bakery uses the state directory {}",
                state.display()
            )
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("lock {}", path.display()));
        }
    }
    for left in ["work", "slots"] {
        let path = state.join(left);
        if path.exists() {
            std::fs::remove_dir_all(&path).with_context(|| format!("clear {}", path.display()))?;
        }
    }
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_is_one_bakerys_and_is_cleared_of_what_a_dead_one_left() {
        let state = tempfile::tempdir().unwrap();
        let left = state.path().join("slots/vm-a");
        std::fs::create_dir_all(&left).unwrap();
        let lock = take_over(state.path()).unwrap();
        assert!(!left.exists());
        let refused = take_over(state.path()).unwrap_err().to_string();
        assert!(refused.starts_with("another bakery uses"), "{refused}");
        drop(lock);
        take_over(state.path()).unwrap();
    }
}
