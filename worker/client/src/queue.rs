//! Where a job is in the queue, found by looking through its tenant's messages, the oldest first.

use async_nats::jetstream::message::StreamMessage;
use jiff::Timestamp;
use schemas::job::peek_id;
use schemas::names::stream;
use schemas::{Job, JobSubject, Token};

use crate::job_name::JobName;
use crate::server::{AskError, Server};

/// 10 000: ten seconds at a thousand answers a second, and more jobs of one tenant than anybody waits for.
const MAX_LOOKED_AT: usize = 10_000;

/// Where a job is in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// There: it waits, or a worker has it and has not acknowledged it.
    Queued(Queued),
    /// Not there.
    Absent,
    /// Not known: the queue is too long, or may not be looked through.
    Unknown,
}

/// A job's message in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Queued {
    /// Where it was published.
    pub(crate) subject: JobSubject,
    /// Its place in the stream.
    pub(crate) sequence: u64,
    /// When the stream stored it.
    pub(crate) since: Timestamp,
    /// How long it may wait, in seconds; none where the body says nothing that can be read.
    pub(crate) queue_s: Option<u32>,
    /// The jobs before it on its subject, those that run included.
    pub(crate) before: Vec<Token>,
}

/// Looks for the job.
pub(crate) async fn find(server: &Server, job: &JobName) -> Result<Place, AskError> {
    let every = format!("build.job.*.*.*.{}", job.tenant);
    let mut passed = Vec::new();
    let mut from = 1;
    while let Some(message) = server.next(stream::JOBS, &every, from).await? {
        from = message.sequence + 1;
        let id = peek_id(&message.payload).map(Token::from);
        if id.as_ref() == Some(&job.id) {
            return Ok(queued(&message, passed).map_or(Place::Unknown, Place::Queued));
        }
        passed.push((message.subject, id));
        if passed.len() == MAX_LOOKED_AT {
            return Ok(Place::Unknown);
        }
    }
    Ok(Place::Absent)
}

fn queued(
    message: &StreamMessage,
    passed: Vec<(async_nats::Subject, Option<Token>)>,
) -> Option<Queued> {
    let on_its_subject = passed
        .into_iter()
        .filter(|(subject, _)| *subject == message.subject);
    let since = Timestamp::from_nanosecond(message.time.unix_timestamp_nanos()).ok()?;
    let body = Job::parse(&message.payload).ok();
    Some(Queued {
        subject: message.subject.parse().ok()?,
        sequence: message.sequence,
        since,
        queue_s: body.map(|job| job.timeouts.queue_s),
        before: on_its_subject.filter_map(|(_, id)| id).collect(),
    })
}
