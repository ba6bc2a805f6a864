//! What waits in the queue, and when each of it is to be looked at.
//!
//! ```text
//!        note ─▶ waits until its deadline ─▶ due ─▶ look ─┬─ gone ──────▶ forgotten
//!                        │                    ▲           └─ held, or in an attempt
//!                        └─ cancel ───────────╯                  │
//!                                             ╰── a moment later ◀
//! ```
//!
//! What always holds: a cancel finds its job whichever of the two is heard of first; no body is kept; nothing here asks a server or a
//! clock.

use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};
use schemas::Token;

/// 1000 messages that are gone may be remembered, however few there are: to read the queue anew costs more than that memory.
const GONE_ALLOWED: usize = 1000;

/// Before every deadline: also before those that have passed long since, and whatever the server's clock says of a cancel.
const AT_ONCE: Timestamp = Timestamp::MIN;

/// The messages of the queue that were seen, by their sequence, and the cancels.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    messages: HashMap<u64, Remembered>,
    /// When each is looked at.
    looks: BTreeSet<(Timestamp, u64)>,
    /// The messages of each job: several with one id are one job, or a conflict.
    of_job: HashMap<JobName, BTreeSet<u64>>,
    cancelled: HashMap<JobName, Timestamp>,
}

/// A job's id in its tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct JobName {
    pub(super) tenant: Token,
    pub(super) id: Token,
}

/// A message that was seen in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) sequence: u64,
    /// Whose it is; none for a body without an id that can be used, which nobody can cancel.
    pub(super) name: Option<JobName>,
    /// Until when it may wait.
    pub(super) deadline: Timestamp,
}

/// A message that is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) sequence: u64,
    /// Whether it is for a cancel.
    pub(super) cancelled: bool,
}

#[derive(Debug)]
struct Remembered {
    name: Option<JobName>,
    look_at: Timestamp,
}

impl Waiting {
    /// Remembers a message: it is due when its deadline is over, or at once where its job was cancelled.
    pub(super) fn note(&mut self, seen: Seen) {
        let Seen {
            sequence,
            name,
            deadline,
        } = seen;
        self.forget(sequence);
        let cancelled = name.as_ref().and_then(|name| self.cancelled.get(name));
        let look_at = cancelled.map_or(deadline, |_| AT_ONCE);
        if let Some(name) = &name {
            let sequences = self.of_job.entry(name.clone()).or_default();
            sequences.insert(sequence);
        }
        self.looks.insert((look_at, sequence));
        let remembered = Remembered { name, look_at };
        self.messages.insert(sequence, remembered);
    }

    /// Remembers that a job was cancelled `at` that time. Its messages, those that are seen later too, are due at once.
    pub(super) fn cancel(&mut self, name: JobName, at: Timestamp) {
        let sequences = self.of_job.get(&name).cloned().unwrap_or_default();
        for sequence in sequences {
            self.look_again(sequence, AT_ONCE);
        }
        self.cancelled.insert(name, at);
    }

    /// The cancel was taken back.
    pub(super) fn forget_cancel(&mut self, name: &JobName) {
        self.cancelled.remove(name);
    }

    /// Forgets cancels that are older than that.
    pub(super) fn forget_cancels_before(&mut self, time: Timestamp) {
        self.cancelled.retain(|_, at| *at >= time);
    }

    /// What is due, the first first, what was cancelled before all else. It stays due until it is looked at again later, or forgotten.
    pub(super) fn due(&self, now: Timestamp) -> impl Iterator<Item = Due> {
        let due = self.looks.iter().take_while(move |(at, _)| *at <= now);
        due.map(|(_, sequence)| Due {
            sequence: *sequence,
            cancelled: self.is_cancelled(*sequence),
        })
    }

    fn is_cancelled(&self, sequence: u64) -> bool {
        let remembered = self.messages.get(&sequence);
        let name = remembered.and_then(|remembered| remembered.name.as_ref());
        name.is_some_and(|name| self.cancelled.contains_key(name))
    }

    /// Looks at it then, and not before.
    pub(super) fn look_again(&mut self, sequence: u64, at: Timestamp) {
        if let Some(remembered) = self.messages.get_mut(&sequence) {
            self.looks.remove(&(remembered.look_at, sequence));
            remembered.look_at = at;
            self.looks.insert((at, sequence));
        }
    }

    /// The message is gone.
    pub(super) fn forget(&mut self, sequence: u64) {
        let Some(Remembered { name, look_at }) = self.messages.remove(&sequence) else {
            return;
        };
        self.looks.remove(&(look_at, sequence));
        let Some(name) = name else { return };
        if let Some(sequences) = self.of_job.get_mut(&name) {
            sequences.remove(&sequence);
            if sequences.is_empty() {
                self.of_job.remove(&name);
            }
        }
    }

    /// Forgets every message, and no cancel.
    pub(super) fn forget_messages(&mut self) {
        self.messages.clear();
        self.looks.clear();
        self.of_job.clear();
    }

