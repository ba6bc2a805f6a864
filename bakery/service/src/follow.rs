//! The events of one bake as they come.

use async_nats::jetstream::{Context, Message};
use bus::follow::{self, Followed};
use schemas::Token;
use schemas::bake::BakeEvent;
use schemas::names::stream;
use tokio::sync::mpsc;

/// Sends every event of the bake `request_id` that is stored at or after `next_sequence` to `events`, until nobody listens.
pub(crate) async fn follow(
    jetstream: Context,
    subject: String,
    request_id: Token,
    next_sequence: u64,
    events: mpsc::Sender<BakeEvent>,
) {
    let followed = Followed {
        stream: stream::BAKE_EVENTS,
        subject,
        name: format!("follow-{request_id}"),
        next_sequence,
    };
    // Other bakes of the environment are heard on the same subject, and anybody may publish what is no event.
    let ours = |message: &Message| {
        let event = BakeEvent::parse(&message.payload).ok();
        event.filter(|event| event.request_id == request_id)
    };
    follow::follow(jetstream, followed, ours, events).await;
}
