//! The live log as it comes: from the first chunk that the stream still has, or from now on.

use async_nats::Subscriber;
use async_nats::jetstream::Message;
use bus::follow::{self, Followed};
use bytes::Bytes;
use futures_util::StreamExt as _;
use schemas::log::ChunkHeader;
use schemas::names::{log_subject, stream};
use tokio::sync::mpsc;

use crate::job_name::JobName;
use crate::live::Source;

/// A chunk of the log.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Its place in the stream; 0 for one that was heard.
    pub(crate) sequence: u64,
    /// Where it belongs.
    pub(crate) header: ChunkHeader,
    /// What was written.
    pub(crate) bytes: Bytes,
}

/// Sends every chunk of the job's log to `chunks`, until nobody listens.
pub(crate) async fn follow(source: Source, job: JobName, chunks: mpsc::Sender<Chunk>) {
    let jetstream = match source {
        Source::Stream(jetstream) => jetstream,
        Source::Heard(heard) => return hear(heard, chunks).await,
    };
    let log = Followed {
        stream: stream::LOGS,
        subject: log_subject(&job.tenant, &job.id),
        name: format!("follow-{}-{}", job.id, std::process::id()),
        next_sequence: 1,
    };
    let read = |message: &Message| chunk(message, message.info().ok()?.stream_sequence);
    follow::follow(jetstream, log, read, chunks).await;
}

async fn hear(mut heard: Subscriber, chunks: mpsc::Sender<Chunk>) {
    while let Some(message) = heard.next().await {
        if let Some(chunk) = chunk(&message, 0)
            && chunks.send(chunk).await.is_err()
        {
            return;
        }
    }
}

/// The chunk in a message; none in what is not a chunk, which anybody who may publish there could send.
fn chunk(message: &async_nats::Message, sequence: u64) -> Option<Chunk> {
    let headers = message.headers.as_ref()?;
    let header =
        ChunkHeader::read(|name| headers.get(name).map(async_nats::HeaderValue::as_str)).ok()?;
    Some(Chunk {
        sequence,
        header,
        bytes: message.payload.clone(),
    })
}