    /// Whether more than half of what is remembered is gone, in a queue that has `stored` messages. To read those again costs less than
    /// what is forgotten by it cost.
    pub(super) fn is_mostly_gone(&self, stored: u64) -> bool {
        let stored = usize::try_from(stored).unwrap_or(usize::MAX);
        self.messages.len() > stored.saturating_mul(2).saturating_add(GONE_ALLOWED)
    }
}

/// `time` and a while later.
pub(super) fn later(time: Timestamp, after: std::time::Duration) -> Timestamp {
    let after = SignedDuration::try_from(after).unwrap_or(SignedDuration::MAX);
    time.saturating_add(after).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn job(id: &str) -> JobName {
        JobName {
            tenant: "acme".parse().unwrap(),
            id: id.parse().unwrap(),
        }
    }

    fn seen(sequence: u64, id: &str, deadline: i64) -> Seen {
        Seen {
            sequence,
            name: Some(job(id)),
            deadline: at(deadline),
        }
    }

    fn first(waiting: &Waiting, now: Timestamp) -> Option<Due> {
        waiting.due(now).next()
    }

    fn due(sequence: u64, cancelled: bool) -> Due {
        Due {
            sequence,
            cancelled,
        }
    }

    #[test]
    fn what_waits_is_due_at_its_deadline_in_the_order_of_the_deadlines() {
        let mut waiting = Waiting::default();
        waiting.note(seen(1, "a", 30));
        waiting.note(seen(2, "b", 20));
        assert_eq!(first(&waiting, at(19)), None);
        assert_eq!(first(&waiting, at(40)), Some(due(2, false)));
        waiting.forget(2);
        assert_eq!(first(&waiting, at(40)), Some(due(1, false)));
        waiting.look_again(1, at(45));
        assert_eq!(first(&waiting, at(44)), None);
        assert_eq!(first(&waiting, at(45)), Some(due(1, false)));
    }

    #[test]
    fn a_cancel_finds_its_job_whichever_is_heard_of_first() {
        let mut waiting = Waiting::default();
        waiting.note(seen(1, "a", 1000));
        waiting.cancel(job("a"), at(10));
        waiting.cancel(job("b"), at(10));
        assert_eq!(first(&waiting, at(10)), Some(due(1, true)));
        waiting.forget(1);
        waiting.note(seen(2, "b", 1000));
        waiting.note(seen(3, "c", 1000));
        assert_eq!(first(&waiting, at(11)), Some(due(2, true)));
        waiting.forget(2);
        assert_eq!(first(&waiting, at(11)), None);
    }

    #[test]
    fn a_cancel_finds_every_message_with_the_id_of_that_tenant_and_no_other() {
        let mut waiting = Waiting::default();
        waiting.note(seen(1, "a", 1000));
        waiting.note(seen(2, "a", 1000));
        let other = JobName {
            tenant: "other".parse().unwrap(),
            ..job("a")
        };
        waiting.cancel(other, at(10));
        assert_eq!(first(&waiting, at(20)), None);
        waiting.cancel(job("a"), at(10));
        assert_eq!(first(&waiting, at(20)), Some(due(1, true)));
        waiting.look_again(1, at(25));
        assert_eq!(first(&waiting, at(20)), Some(due(2, true)));
    }

    #[test]
    fn a_cancel_that_is_taken_back_or_as_old_as_the_bucket_keeps_it_is_forgotten() {
        let mut waiting = Waiting::default();
        waiting.cancel(job("a"), at(10));
        waiting.cancel(job("b"), at(20));
        waiting.forget_cancels_before(at(20));
        waiting.note(seen(1, "a", 1000));
        waiting.note(seen(2, "b", 1000));
        assert_eq!(first(&waiting, at(30)), Some(due(2, true)));
        waiting.forget_cancel(&job("b"));
        waiting.look_again(2, at(30));
        assert_eq!(first(&waiting, at(30)), Some(due(2, false)));
    }

    #[test]
    fn the_queue_is_read_anew_when_most_of_what_is_remembered_is_gone_and_cancels_outlive_that() {
        let mut waiting = Waiting::default();
        for sequence in 0..=1200 {
            waiting.note(seen(sequence, "a", 1000));
        }
        assert!(!waiting.is_mostly_gone(101));
        assert!(waiting.is_mostly_gone(100));
        waiting.cancel(job("a"), at(10));
        waiting.forget_messages();
        assert_eq!(first(&waiting, at(2000)), None);
        waiting.note(seen(7, "a", 1000));
        assert_eq!(first(&waiting, at(10)), Some(due(7, true)));
    }

    #[test]
    fn a_deadline_beyond_all_time_is_the_end_of_it() {
        assert_eq!(later(at(1), Duration::from_secs(2)), at(3));
        assert_eq!(later(at(1), Duration::MAX), Timestamp::MAX);
    }
}
