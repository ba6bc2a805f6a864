//! A work queue served: its messages taken a few at a time, each kept alive until it is answered.
//!
//! What always holds: a message is answered once its handler has decided; while it is handled, and while it waits for its turn, it is
//! kept alive; when this returns no handler runs.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::{AckKind, Context, Message};
use async_trait::async_trait;
use bus::retry::{self, Failure, Policy};
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::outcome::Outcome;

/// 10 s: three of them fit into the time after which the server gives the message to another.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// 3 s for a handler to give its lease back before it is dropped: two answers of a server that is not far.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(3);

/// 20 s for one question for a message, so that a consumer that was lost is soon made again.
const FETCH_EXPIRY: Duration = Duration::from_secs(20);

/// What is done with the messages of a queue.
#[async_trait]
pub(super) trait Handler: Send + Sync + 'static {
    /// Does what a message asks for.
    async fn handle(&self, message: &Message) -> Outcome;

    /// Says that this bakery ends and another does it.
    async fn abandon(&self, message: &Message) -> Outcome;
}

/// A queue.
pub(super) struct Queue {
    pub(super) jetstream: Context,
    /// The stream that it lies in.
    pub(super) stream: &'static str,
    /// How its messages are taken: made where it is not there.
    pub(super) consumer: pull::Config,
    /// How many are handled at a time.
    pub(super) at_once: usize,
}

impl Queue {
    /// Serves until `shutdown`.
    pub(super) async fn serve(self, handler: Arc<dyn Handler>, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.at_once));
        let mut running = JoinSet::new();
        while let Some((message, place)) = shutdown.run_until_cancelled(self.next(&places)).await {
            let (handler, shutdown) = (handler.clone(), shutdown.clone());
            running.spawn(async move {
                serve_one(&*handler, &message, &shutdown).await;
                drop(place);
            });
            while let Some(ended) = running.try_join_next() {
                report_panic(ended);
            }
        }
        while let Some(ended) = running.join_next().await {
            report_panic(ended);
        }
    }

    /// A free place, and the message that takes it, however long that takes.
    async fn next(&self, places: &Arc<Semaphore>) -> (Message, OwnedSemaphorePermit) {
        let place = Arc::clone(places).acquire_owned().await;
        let place = place.expect("nothing closes the places");
        loop {
            let what = format!("take a message of {}", self.stream);
            let fetched = retry::with(Policy::FOREVER, &what, || async {
                Box::pin(self.fetch()).await.map_err(Failure::Transient)
            });
            if let Ok(Some(message)) = fetched.await {
                return (message, place);
            }
        }
    }

    /// One question for a message.
    async fn fetch(&self) -> Result<Option<Message>, FetchError> {
        let stream = self.jetstream.get_stream_no_info(self.stream);
        let stream = stream.await.map_err(FetchError::of("find the stream"))?;
        let consumer: PullConsumer = stream
            .create_consumer(self.consumer.clone())
            .await
            .map_err(FetchError::of("make the consumer"))?;
        let mut batch = consumer
            .fetch()
            .max_messages(1)
            .expires(FETCH_EXPIRY)
            .messages()
            .await
            .map_err(FetchError::of("ask for a message"))?;
        let message = batch.next().await.transpose();
        message.map_err(|source| FetchError {
            doing: "receive a message",
            source,
        })
    }
}

/// Handles one message and answers it.
async fn serve_one(handler: &dyn Handler, message: &Message, shutdown: &CancellationToken) {
    let outcome = tokio::select! {
        outcome = handler.handle(message) => outcome,
        () = keep_alive(message) => unreachable!("a heart does not stop by itself"),
        () = past(shutdown) => handler.abandon(message).await,
    };
    let answered = match outcome {
        Outcome::Settled => message.double_ack().await,
        Outcome::Again(delay) => message.ack_with(AckKind::Nak(Some(delay))).await,
    };
    if let Err(error) = answered {
        warn!(subject = %message.subject, %error, "not answered, the message will come again");
    }
}

/// Returns once the bakery was asked to end and a handler that can has ended.
async fn past(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(LAST_WORDS).await;
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

/// A handler that panicked is a mistake of ours; its message comes back when its time is over.
fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!(%error, "the handler of a message panicked");
    }
}

/// Why there is no message.
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
