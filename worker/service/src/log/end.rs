//! The end of the log of an attempt that wrote nothing.

use async_nats::jetstream::Context;
use bus::telemetry::Causes;
use jiff::Timestamp;
use schemas::Token;
use schemas::log::{ChunkHeader, LogStream};
use schemas::names::log_subject;
use tokio::time::timeout;
use tracing::warn;

use super::live::headers;
use super::{LAST_WORDS, line};

/// Marks the end of an attempt without output. A log that lacks it is no reason to do anything again.
pub async fn say_only(
    jetstream: &Context,
    tenant: &Token,
    job_id: &Token,
    attempt: u32,
    why: &str,
) {
    let header = ChunkHeader {
        attempt,
        step: None,
        stream: LogStream::System,
        seq: 1,
        time: Timestamp::now(),
        eof: true,
    };
    let subject = log_subject(tenant, job_id);
    let said = async {
        let chunk = line(why).into();
        let published = jetstream.publish_with_headers(subject, headers(&header), chunk);
        published.await?.await
    };
    match timeout(LAST_WORDS, said).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            warn!(job = %job_id, error = %Causes(&error), "the end of the log is not marked");
        }
        Err(_) => warn!(job = %job_id, "the end of the log is not confirmed in time"),
    }
}
