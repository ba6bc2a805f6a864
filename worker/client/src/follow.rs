//! The live log as it comes: from the first chunk that the stream still has, or from now on.

use async_nats::jetstream::Message;
use async_nats::{HeaderMap, HeaderValue};
use bus::follow::{self, Followed};
use bytes::Bytes;
use schemas::log::ChunkHeader;
use schemas::names::{log_subject, stream};
use tokio::sync::mpsc;

use crate::hear::hear;
use crate::job_name::JobName;
use crate::live::Source;

/// A chunk of the log.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Where it belongs.
    pub(crate) header: ChunkHeader,
    /// What was written.
    pub(crate) bytes: Bytes,
}

impl Chunk {
    /// The chunk in a message; none in what is not a chunk, which anybody who may publish there could send.
    pub(crate) fn read(headers: &HeaderMap, bytes: &Bytes) -> Option<Self> {
        let header = ChunkHeader::read(|name| headers.get(name).map(HeaderValue::as_str)).ok()?;
        Some(Self {
            header,
            bytes: bytes.clone(),
        })
    }
}

/// Sends every chunk of the job's log to `chunks`, until nobody listens.
pub(crate) async fn follow(source: Source, job: JobName, chunks: mpsc::Sender<Chunk>) {
    let jetstream = match source {
        Source::Stream(jetstream) => jetstream,
        Source::Heard(heard) => return hear(heard, chunk, chunks).await,
    };
    let log = Followed {
        stream: stream::LOGS,
        subject: log_subject(&job.tenant, &job.id),
        name: format!("follow-{}-{}", job.id, std::process::id()),
        next_sequence: 1,
    };
    let read = |message: &Message| chunk(message);
    follow::follow(jetstream, log, read, chunks).await;
}

fn chunk(message: &async_nats::Message) -> Option<Chunk> {
    Chunk::read(message.headers.as_ref()?, &message.payload)
}
