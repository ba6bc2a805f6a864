//! A job's live log and its events, for whoever waits for its result.
//!
//! ```text
//! hear both subjects ── make a consumer ─┬─ made ──▶ hear no more; follow the streams, from the first message that they have
//!                                        └─ not ───▶ show what is heard since
//! ```
//!
//! A consumer gives what was written before, and after a connection that broke; but who may make one can read, and have delivered, whatever
//! the stream has. A user of one tenant hears its own subjects only.

use async_nats::Subscriber;
use async_nats::client::SubscribeError;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{ConsumerError, ConsumerErrorKind};
use async_nats::jetstream::{Context, ErrorCode};
use futures_util::future::OptionFuture;
use schemas::event::Event;
use schemas::names::{event_subject, log_subject, stream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::follow::{self, Chunk};
use crate::job_name::JobName;
use crate::server::{ANSWER_WITHIN, Server};
use crate::waiting;

/// Where messages come from.
pub(crate) enum Source {
    /// All that the stream has, and what comes.
    Stream(Context),
    /// What was published since.
    Heard(Subscriber),
}

/// Sends the job's events, and its log where somebody wants it, until nobody listens.
pub(crate) async fn follow(
    server: Server,
    job: JobName,
    chunks: Option<mpsc::Sender<Chunk>>,
    events: mpsc::Sender<Event>,
) {
    let Ok(sources) = Sources::open(&server, &job, chunks.is_some()).await else {
        eprintln!("note: the live log cannot be heard");
        return;
    };
    let log = async {
        if let (Some(log), Some(chunks)) = (sources.log, chunks) {
            follow::follow(log, job.clone(), chunks).await;
        }
    };
    tokio::join!(log, waiting::follow(sources.events, job.clone(), events));
}

/// Where a job's messages come from.
struct Sources {
    /// None where nobody wants it.
    log: Option<Source>,
    events: Source,
}

impl Sources {
    /// Listens before it asks, so that nothing is missed. Where what is stored can be read, nothing is listened to any more when this
    /// returns: the library would keep what nobody takes.
    async fn open(server: &Server, job: &JobName, wants_log: bool) -> Result<Self, SubscribeError> {
        let log = wants_log.then(|| log_subject(&job.tenant, &job.id));
        let log = OptionFuture::from(log.map(|subject| server.client.subscribe(subject)));
        let events = server.client.subscribe(event_subject(&job.tenant, &job.id));
        let (log, events) = tokio::join!(log, events);
        let (log, events) = (log.transpose()?, events?);
        if may_look_back(server, job).await {
            let stream = || Source::Stream(server.jetstream.clone());
            return Ok(Self {
                log: wants_log.then(stream),
                events: stream(),
            });
        }
        eprintln!(
            "note: this user may not look back in {}: what is told begins here",
            stream::LOGS
        );
        Ok(Self {
            log: log.map(Source::Heard),
            events: Source::Heard(events),
        })
    }
}

/// Whether the user may read what is stored of the log, and not only hear what comes.
pub(crate) async fn may_look_back(server: &Server, job: &JobName) -> bool {
    let name = format!("look-{}-{}", job.id, std::process::id());
    match consumer(server, job, name, 1).await {
        Ok(_) => true,
        Err(error) => answers(&error),
    }
}

/// Whether it is the server's own answer, which it gives to who may ask.
fn answers(error: &ConsumerError) -> bool {
    match error.kind() {
        ConsumerErrorKind::JetStream(error) => {
            error.error_code() != ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
        }
        ConsumerErrorKind::TimedOut
        | ConsumerErrorKind::Request
        | ConsumerErrorKind::InvalidConsumerType
        | ConsumerErrorKind::InvalidName
        | ConsumerErrorKind::Other => false,
    }
}

/// A consumer of the job's log from message `from` on, which the server forgets soon.
pub(crate) async fn consumer(
    server: &Server,
    job: &JobName,
    name: String,
    from: u64,
) -> Result<PullConsumer, ConsumerError> {
    let config = pull::Config {
        name: Some(name),
        filter_subject: log_subject(&job.tenant, &job.id),
        deliver_policy: DeliverPolicy::ByStartSequence {
            start_sequence: from,
        },
        ack_policy: AckPolicy::None,
        inactive_threshold: ANSWER_WITHIN,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    };
    let stored = server.stream(stream::LOGS).await;
    let made = timeout(ANSWER_WITHIN, stored.create_consumer(config)).await;
    made.unwrap_or_else(|_| Err(ConsumerError::new(ConsumerErrorKind::TimedOut)))
}
