//! The live log as it comes, from the first chunk that the stream still has.

use async_nats::jetstream::{Context, Message};
use bus::follow::{self, Followed};
use bytes::Bytes;
use schemas::log::ChunkHeader;
use schemas::names::{log_subject, stream};
use tokio::sync::mpsc;

use crate::job_name::JobName;

/// A chunk of the log.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Its place in the stream.
    pub(crate) sequence: u64,
    /// Where it belongs.
    pub(crate) header: ChunkHeader,
    /// What was written.
    pub(crate) bytes: Bytes,
}

/// Sends every chunk of the job's log to `chunks`, until nobody listens.
pub(crate) async fn follow(jetstream: Context, job: JobName, chunks: mpsc::Sender<Chunk>) {
    let log = Followed {
        stream: stream::LOGS,
        subject: log_subject(&job.tenant, &job.id),
        name: format!("follow-{}-{}", job.id, std::process::id()),
        next_sequence: 1,
    };
    follow::follow(jetstream, log, chunk, chunks).await;
}

/// The chunk in a message; none in what is not a chunk, which anybody who may publish there could send.
fn chunk(message: &Message) -> Option<Chunk> {
    let headers = message.headers.as_ref()?;
    let header =
        ChunkHeader::read(|name| headers.get(name).map(async_nats::HeaderValue::as_str)).ok()?;
    Some(Chunk {
        sequence: message.info().ok()?.stream_sequence,
        header,
        bytes: message.payload.clone(),
    })
}
