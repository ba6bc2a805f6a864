//! What is known of a job, from all who know something of it.

use jiff::Timestamp;
use schemas::event::Event;
use schemas::record::{Attempt, JobRecord};
use schemas::worker::{WorkerCondition, WorkerState};
use schemas::{JobResult, JobSubject};

use crate::queue::{Place, Queued};

/// What is known of a job at one moment. What could not be asked is none here, and named in `not_known`.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// When it was asked.
    pub(crate) now: Timestamp,
    /// Its result.
    pub(crate) result: Option<JobResult>,
    /// Who owns its id, and each attempt.
    pub(crate) record: Option<JobRecord>,
    /// Whether its cancellation was asked for.
    pub(crate) cancelled: bool,
    /// Who holds its lease.
    pub(crate) holder: Holder,
    /// What happened to it last.
    pub(crate) event: Option<Event>,
    /// Where it is in the queue.
    pub(crate) place: Place,
    /// How many of the jobs before it on its subject wait as it does, held by nobody.
    pub(crate) ahead: Option<u64>,
    /// The workers that are alive, of all pools.
    pub(crate) workers: Option<Vec<WorkerState>>,
    /// How many jobs its tenant may run at a time, and how many it runs.
    pub(crate) cap: Option<Cap>,
    /// What could not be asked, and why.
    pub(crate) not_known: Vec<String>,
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    /// One who wrote this into it.
    One(String),
    /// Nobody.
    Nobody,
    /// It could not be asked.
    Unknown,
}

/// A tenant's cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cap {
    /// Jobs at a time.
    pub(crate) concurrency: u32,
    /// Places that are held.
    pub(crate) held: u32,
}

impl Holder {
    /// What the one wrote.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::One(name) => Some(name),
            Self::Nobody | Self::Unknown => None,
        }
    }
}

impl Facts {
    /// Its message in the queue.
    pub(crate) fn queued(&self) -> Option<&Queued> {
        match &self.place {
            Place::Queued(queued) => Some(queued),
            Place::Absent | Place::Unknown => None,
        }
    }

    /// Every attempt.
    pub(crate) fn attempts(&self) -> &[Attempt] {
        self.record
            .as_ref()
            .map_or(&[], |record| &record.attempts[..])
    }

    /// How many of them count.
    pub(crate) fn counted(&self) -> u32 {
        self.record.as_ref().map_or(0, JobRecord::counted)
    }

    /// The attempt that has no end, and its number: the last, or none.
    pub(crate) fn open_attempt(&self) -> Option<(usize, &Attempt)> {
        let last = self.attempts().last()?;
        let number = self.attempts().len();
        last.end.is_none().then_some((number, last))
    }

    /// The workers that take jobs of that subject, when they take any.
    pub(crate) fn serving(&self, subject: &JobSubject) -> Option<Vec<&WorkerState>> {
        let workers = self.workers.as_ref()?;
        let serves = |worker: &&WorkerState| {
            worker.pool == subject.pool && worker.trust.contains(&subject.trust)
        };
        Some(workers.iter().filter(serves).collect())
    }
}

/// Whether a worker takes jobs now.
pub(crate) fn is_ready(worker: &WorkerState) -> bool {
    match worker.state.known() {
        Some(WorkerCondition::Ready) => true,
        Some(WorkerCondition::Paused | WorkerCondition::Draining) | None => false,
    }
}

/// The word for what a worker does.
pub(crate) fn condition(worker: &WorkerState) -> &str {
    match &worker.state {
        schemas::Open::Known(WorkerCondition::Ready) => "ready",
        schemas::Open::Known(WorkerCondition::Paused) => "paused",
        schemas::Open::Known(WorkerCondition::Draining) => "draining",
        schemas::Open::Other(word) => word,
    }
}
