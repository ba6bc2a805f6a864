//! The janitor's rounds through the queue: what is new is remembered, what is due is looked at, at once where it was cancelled.
//!
//! Messages are read by direct get, each once, from the first that the stream has: no consumer of a work queue could read what workers
//! are to take. Where the stream is not the one that was read before, or most of what is remembered is gone, it is read anew.
//!
//! What always holds: no more than a few messages are in memory at a time; what is remembered of the queue can be lost at any moment, since
//! it is read again.

use std::time::Duration;

use async_nats::jetstream::kv::{self, Entry, Operation};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::DirectGetErrorKind;
use bus::telemetry::Causes;
use bus::watch;
use futures_util::StreamExt as _;
use futures_util::future::{join_all, ready};
use jiff::{SignedDuration, Timestamp};
use schemas::job::Timeouts;
use schemas::refusal::job_id;
use schemas::{Job, JobSubject};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

use super::QueueError;
use super::ending::{EndError, Ending, Looked, stored_at};
use super::waiting::{JobName, Seen, Waiting, later};

/// 500 ms between two questions for what is new: a cancel that was there before its job ends it that soon.
const READ_EVERY: Duration = Duration::from_millis(500);

/// 1000 messages are read at a time, and then the cancels are looked at: some 300 ms.
const READ_AT_ONCE: usize = 1000;

/// 16 messages are looked at together, since most of a look is waiting for the server.
const LOOK_AT_ONCE: usize = 16;

/// 1 h between two looks for cancels that are too old.
const TIDY_EVERY: Duration = Duration::from_hours(1);

/// 8 days, as long as the bucket keeps a cancel.
const CANCELS_KEPT: SignedDuration = SignedDuration::from_hours(8 * 24);

/// 5 s before what went wrong is tried again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Goes the rounds.
pub(super) struct Rounds {
    ending: Ending,
    cancels: kv::Store,
    waiting: Waiting,
    /// Where the next message is looked for.
    next_sequence: u64,
}

impl Rounds {
    pub(super) fn new(ending: Ending, cancels: kv::Store) -> Self {
        Self {
            ending,
            cancels,
            waiting: Waiting::default(),
            next_sequence: 1,
        }
    }

    /// Goes them, for ever.
    pub(super) async fn go(mut self) {
        let (mut read, mut tidy) = (interval(READ_EVERY), interval(TIDY_EVERY));
        read.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut cancels = watch::begin(&self.cancels, ">").await;
            loop {
                tokio::select! {
                    change = cancels.next() => match change {
                        Some(Ok(entry)) => self.note_cancel(&entry),
                        // What was missed follows.
                        Some(Err(error)) => warn!(%error, "cancels are watched again"),
                        None => break,
                    },
                    _ = read.tick() => self.read_on().await,
                    _ = tidy.tick() => {
                        self.waiting.forget_cancels_before(Timestamp::now() - CANCELS_KEPT);
                    }
                    () = ready(()), if self.is_something_due() => self.look_at_what_is_due().await,
                }
            }
        }
    }

    fn note_cancel(&mut self, entry: &Entry) {
        let Some(name) = job_name(&entry.key) else {
            return debug!(key = entry.key, "is no job's");
        };
        match entry.operation {
            Operation::Put => {
                let at = Timestamp::from_nanosecond(entry.created.unix_timestamp_nanos());
                self.waiting
                    .cancel(name, at.unwrap_or_else(|_| Timestamp::now()));
            }
            Operation::Delete | Operation::Purge => self.waiting.forget_cancel(&name),
        }
    }

    async fn read_on(&mut self) {
        if let Err(error) = self.read_new().await {
            warn!(error = %Causes(&error), "queue not read; tried again");
        }
    }

    /// Remembers what is new, up to [`READ_AT_ONCE`].
    async fn read_new(&mut self) -> Result<(), QueueError> {
        let info = self.ending.queue.get_info().await;
        let state = info.map_err(QueueError::of("ask for the state"))?.state;
        let is_another = state.last_sequence + 1 < self.next_sequence;
        if is_another || self.waiting.is_mostly_gone(state.messages) {
            self.waiting.forget_messages();
            self.next_sequence = state.first_sequence.max(1);
        }
        if state.last_sequence < self.next_sequence {
            return Ok(());
        }
        for _ in 0..READ_AT_ONCE {
            let Some(message) = self.next().await? else {
                break;
            };
            self.note(&message).await?;
            self.next_sequence = message.sequence + 1;
        }
        Ok(())
    }

    async fn next(&self) -> Result<Option<StreamMessage>, QueueError> {
        let from = Some(self.next_sequence);
        let queue = &self.ending.queue;
        let next = queue.direct_get_next_for_subject(JobSubject::FILTER, from);
        match next.await {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(QueueError::of("read the next message")(error)),
        }
    }

    /// Remembers a message. One whose subject is no job's has nobody to be answered, and no worker would ever take it.
    async fn note(&mut self, message: &StreamMessage) -> Result<(), QueueError> {
        let sequence = message.sequence;
        let subject = match message.subject.parse::<JobSubject>() {
            Ok(subject) => subject,
            Err(error) => {
                warn!(subject = %message.subject, sequence, %error, "not the subject of a job: message removed");
                return self.ending.delete(sequence).await;
            }
        };
        let timeouts =
            Job::parse(&message.payload).map_or_else(|_| Timeouts::default(), |job| job.timeouts);
        self.waiting.note(Seen {
            sequence,
            name: job_id(&message.payload).map(|id| JobName {
                tenant: subject.tenant,
                id,
            }),
            deadline: later(stored_at(message), timeouts.queue()),
        });
        Ok(())
    }

    fn is_something_due(&self) -> bool {
        self.waiting.due(Timestamp::now()).next().is_some()
    }

    /// Looks at what is due, up to [`LOOK_AT_ONCE`].
    async fn look_at_what_is_due(&mut self) {
        let due = self.waiting.due(Timestamp::now()).take(LOOK_AT_ONCE);
        let looks = due.map(|due| {
            let look = Box::pin(self.ending.look(due));
            async move { (due.sequence, look.await) }
        });
        for (sequence, looked) in join_all(looks).await {
            self.note_look(sequence, looked);
        }
    }

    fn note_look(&mut self, sequence: u64, looked: Result<Looked, EndError>) {
        let again_after = match looked {
            Ok(Looked::Gone) => return self.waiting.forget(sequence),
            Ok(Looked::Again(after)) => after,
            Err(error) => {
                warn!(sequence, error = %Causes(&error), "not ended; tried again");
                TRY_AGAIN_AFTER
            }
        };
        let again_at = later(Timestamp::now(), again_after);
        self.waiting.look_again(sequence, again_at);
    }
}

/// The job that a key of the bucket of cancels names.
fn job_name(key: &str) -> Option<JobName> {
    let (tenant, id) = key.split_once('.')?;
    Some(JobName {
        tenant: tenant.parse().ok()?,
        id: id.parse().ok()?,
    })
}
