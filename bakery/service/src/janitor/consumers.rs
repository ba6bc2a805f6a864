//! The consumers of the queue of jobs: one for each subject that has messages, through which workers take them.
//!
//! | what there is | what is done |
//! | --- | --- |
//! | a consumer of no one subject, as an operator or an older version made it | removed first: it overlaps with those that are to be made |
//! | a subject with messages and without a consumer | it is made |
//! | a consumer whose subject has been empty for a day | removed, unless a delivery of it is unanswered |
//!
//! A job that is published while its consumer is removed is not lost: the stream keeps it, and the next look makes the consumer again. A
//! delivery of a consumer that was removed comes again through the next one, and meets the lease of the worker that has it.
//!
//! The stream is asked, and not listened to: a subscription would hear of a job half a second earlier, for the body of every job there
//! is. As long as nothing was published a look is one small question.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::Stream;
use bus::streams::job_consumer;
use bus::telemetry::Causes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use schemas::JobSubject;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use super::QueueError;

/// 500 ms: the first job of a new subject waits half of that on average for its consumer, and never a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// 1 min between two looks at what changes without a publication: which subjects are empty.
const LOOK_ANYHOW_EVERY: Duration = Duration::from_mins(1);

/// One day: whoever builds once a day keeps the consumer, and one costs the server a few kilobytes.
pub(super) const EMPTY_FOR: Duration = Duration::from_hours(24);

/// Makes and removes consumers.
pub(super) struct Consumers {
    queue: Stream<()>,
    /// Since when subjects that have a consumer were seen without a message.
    empty_since: EmptySince,
    /// What the stream was at the last look that changed nothing, and when that was.
    settled: Option<(Marks, Instant)>,
    /// What a warning was written of.
    told: HashSet<String>,
}

type EmptySince = HashMap<JobSubject, Instant>;

/// What changes when a message is published, or a consumer is made or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    last_sequence: u64,
    consumers: usize,
}

/// What a look leads to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Consumers of no one subject.
    strays: Vec<String>,
    /// Subjects without a consumer.
    missing: Vec<JobSubject>,
    /// Subjects whose consumer nobody has needed for a day.
    unused: Vec<JobSubject>,
}

impl Consumers {
    pub(super) fn new(queue: Stream<()>) -> Self {
        Self {
            queue,
            empty_since: EmptySince::new(),
            settled: None,
            told: HashSet::new(),
        }
    }

    /// Keeps them in order, for ever.
    pub(super) async fn keep(mut self) {
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(error) = self.look(Instant::now()).await {
                warn!(error = %Causes(&error), "consumers not looked at; tried again");
            }
        }
    }

    /// Looks once, at the time `now`.
    pub(super) async fn look(&mut self, now: Instant) -> Result<(), QueueError> {
        let marks = self.marks().await?;
        if self.is_settled(marks, now) {
            return Ok(());
        }
        let subjects = self.subjects().await?;
        let names = self.names().await?;
        let plan = plan(&subjects, &names, &mut self.empty_since, now);
        let unchanged = plan == Plan::default();
        self.act(plan).await?;
        self.settled = unchanged.then_some((marks, now));
        Ok(())
    }

    /// Whether nothing was published, made or removed since the last look, and that was not long ago.
    fn is_settled(&self, marks: Marks, now: Instant) -> bool {
        self.settled.is_some_and(|(seen, at)| {
            seen == marks && now.saturating_duration_since(at) < LOOK_ANYHOW_EVERY
        })
    }

    async fn marks(&self) -> Result<Marks, QueueError> {
        let info = self.queue.get_info().await;
        let state = info.map_err(QueueError::of("ask for the state"))?.state;
        Ok(Marks {
            last_sequence: state.last_sequence,
            consumers: state.consumer_count,
        })
    }

    /// The subjects that have messages, page by page. One that is no job's has no consumer: the janitor's rounds remove its messages.
    async fn subjects(&self) -> Result<HashSet<JobSubject>, QueueError> {
        let listed = self.queue.info_with_subjects(JobSubject::FILTER).await;
        let mut listed = listed.map_err(QueueError::of("list the subjects"))?;
        let mut subjects = HashSet::new();
        while let Some(listed) = listed.next().await {
            let (subject, _) = listed.map_err(QueueError::of("list the subjects"))?;
            subjects.extend(subject.parse::<JobSubject>());
        }
        Ok(subjects)
    }

    async fn names(&self) -> Result<Vec<String>, QueueError> {
        let names = self.queue.consumer_names().try_collect().await;
        names.map_err(QueueError::of("list the consumers"))
    }

    /// A consumer that cannot be made holds up no other.
    async fn act(&mut self, plan: Plan) -> Result<(), QueueError> {
        for stray in plan.strays {
            warn!(consumer = stray, "is not of one subject: removed");
            self.remove(&stray).await?;
        }
        for subject in plan.missing {
            self.make(&subject).await;
        }
        for subject in plan.unused {
            self.remove_unused(&subject).await?;
        }
        Ok(())
    }

    async fn make(&mut self, subject: &JobSubject) {
        let name = subject.consumer();
        match self.queue.create_consumer(job_consumer(subject)).await {
            Ok(_) => {
                self.told.remove(&name);
                info!(consumer = name, "made");
            }
            Err(error) if self.told.contains(&name) => {
                debug!(consumer = name, error = %Causes(&error), "not made");
            }
            Err(error) => {
                warn!(consumer = name, error = %Causes(&error), "not made; tried again");
                self.told.insert(name);
            }
        }
    }

    async fn remove_unused(&mut self, subject: &JobSubject) -> Result<(), QueueError> {
        let name = subject.consumer();
        let info = match self.queue.consumer_info(&name).await {
            Ok(info) => info,
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(QueueError::of("look at a consumer")(error)),
        };
        if info.num_ack_pending == 0 && info.num_pending == 0 {
            self.remove(&name).await?;
            self.empty_since.remove(subject);
            info!(
                consumer = name,
                "its subject has been empty for a day: removed"
            );
        }
        Ok(())
    }

    async fn remove(&self, name: &str) -> Result<(), QueueError> {
        let removed = self.queue.delete_consumer(name).await;
        removed.map_err(QueueError::of("remove a consumer"))?;
        Ok(())
    }
}

