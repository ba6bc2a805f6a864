//! Where a job stands, and the sentence that says it.

use jiff::Timestamp;
use schemas::{JobSubject, Open, Reason, Status, Token};
use serde::Serialize;

use crate::job_name::JobName;
use crate::summary::one_line;

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum Standing {
    /// Nobody knows of it.
    NotFound,
    /// No worker has seen it, and the queue cannot be looked through.
    Unseen,
    /// It was known, has no result, and nobody has it.
    Vanished,
    /// It has a result.
    Finished {
        /// How it ended.
        status: Status,
        /// Why.
        reason: Open<Reason>,
        /// The same in words.
        message: String,
    },
    /// Its cancellation was asked for, and it has not ended.
    Cancelling {
        /// Who has it.
        holder: Option<String>,
    },
    /// Its attempt runs.
    Running {
        /// Where.
        worker: Token,
        /// Which attempt.
        attempt: usize,
        /// Since when.
        since: Timestamp,
        /// Whether the worker still tells that it is alive; absent where that could not be asked.
        alive: Option<bool>,
    },
    /// Somebody has it, and no attempt has begun: a worker, or the bakery that ends it.
    Claimed {
        /// Who.
        holder: String,
    },
    /// It waits for a bake, without a slot.
    Parked {
        /// Who waits for it; absent where that could not be asked.
        holder: Option<String>,
        /// What for.
        message: String,
        /// Since when that is said.
        since: Timestamp,
    },
    /// Its worker is gone, and no other has taken it over.
    Lost {
        /// The worker.
        worker: Token,
        /// Which attempt.
        attempt: usize,
    },
    /// It waited for longer than it may.
    Expired {
        /// How long it may, in seconds.
        queue_s: u32,
    },
    /// No worker serves its subject.
    NoWorker {
        /// The pool, and the trust.
        #[serde(serialize_with = "as_text")]
        subject: JobSubject,
        /// Workers that are alive and serve others.
        others: usize,
    },
    /// Every worker that serves its subject takes no jobs now.
    Paused {
        /// Each with its reason.
        workers: Vec<String>,
    },
    /// Its tenant runs as many jobs as it may.
    AtCap {
        /// Jobs at a time.
        concurrency: u32,
        /// Jobs before it that wait as well.
        ahead: Option<u64>,
    },
    /// An attempt ended without a result, and the next has not begun.
    Retrying {
        /// Attempts that count.
        counted: u32,
        /// How the last one ended.
        message: String,
        /// Jobs before it that wait as well.
        ahead: Option<u64>,
    },
    /// It waits for a slot.
    Waiting {
        /// Jobs before it that wait as well.
        ahead: Option<u64>,
        /// The workers that serve it; absent where that is not known.
        serving: Option<Serving>,
    },
}

/// The workers that serve a subject and take jobs, together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Serving {
    /// How many there are.
    pub(crate) workers: usize,
    /// Jobs that they run at a time.
    pub(crate) slots: u32,
    /// Jobs that they run.
    pub(crate) running: u32,
}

impl Standing {
    /// Whether anybody knows of it.
    pub(crate) fn is_known(&self) -> bool {
        match self {
            Self::NotFound => false,
            Self::Finished { .. }
            | Self::Vanished
            | Self::Unseen
            | Self::Cancelling { .. }
            | Self::Running { .. }
            | Self::Claimed { .. }
            | Self::Parked { .. }
            | Self::Lost { .. }
            | Self::Expired { .. }
            | Self::NoWorker { .. }
            | Self::Paused { .. }
            | Self::AtCap { .. }
            | Self::Retrying { .. }
            | Self::Waiting { .. } => true,
        }
    }

    /// The sentence.
    pub(crate) fn sentence(&self, job: &JobName) -> String {
        let id = &job.id;
        match self {
            Self::NotFound => format!(
                "tenant {} has no job {id}: it is not in the queue, and no worker has seen it",
                job.tenant
            ),
            Self::Unseen => format!("no worker has seen job {id} yet, if it is queued"),
            Self::Vanished => format!(
                "job {id} is not in the queue, nobody works at it, and it has no result: its message was deleted"
            ),
            Self::Finished {
                status,
                reason,
                message,
            } => format!("job {id} ended: {status}, {reason}: {}", one_line(message)),
            Self::Cancelling { holder: None } => {
                format!("job {id} is cancelled, and its result is about to be written")
            }
            Self::Cancelling {
                holder: Some(holder),
            } => format!("job {id} is cancelled, and {} ends it", one_line(holder)),
            Self::Running {
                worker,
                attempt,
                since,
                alive,
            } => {
                let silent = if *alive == Some(false) {
                    ", which says nothing more,"
                } else {
                    ""
                };
                format!("job {id} runs on {worker}{silent} since {since:.0}, attempt {attempt}")
            }
            Self::Claimed { holder } => format!(
                "job {id} is with {}, which prepares it or ends it",
                one_line(holder)
            ),
            Self::Parked {
                holder,
                message,
                since,
            } => format!(
                "job {id} is parked{} and takes no slot: {} (since {since:.0})",
                holder
                    .as_ref()
                    .map_or_else(String::new, |holder| format!(" with {}", one_line(holder))),
                one_line(message)
            ),
            Self::Lost { worker, attempt } => format!(
                "job {id} lost its worker {worker} in attempt {attempt}, and another takes it over within half a minute"
            ),
            Self::Expired { queue_s } => format!(
                "job {id} has waited longer than the {queue_s} s that it may, and its result is about to be written"
            ),
            Self::NoWorker { subject, others } => format!(
                "job {id} waits for a worker: none that is alive takes {} jobs of pool {} (alive for others: {others})",
                subject.trust, subject.pool
            ),
            Self::Paused { workers } => format!(
                "job {id} waits for a worker, and those that serve it take no jobs now: {}",
                workers.join("; ")
            ),
            Self::AtCap { concurrency, ahead } => format!(
                "job {id} waits, since its tenant runs as many jobs as it may, {concurrency}{}",
                in_words(*ahead)
            ),
            Self::Retrying {
                counted,
                message,
                ahead,
            } => format!(
                "job {id} will be tried again (attempts that count: {counted}): {}{}",
                one_line(message),
                in_words(*ahead)
            ),
            Self::Waiting {
                ahead,
                serving: None,
            } => format!("job {id} waits for a slot{}", in_words(*ahead)),
            Self::Waiting {
                ahead,
                serving: Some(all),
            } => format!(
                "job {id} waits for a slot: workers {}, slots {}, running {}{}",
                all.workers,
                all.slots,
                all.running,
                in_words(*ahead)
            ),
        }
    }
}

/// How many are before it.
fn in_words(ahead: Option<u64>) -> String {
    match ahead {
        None => String::new(),
        Some(0) => "; it is the next of its tenant and priority".to_owned(),
        Some(ahead) => format!("; ahead of it, of its tenant and priority: {ahead}"),
    }
}

fn as_text<S: serde::Serializer>(subject: &JobSubject, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(subject)
}
