//! The NATS server, as the commands about a job ask it: by direct get, one message an answer, so that nothing is made there and a user needs
//! leave to read and no more.
//!
//! What always holds: no question waits longer than [`ANSWER_WITHIN`]. A server is silent towards who may not ask, and says that nobody is
//! there where the user's account does not reach what is asked, as a tenant's does not reach the queue; so both are told as what they may be.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use async_nats::header::NATS_MARKER_REASON;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::{DirectGetError, DirectGetErrorKind};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, StatusCode};
use bus::nats;
use bus::retry::Policy;
use bytes::Bytes;
use schemas::names::{report_subject, stream};
use schemas::{FieldError, JobResult};

use crate::args::Servers;
use crate::job_name::JobName;
use crate::scan::{Place, scan};

/// 1 min: a server that is started again is back sooner, and a person who waits longer wants to know why.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_mins(1);

/// 4 s: a hundred times what an answer takes, and shorter than the library's own 5 s, whose error does not say what was asked.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// The header that says that a key was deleted.
const KV_OPERATION: &str = "KV-Operation";

/// A server that is connected.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// The connection.
    pub(crate) client: Client,
    /// Its streams.
    pub(crate) jetstream: Context,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// None came.
    #[error(
        "no answer within {} s to the request to {doing}: NATS is silent towards a user whose permissions do not cover it",
        ANSWER_WITHIN.as_secs()
    )]
    Silent {
        /// What was asked.
        doing: String,
    },
    /// Nobody answers such a question.
    #[error(
        "{doing}: no stream answers this user: its account does not reach it, or `bakery init` was not run on this server"
    )]
    NoStream {
        /// What was asked.
        doing: String,
    },
    /// The answer is an error.
    #[error("{doing}")]
    Failed {
        /// What was asked.
        doing: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// It is something else that lies there.
    #[error("{doing}: it cannot be read")]
    Read {
        /// What was asked.
        doing: String,
        /// Why.
        #[source]
        source: FieldError,
    },
}

impl AskError {
    /// Whether it may be that this user may not ask.
    pub(crate) fn may_be_denied(&self) -> bool {
        match self {
            Self::Silent { .. } | Self::NoStream { .. } => true,
            Self::Failed { .. } | Self::Read { .. } => false,
        }
    }
}

impl Server {
    /// Connects; a server that is away is waited for.
    pub(crate) async fn connect(servers: &Servers) -> Result<Self, nats::NatsError> {
        let policy = Policy::up_to(GIVE_UP_AFTER);
        let config = servers.nats();
        // Boxed: a command holds its state together with that of all it does later.
        let client = Box::pin(nats::connect_within(&config, "sourdough", policy)).await?;
        let jetstream = jetstream::new(client.clone());
        Ok(Self { client, jetstream })
    }

    /// The last message of a subject.
    pub(crate) async fn last(
        &self,
        stream: &str,
        subject: &str,
    ) -> Result<Option<StreamMessage>, AskError> {
        let stored = self.stream(stream).await;
        let asked = stored.direct_get_last_for_subject(subject);
        answer(format!("read {subject} in {stream}"), asked).await
    }

    /// The first message of a subject, which may have wildcards, from sequence `from` on.
    pub(crate) async fn next(
        &self,
        stream: &str,
        subject: &str,
        from: u64,
    ) -> Result<Option<StreamMessage>, AskError> {
        let stored = self.stream(stream).await;
        let asked = stored.direct_get_next_for_subject(subject, Some(from));
        answer(format!("look through {subject} in {stream}"), asked).await
    }

    /// The value of a key.
    pub(crate) async fn value(&self, bucket: &str, key: &str) -> Result<Option<Bytes>, AskError> {
        let subject = format!("$KV.{bucket}.{key}");
        let last = self.last(&format!("KV_{bucket}"), &subject).await?;
        Ok(last
            .filter(|message| !is_mark(message))
            .map(|message| message.payload))
    }

    /// All keys that match, with their values.
    pub(crate) async fn values(
        &self,
        bucket: &str,
        keys: &str,
    ) -> Result<BTreeMap<String, Bytes>, AskError> {
        let (stream, prefix) = (format!("KV_{bucket}"), format!("$KV.{bucket}."));
        let subject = format!("{prefix}{keys}");
        let last = async || {
            let last = self.last(&stream, &subject).await?;
            Ok(last.map(|message| message.sequence))
        };
        let next = async |from| {
            let next = self.next(&stream, &subject, from).await?;
            Ok(next.map(|message| place(message, &prefix)))
        };
        scan(last, next).await
    }

    /// Puts a value under a key, as `nats kv put` does.
    pub(crate) async fn put(&self, bucket: &str, key: &str, value: Bytes) -> Result<(), AskError> {
        let doing = format!("put {key} into {bucket}");
        let subject = format!("$KV.{bucket}.{key}");
        let message = PublishMessage::build().payload(value);
        let put = async { self.jetstream.send_publish(subject, message).await?.await };
        match tokio::time::timeout(ANSWER_WITHIN, put).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.kind() == PublishErrorKind::StreamNotFound => {
                Err(AskError::NoStream { doing })
            }
            Ok(Err(error)) => Err(AskError::Failed {
                doing,
                source: error.into(),
            }),
            Err(_) => Err(AskError::Silent { doing }),
        }
    }

    /// The result of a job, if it has one.
    pub(crate) async fn result(&self, job: &JobName) -> Result<Option<JobResult>, AskError> {
        let subject = report_subject(&job.tenant, &job.id);
        let Some(stored) = self.last(stream::RESULTS, &subject).await? else {
            return Ok(None);
        };
        let read = JobResult::parse(&stored.payload);
        let doing = format!("read the result of job {}", job.id);
        read.map(Some)
            .map_err(|source| AskError::Read { doing, source })
    }

    /// A handle on a stream.
    pub(crate) async fn stream(&self, name: &str) -> jetstream::stream::Stream<()> {
        let stored = self.jetstream.get_stream_no_info(name).await;
        stored
            .expect("a handle on a stream is made without asking the server, and its name is a word of messages")
    }
}

/// Where a key lies.
fn place(message: StreamMessage, prefix: &str) -> Place {
    let subject = message.subject.as_str();
    Place {
        sequence: message.sequence,
        key: subject.strip_prefix(prefix).unwrap_or(subject).to_owned(),
        value: (!is_mark(&message)).then_some(message.payload),
    }
}

/// Whether it says that a key has no value any more: it was deleted, or its time is over.
fn is_mark(message: &StreamMessage) -> bool {
    message.headers.get(KV_OPERATION).is_some() || message.headers.get(NATS_MARKER_REASON).is_some()
}

async fn answer(
    doing: String,
    asked: impl Future<Output = Result<StreamMessage, DirectGetError>>,
) -> Result<Option<StreamMessage>, AskError> {
    match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(message)) => Ok(Some(message)),
        Ok(Err(error)) => match error.kind() {
            DirectGetErrorKind::NotFound => Ok(None),
            DirectGetErrorKind::ErrorResponse(StatusCode::NO_RESPONDERS, _) => {
                Err(AskError::NoStream { doing })
            }
            DirectGetErrorKind::InvalidSubject
            | DirectGetErrorKind::TimedOut
            | DirectGetErrorKind::Request
            | DirectGetErrorKind::ErrorResponse(..)
            | DirectGetErrorKind::Other => Err(AskError::Failed {
                doing,
                source: error.into(),
            }),
        },
        Err(_) => Err(AskError::Silent { doing }),
    }
}