/// What is to be done where these subjects have messages, and these are the consumers there are.
fn plan(
    subjects: &HashSet<JobSubject>,
    names: &[String],
    empty_since: &mut EmptySince,
    now: Instant,
) -> Plan {
    let (mut served, mut strays) = (HashSet::new(), Vec::new());
    for name in names {
        match JobSubject::of_consumer(name) {
            Some(subject) => {
                served.insert(subject);
            }
            None => strays.push(name.clone()),
        }
    }
    empty_since.retain(|subject, _| served.contains(subject) && !subjects.contains(subject));
    let mut unused = Vec::new();
    for subject in served.difference(subjects) {
        let since = *empty_since.entry(subject.clone()).or_insert(now);
        if now.saturating_duration_since(since) >= EMPTY_FOR {
            unused.push(subject.clone());
        }
    }
    Plan {
        strays,
        missing: subjects.difference(&served).cloned().collect(),
        unused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(tenant: &str) -> JobSubject {
        format!("build.job.default.untrusted.5.{tenant}")
            .parse()
            .unwrap()
    }

    fn plan_of(
        subjects: &[&str],
        consumers: &[&str],
        empty_since: &mut EmptySince,
        now: Instant,
    ) -> Plan {
        let subjects = subjects.iter().map(|tenant| subject(tenant)).collect();
        let names = consumers.iter().map(|tenant| subject(tenant).consumer());
        plan(&subjects, &names.collect::<Vec<_>>(), empty_since, now)
    }

    #[test]
    fn a_subject_without_a_consumer_is_missing_one_and_a_consumer_of_no_subject_is_a_stray() {
        let names = ["workers-default".to_owned(), subject("a").consumer()];
        let subjects = [subject("a"), subject("b")].into();
        let plan = plan(&subjects, &names, &mut EmptySince::new(), Instant::now());
        let expected = Plan {
            strays: vec!["workers-default".to_owned()],
            missing: vec![subject("b")],
            unused: Vec::new(),
        };
        assert_eq!(plan, expected);
    }

    #[test]
    fn a_consumer_is_unused_a_day_after_its_subject_was_first_seen_empty() {
        let (mut empty_since, start) = (EmptySince::new(), Instant::now());
        let mut unused = |subjects: &[&str], after: Duration| {
            plan_of(subjects, &["a"], &mut empty_since, start + after).unused
        };
        let (hour, none) = (Duration::from_hours(1), Vec::new());
        assert_eq!(unused(&[], Duration::ZERO), none);
        assert_eq!(unused(&[], hour * 23), none);
        // A job in between, and the day begins anew.
        assert_eq!(unused(&["a"], hour * 23), none);
        assert_eq!(unused(&[], hour * 25), none);
        assert_eq!(unused(&[], hour * 48), none);
        assert_eq!(unused(&[], hour * 49), [subject("a")]);
    }
}
