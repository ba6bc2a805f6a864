//! The job into the queue. It is there once the stream has said so.

use std::sync::atomic::{AtomicU32, Ordering};

use async_nats::connection::State;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use bus::retry::{self, Failure, Policy};
use schemas::{Job, JobSubject};

use crate::server::{GIVE_UP_AFTER, Server};
use crate::traceparent::{self, Traceparent};

/// Two of 5 s each: a server that has just come back answers the second.
const MAX_SILENCES: u32 = 2;

/// Why the job is not known to be in the queue.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueError {
    /// It does not become JSON.
    #[error("write the job")]
    Write(#[source] serde_json::Error),
    /// Nobody keeps jobs there, as far as this user sees.
    #[error(
        "no stream takes {subject} from this user: its account does not reach it, or `bakery init` was not run on this server"
    )]
    NoStream {
        /// Where it should go.
        subject: String,
    },
    /// Nobody says anything, although there is a connection.
    #[error(
        "no answer to the job on {subject} in {tries} tries: NATS is silent towards a user whose permissions do not cover that subject"
    )]
    Silent {
        /// Where it should go.
        subject: String,
        /// How often it was sent.
        tries: u32,
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

/// Publishes `job`, with the trace it belongs to. A try whose answer is lost is repeated with the same message id, of which the stream takes one.
pub(crate) async fn publish(
    server: &Server,
    subject: &JobSubject,
    job: &Job,
    trace: Option<&Traceparent>,
) -> Result<(), QueueError> {
    let body = serde_json::to_vec(job).map_err(QueueError::Write)?;
    // The window of message ids is one for all tenants of the stream.
    let message_id = format!("{}-{}", subject.tenant, job.id);
    let mut message = PublishMessage::build()
        .payload(body.into())
        .message_id(message_id);
    if let Some(trace) = trace {
        message = message.header(traceparent::HEADER, trace.as_str());
    }
    let silences = AtomicU32::new(0);
    retry::with(Policy::up_to(GIVE_UP_AFTER), "publish the job", || {
        attempt(server, subject.to_string(), message.clone(), &silences)
    })
    .await
}

async fn attempt(
    server: &Server,
    subject: String,
    message: PublishMessage,
    silences: &AtomicU32,
) -> Result<(), Failure<QueueError>> {
    let published = async {
        let sent = server.jetstream.send_publish(subject.clone(), message);
        sent.await?.await
    };
    let Err(error) = published.await else {
        return Ok(());
    };
    let connected = server.client.connection_state() == State::Connected;
    if error.kind() == PublishErrorKind::TimedOut && connected {
        let tries = silences.fetch_add(1, Ordering::Relaxed) + 1;
        if tries == MAX_SILENCES {
            return Err(Failure::Permanent(QueueError::Silent { subject, tries }));
        }
    }
    Err(failure(subject, error))
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
