//! The live log as it comes, from the first chunk that the stream still has.
//!
//! The consumer is made again from the next message whenever its stream reports an error: that is quicker than waiting for it to recover,
//! and loses nothing. No error here ends the following; the caller does, when it has the result.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::stream::ConsumerError;
use async_nats::jetstream::{Context, Message};
use bus::retry::{self, Failure, Policy};
use bytes::Bytes;
use futures_util::StreamExt as _;
use schemas::Token;
use schemas::log::ChunkHeader;
use schemas::names::{log_subject, stream};
use tokio::sync::mpsc;

/// A chunk of the log.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Where it belongs.
    pub(crate) header: ChunkHeader,
    /// What was written.
    pub(crate) bytes: Bytes,
}

/// 2 s: a connection that is gone is noticed after two of them.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// 1 min: the server forgets a consumer whose client is gone.
const FORGET_AFTER: Duration = Duration::from_mins(1);

/// Sends every chunk of the job's log to `chunks`, until nobody listens.
pub(crate) async fn follow(
    jetstream: Context,
    tenant: Token,
    job_id: Token,
    chunks: mpsc::Sender<Chunk>,
) {
    let mut next_sequence = 1;
    for incarnation in 0_u32.. {
        let config = config(&tenant, &job_id, incarnation, next_sequence);
        let Ok(consumer) = retry::with(Policy::FOREVER, "follow the log", || {
            create(&jetstream, &config)
        })
        .await
        else {
            return;
        };
        let Ok(mut messages) = consumer.stream().heartbeat(HEARTBEAT).messages().await else {
            continue;
        };
        while let Some(Ok(message)) = messages.next().await {
            if let Ok(info) = message.info() {
                next_sequence = info.stream_sequence + 1;
            }
            if let Some(chunk) = chunk(&message)
                && chunks.send(chunk).await.is_err()
            {
                return;
            }
        }
    }
}

async fn create(
    jetstream: &Context,
    config: &pull::Config,
) -> Result<Consumer<pull::Config>, Failure<ConsumerError>> {
    let logs = jetstream.get_stream_no_info(stream::LOGS).await;
    let logs = logs.expect(
        "a handle on a stream is made without asking the server, and the name is a constant",
    );
    logs.create_consumer(config.clone())
        .await
        .map_err(Failure::Transient)
}

/// One name for each time that it is made, since the server may still know the last one.
fn config(tenant: &Token, job_id: &Token, incarnation: u32, start_sequence: u64) -> pull::Config {
    pull::Config {
        name: Some(format!(
            "follow-{job_id}-{}-{incarnation}",
            std::process::id()
        )),
        filter_subject: log_subject(tenant, job_id),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence },
        ack_policy: AckPolicy::None,
        inactive_threshold: FORGET_AFTER,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    }
}

/// The chunk in a message; none in what is not a chunk, which anybody who may publish there could send.
fn chunk(message: &Message) -> Option<Chunk> {
    let headers = message.headers.as_ref()?;
    let header =
        ChunkHeader::read(|name| headers.get(name).map(async_nats::HeaderValue::as_str)).ok()?;
    Some(Chunk {
        header,
        bytes: message.payload.clone(),
    })
}
