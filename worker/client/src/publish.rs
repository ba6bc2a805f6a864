//! The job into the queue. It is there once the stream has said so.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use bus::retry::{self, Failure, Policy};
use schemas::{Job, JobSubject};

/// 1 min: a server that is started again is back sooner.
const GIVE_UP_AFTER: Duration = Duration::from_mins(1);

/// Why the job is not known to be in the queue.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueError {
    /// It does not become JSON.
    #[error("write the job")]
    Write(#[source] serde_json::Error),
    /// Nobody keeps jobs there.
    #[error("no stream takes {subject}: was `bakery init` run on this server?")]
    NoStream {
        /// Where it should go.
        subject: String,
    },
    /// The stream did not say that it stored it.
    #[error("publish the job to {subject}")]
    Publish {
        /// Where it should go.
        subject: String,
        /// Why.
        #[source]
        source: PublishError,
    },
}

/// Publishes `job`. A try whose answer is lost is repeated with the same message id, of which the stream takes one.
pub(crate) async fn publish(
    jetstream: &Context,
    subject: &JobSubject,
    job: &Job,
) -> Result<(), QueueError> {
    let body = serde_json::to_vec(job).map_err(QueueError::Write)?;
    // The window of message ids is one for all tenants of the stream.
    let message_id = format!("{}-{}", subject.tenant, job.id);
    let message = PublishMessage::build()
        .payload(body.into())
        .message_id(message_id);
    retry::with(Policy::up_to(GIVE_UP_AFTER), "publish the job", || {
        attempt(jetstream, subject.to_string(), message.clone())
    })
    .await
}

async fn attempt(
    jetstream: &Context,
    subject: String,
    message: PublishMessage,
) -> Result<(), Failure<QueueError>> {
    let published = async {
        jetstream
            .send_publish(subject.clone(), message)
            .await?
            .await
    };
    match published.await {
        Ok(_) => Ok(()),
        Err(error) => Err(failure(subject, error)),
    }
}

fn failure(subject: String, source: PublishError) -> Failure<QueueError> {
    match source.kind() {
        PublishErrorKind::StreamNotFound => Failure::Permanent(QueueError::NoStream { subject }),
        PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending => {
            Failure::Transient(QueueError::Publish { subject, source })
        }
        PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::WrongLastSequence
        | PublishErrorKind::MaxPayloadExceeded
        | PublishErrorKind::Other => Failure::Permanent(QueueError::Publish { subject, source }),
    }
}
