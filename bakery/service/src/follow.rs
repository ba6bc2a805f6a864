//! The events of one bake as they come.
//!
//! The consumer is made again from the next message whenever its stream reports an error: that is quicker than waiting for it to
//! recover, and loses nothing. No error here ends the following; the caller does, when it has heard the end.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::ConsumerError;
use bus::retry::{self, Failure, Policy};
use futures_util::StreamExt as _;
use schemas::Token;
use schemas::bake::BakeEvent;
use schemas::names::stream;
use tokio::sync::mpsc;

/// 2 s: a connection that is gone is noticed after two of them.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// 1 min: the server forgets a consumer whose client is gone.
const FORGET_AFTER: Duration = Duration::from_mins(1);

/// Sends every event of the bake `request_id` that is stored at or after `next_sequence` to `events`, until nobody listens.
pub(crate) async fn follow(
    jetstream: Context,
    subject: String,
    request_id: Token,
    mut next_sequence: u64,
    events: mpsc::Sender<BakeEvent>,
) {
    for incarnation in 0_u32.. {
        let config = config(&subject, &request_id, incarnation, next_sequence);
        let made = retry::with(Policy::FOREVER, "follow the bake", || {
            create(&jetstream, &config)
        });
        let Ok(consumer) = made.await else {
            return;
        };
        let Ok(mut messages) = consumer.stream().heartbeat(HEARTBEAT).messages().await else {
            continue;
        };
        while let Some(Ok(message)) = messages.next().await {
            if let Ok(info) = message.info() {
                next_sequence = info.stream_sequence + 1;
            }
            // Other bakes of the environment are heard on the same subject, and anybody may publish what is no event.
            let event = BakeEvent::parse(&message.payload).ok();
            let ours = event.filter(|event| event.request_id == request_id);
            if let Some(event) = ours
                && events.send(event).await.is_err()
            {
                return;
            }
        }
    }
}

async fn create(
    jetstream: &Context,
    config: &pull::Config,
) -> Result<PullConsumer, Failure<ConsumerError>> {
    let stored = jetstream.get_stream_no_info(stream::BAKE_EVENTS).await;
    let stored = stored.expect(
        "a handle on a stream is made without asking the server, and the name is a constant",
    );
    let made = stored.create_consumer(config.clone()).await;
    made.map_err(Failure::Transient)
}

/// One name for each time that it is made, since the server may still know the last one.
fn config(
    subject: &str,
    request_id: &Token,
    incarnation: u32,
    start_sequence: u64,
) -> pull::Config {
    pull::Config {
        name: Some(format!("follow-{request_id}-{incarnation}")),
        filter_subject: subject.to_owned(),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence },
        ack_policy: AckPolicy::None,
        inactive_threshold: FORGET_AFTER,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    }
}
