//! The end of a job's live log that nobody writes any more: of an attempt whose worker was lost, marked by whoever takes the job over.
//!
//! What always holds: it is marked before the job's record says that the worker was lost ([`Record::lost`], then
//! [`Record::mark_lost`]), so that whoever dies between the two leaves it to the next, who at worst says it twice. A log that lacks its
//! end is no reason to do anything again, so whoever cannot mark it goes on.
//!
//! [`Record::lost`]: crate::jobs::Record::lost
//! [`Record::mark_lost`]: crate::jobs::Record::mark_lost

use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::{GetStreamError, PublishError};
use async_nats::jetstream::stream::{DirectGetError, DirectGetErrorKind};
use jiff::Timestamp;
use schemas::Token;
use schemas::log::{ChunkHeader, LogStream};
use schemas::names::{log_subject, stream};
use tracing::warn;

use crate::jobs::LostAttempt;
use crate::telemetry::Causes;

/// Why the end of a log was not marked.
#[derive(Debug, thiserror::Error)]
enum EndError {
    #[error("open the stream of logs")]
    Stream(#[from] GetStreamError),
    #[error("look at the last chunk of the log")]
    Look(#[from] DirectGetError),
    #[error("publish the last chunk of the log")]
    Publish(#[from] PublishError),
}

/// Says in a job's log, as its last chunk, that the worker which wrote it was lost.
pub async fn say_lost(jetstream: &Context, tenant: &Token, job_id: &Token, lost: &LostAttempt) {
    if let Err(error) = mark(jetstream, &log_subject(tenant, job_id), lost).await {
        warn!(job = %job_id, error = %Causes(&error), "the end of the log is not marked");
    }
}

async fn mark(jetstream: &Context, subject: &str, lost: &LostAttempt) -> Result<(), EndError> {
    let last = last_chunk(jetstream, subject).await?;
    let written = last.filter(|last| last.attempt == lost.number);
    let header = ChunkHeader {
        attempt: lost.number,
        step: None,
        stream: LogStream::System,
        seq: written.map_or(0, |last| last.seq) + 1,
        time: Timestamp::now(),
        eof: true,
    };
    let mut headers = HeaderMap::new();
    for (name, value) in header.to_pairs() {
        headers.insert(name, value);
    }
    let line = format!("the worker {} was lost\n", lost.worker);
    let published = jetstream.publish_with_headers(subject.to_owned(), headers, line.into());
    published.await?.await?;
    Ok(())
}

/// Where the last chunk belongs; none for a log without chunks, and for one that is no chunk.
async fn last_chunk(jetstream: &Context, subject: &str) -> Result<Option<ChunkHeader>, EndError> {
    let logs = jetstream.get_stream_no_info(stream::LOGS).await?;
    match logs.direct_get_last_for_subject(subject).await {
        Ok(last) => {
            let value_of = |name: &str| last.headers.get(name).map(async_nats::HeaderValue::as_str);
            Ok(ChunkHeader::read(value_of).ok())
        }
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream;

    use super::*;

    #[tokio::test]
    async fn the_last_chunk_of_a_lost_attempt_says_so_after_what_its_worker_wrote() {
        let Ok(url) = std::env::var("NATS_URL") else {
            eprintln!("skipped: no NATS_URL");
            return;
        };
        let jetstream = jetstream::new(async_nats::connect(url).await.unwrap());
        crate::streams::provision(&jetstream, 1).await.unwrap();
        let tenant = "acme".parse().unwrap();
        let job_id = Token::from(uuid::Uuid::new_v4());
        let subject = log_subject(&tenant, &job_id);
        // The second attempt wrote a chunk, the third none.
        for (number, expected) in [(2, 1), (2, 2), (3, 1)] {
            let lost = LostAttempt {
                number,
                worker: "worker-1".parse().unwrap(),
            };
            say_lost(&jetstream, &tenant, &job_id, &lost).await;
            let last = last_chunk(&jetstream, &subject).await.unwrap().unwrap();
            assert_eq!((last.attempt, last.seq, last.eof), (number, expected, true));
        }
    }
}
