//! The messages of a stream as they come, each once and in order.
//!
//! The consumer is made again from the next message whenever it reports an error: that is quicker than waiting for it to recover, and
//! loses nothing. No error here ends the following; the caller does, when it has heard the end and drops the receiver.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::ConsumerError;
use async_nats::jetstream::{Context, Message};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use crate::retry::{self, Failure, Policy};

/// 2 s: a connection that is gone is noticed after two of them.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// 1 min: the server forgets a consumer whose client is gone.
const FORGET_AFTER: Duration = Duration::from_mins(1);

/// What is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The stream, by a name of [`schemas::names::stream`].
    pub stream: &'static str,
    /// Which of its messages.
    pub subject: String,
    /// What its consumers' names start with. Nobody else may use it, or each takes the other's consumer away.
    pub name: String,
    /// The first message, by its sequence in the stream; 1 for the first that the stream still has.
    pub next_sequence: u64,
}

/// Sends what `read` makes of each message to `items`, until nobody listens. Anybody who may publish there can send nonsense: `read` gives
/// none for it.
pub async fn follow<T>(
    jetstream: Context,
    followed: Followed,
    read: impl Fn(&Message) -> Option<T>,
    items: mpsc::Sender<T>,
) {
    tokio::select! {
        () = follow_on(jetstream, followed, read, &items) => {}
        // At once, and not with the next message: a program that has heard the end may be about to close the connection.
        () = items.closed() => {}
    }
}

async fn follow_on<T>(
    jetstream: Context,
    mut followed: Followed,
    read: impl Fn(&Message) -> Option<T>,
    items: &mpsc::Sender<T>,
) {
    let following = format!("follow {}", followed.subject);
    for incarnation in 0_u32.. {
        let config = followed.consumer(incarnation);
        let made = retry::with(Policy::FOREVER, &following, || {
            create(&jetstream, followed.stream, &config)
        });
        let Ok(consumer) = made.await else {
            return;
        };
        let Ok(mut messages) = consumer.stream().heartbeat(HEARTBEAT).messages().await else {
            continue;
        };
        while let Some(Ok(message)) = messages.next().await {
            if let Ok(info) = message.info() {
                followed.next_sequence = info.stream_sequence + 1;
            }
            if let Some(item) = read(&message)
                && items.send(item).await.is_err()
            {
                return;
            }
        }
    }
}

impl Followed {
    /// One name for each time that it is made, since the server may still know the last one.
    fn consumer(&self, incarnation: u32) -> pull::Config {
        pull::Config {
            name: Some(format!("{}-{incarnation}", self.name)),
            filter_subject: self.subject.clone(),
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: self.next_sequence,
            },
            ack_policy: AckPolicy::None,
            inactive_threshold: FORGET_AFTER,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        }
    }
}

async fn create(
    jetstream: &Context,
    stream: &str,
    config: &pull::Config,
) -> Result<PullConsumer, Failure<ConsumerError>> {
    let stored = jetstream.get_stream_no_info(stream).await;
    let stored = stored.expect(
        "a handle on a stream is made without asking the server, and the name is a constant",
    );
    let made = stored.create_consumer(config.clone()).await;
    made.map_err(Failure::Transient)
}

#[cfg(test)]
mod tests {
    use schemas::names::stream;

    use super::*;

    #[test]
    fn a_consumer_that_is_made_again_has_another_name_and_starts_at_the_next_message() {
        let mut followed = Followed {
            stream: stream::LOGS,
            subject: "logs.acme.j1".to_owned(),
            name: "follow-j1".to_owned(),
            next_sequence: 1,
        };
        let first = followed.consumer(0);
        followed.next_sequence = 8;
        let second = followed.consumer(1);
        assert_eq!(first.name.as_deref(), Some("follow-j1-0"));
        assert_eq!(second.name.as_deref(), Some("follow-j1-1"));
        let start_sequence = 8;
        assert_eq!(
            second.deliver_policy,
            DeliverPolicy::ByStartSequence { start_sequence }
        );
        assert_eq!(second.filter_subject, first.filter_subject);
    }
}
