//! The one result of a job. The stream stores the first report of a subject and refuses every later one, so whoever reports twice, or
//! after somebody else, learns that there is a result and changes nothing.
//!
//! Hearing it: a core subscription first, then a look at what is stored, so that no moment lies between the two; then whichever comes.

use std::time::Duration;

use async_nats::error::Error as NatsError;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{DirectGetError, DirectGetErrorKind};
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{Client, SubscribeError, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use schemas::names::{report_subject, result_subject, stream};
use schemas::{FieldError, JobResult, Token};
use tokio::time::MissedTickBehavior;
use tracing::warn;

use crate::telemetry::Causes;

/// 5 s: a core subscription loses what is published while the connection is away, so what is stored is looked at now and then.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is the job's result.
    First,
    /// The job had one, and still has that.
    AlreadyThere,
}

/// Why a result could not be published or read.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// It does not become JSON.
    #[error("write the result {subject}")]
    Write {
        /// Where it should go.
        subject: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The server did not say that it stored it. It may have.
    #[error("publish the result {subject}")]
    Publish {
        /// Where it should go.
        subject: String,
        /// Why.
        #[source]
        source: PublishError,
    },
    /// It cannot be looked up.
    #[error("look up the result {subject}")]
    Fetch {
        /// Where it should be.
        subject: String,
        /// Why.
        #[source]
        source: DirectGetError,
    },
    /// The stream cannot be addressed.
    #[error("open the stream of results")]
    Stream(#[source] jetstream::context::GetStreamError),
    /// Its subject cannot be subscribed to.
    #[error("subscribe to {subject}")]
    Subscribe {
        /// Where it will be heard.
        subject: String,
        /// Why.
        #[source]
        source: SubscribeError,
    },
    /// It is not a result.
    #[error("read the result {subject}")]
    Read {
        /// Where it is.
        subject: String,
        /// Why.
        #[source]
        source: FieldError,
    },
}

/// Publishes `result` unless the job has one. After an error the caller cannot know: it publishes again, and is told.
///
/// A refusal alone does not mean that there is one, since the server says the same of a disk that is full: it is looked up.
pub async fn publish_once(jetstream: &Context, result: &JobResult) -> Result<Stored, ResultsError> {
    let subject = report_subject(&result.tenant, &result.job_id);
    let body = serde_json::to_vec(result).map_err(|source| ResultsError::Write {
        subject: subject.clone(),
        source,
    })?;
    // The stream refuses a second message of a subject by itself; the expectation says so even of a stream that was made otherwise.
    let message = PublishMessage::build()
        .payload(body.into())
        .expected_last_subject_sequence(0);
    let published = async {
        jetstream
            .send_publish(subject.clone(), message)
            .await?
            .await
    };
    match published.await {
        Ok(_) => Ok(Stored::First),
        Err(error) if may_be_there(&error) && is_there(jetstream, &subject).await => {
            Ok(Stored::AlreadyThere)
        }
        Err(source) => Err(ResultsError::Publish { subject, source }),
    }
}

/// The result of a job, if it has one.
pub async fn fetch(
    jetstream: &Context,
    tenant: &Token,
    job_id: &Token,
) -> Result<Option<JobResult>, ResultsError> {
    let subject = report_subject(tenant, job_id);
    let body = fetch_body(jetstream, &subject).await?;
    body.map(|body| read(&subject, &body)).transpose()
}

/// Whether a job has a result, be it one that this version can read or not.
pub async fn has(
    jetstream: &Context,
    tenant: &Token,
    job_id: &Token,
) -> Result<bool, ResultsError> {
    let body = fetch_body(jetstream, &report_subject(tenant, job_id)).await?;
    Ok(body.is_some())
}

/// Waits for the result of a job, which it may have already. Waits forever for a job that nobody runs, and while the server is away.
pub async fn wait(
    client: &Client,
    jetstream: &Context,
    tenant: &Token,
    job_id: &Token,
) -> Result<JobResult, ResultsError> {
    let subject = result_subject(tenant, job_id);
    let mut heard =
        client
            .subscribe(subject.clone())
            .await
            .map_err(|source| ResultsError::Subscribe {
                subject: subject.clone(),
                source,
            })?;
    // One connection carries both in order, so the server knows the subscription before it looks.
    hear_or_look(&mut heard, &subject, jetstream, tenant, job_id).await
}

async fn hear_or_look(
    heard: &mut Subscriber,
    subject: &str,
    jetstream: &Context,
    tenant: &Token,
    job_id: &Token,
) -> Result<JobResult, ResultsError> {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(message) = heard.next() => return read(subject, &message.payload),
            _ = look.tick() => match fetch(jetstream, tenant, job_id).await {
                Ok(Some(result)) => return Ok(result),
                Ok(None) => {}
                Err(error @ ResultsError::Read { .. }) => return Err(error),
                // The server is away for a moment, and the connection comes back by itself.
                Err(error) => warn!(error = %Causes(&error), "no look at the results"),
            },
        }
    }
}

/// What is stored, whether it can be read or not.
async fn fetch_body(jetstream: &Context, subject: &str) -> Result<Option<Bytes>, ResultsError> {
    let results = jetstream
        .get_stream_no_info(stream::RESULTS)
        .await
        .map_err(ResultsError::Stream)?;
    match results.direct_get_last_for_subject(subject).await {
        Ok(message) => Ok(Some(message.payload)),
        Err(error) if matches!(error.kind(), DirectGetErrorKind::NotFound) => Ok(None),
        Err(source) => Err(ResultsError::Fetch {
            subject: subject.to_owned(),
            source,
        }),
    }
}

/// Whether something is known to be stored. Where that cannot be found out it is not known.
async fn is_there(jetstream: &Context, subject: &str) -> bool {
    match fetch_body(jetstream, subject).await {
        Ok(body) => body.is_some(),
        Err(error) => {
            warn!(subject, error = %Causes(&error), "no look at the results");
            false
        }
    }
}

fn read(subject: &str, body: &[u8]) -> Result<JobResult, ResultsError> {
    JobResult::parse(body).map_err(|source| ResultsError::Read {
        subject: subject.to_owned(),
        source,
    })
}

/// The last message of the subject is not the one expected; or the stream did not store this one, for the subject has one or for any
/// other reason.
fn may_be_there(error: &NatsError<PublishErrorKind>) -> bool {
    let code = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<jetstream::Error>())
        .map(jetstream::Error::error_code);
    error.kind() == PublishErrorKind::WrongLastSequence
        || code == Some(ErrorCode::STREAM_STORE_FAILED)
}

#[cfg(test)]
mod tests;
