//! A job's live log and its events, for whoever waits for its result.
//!
//! ```text
//! hear both subjects ── make a consumer ─┬─ made ──────▶ follow the streams, from the first message that they have
//!                                        └─ no answer ─▶ show what is heard since
//! ```
//!
//! A consumer gives what was written before, and after a connection that broke; but who may make one can read, and have delivered, whatever
//! the stream has. A user of one tenant hears its own subjects only.

use async_nats::Subscriber;
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{AckPolicy, pull};
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
    let subjects = [
        log_subject(&job.tenant, &job.id),
        event_subject(&job.tenant, &job.id),
    ];
    let [log, news] = subjects
        .clone()
        .map(|subject| server.client.subscribe(subject));
    let (Ok(log), Ok(news)) = tokio::join!(log, news) else {
        eprintln!("note: the live log cannot be heard");
        return;
    };
    let (log, news) = if may_follow(&server, &job, &subjects[0]).await {
        let stream = || Source::Stream(server.jetstream.clone());
        (stream(), stream())
    } else {
        eprintln!(
            "note: this user may not look back in {}: what is told begins here",
            stream::LOGS
        );
        (Source::Heard(log), Source::Heard(news))
    };
    let log = async {
        if let Some(chunks) = chunks {
            follow::follow(log, job.clone(), chunks).await;
        }
    };
    tokio::join!(log, waiting::follow(news, job.clone(), events));
}

/// Whether a consumer can be made. A server that answers with an error is one that answers.
async fn may_follow(server: &Server, job: &JobName, subject: &str) -> bool {
    let config = pull::Config {
        name: Some(format!("look-{}-{}", job.id, std::process::id())),
        filter_subject: subject.to_owned(),
        ack_policy: AckPolicy::None,
        inactive_threshold: ANSWER_WITHIN,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    };
    let stored = server.stream(stream::LOGS).await;
    let made = stored.create_consumer(config);
    timeout(ANSWER_WITHIN, made).await.is_ok()
}
