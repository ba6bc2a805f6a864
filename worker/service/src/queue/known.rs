//! Which lines have jobs that wait, as far as this worker knows, and how many pulls are on their way for each. Pure: the time is given.
//!
//! ```text
//! listed, heard ──▶ waiting ──begin──▶ pulled ──▶ a job        one waits less, and more may be pulled at once
//!                      ▲                      ├─▶ nothing      nobody waits, but those that were heard since
//!                      │                      ├─▶ no room      as before: the tenant is at its cap
//!                      └──── a moment later ──┴─▶ unavailable  no consumer or no place yet, or no answer
//! ```
//!
//! What always holds: no more pulls are on their way for a line than jobs are known to wait in it; what is known may be too much, which
//! costs a pull, and what is missing is found by the next listing.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::turns::Line;

/// 100 ms before a line that could not be asked is tried again: its consumer is made within a second of its first job, and a place that was
/// given back is stored within milliseconds.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// 1 s at most between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The lines of one pool.
#[derive(Debug, Default)]
pub(super) struct Known {
    lines: BTreeMap<Line, Waiting>,
}

/// What came of a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A job.
    Job,
    /// No job waits.
    Nothing,
    /// The tenant is at its cap.
    NoRoom,
    /// It could not be asked: its consumer or its tenant's place is not there yet, or the server is away.
    Unavailable,
}

#[derive(Debug)]
struct Waiting {
    /// Jobs that wait, those on their way to a worker included.
    jobs: u64,
    /// Of these, publishes that were heard: the stream may store them a moment later.
    heard: u32,
    /// Pulls on their way.
    pulls: u32,
    /// How many there may be: one, and twice as many after each job.
    at_once: u32,
    /// Not before then, and how long that was waited for.
    wait: Option<(Instant, Duration)>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            jobs: 0,
            heard: 0,
            pulls: 0,
            at_once: 1,
            wait: None,
        }
    }
}

impl Known {
    /// All lines that have jobs, and how many.
    pub(super) fn listed(&mut self, lines: impl IntoIterator<Item = (Line, u64)>) {
        for waiting in self.lines.values_mut() {
            waiting.jobs = 0;
        }
        for (line, jobs) in lines {
            self.lines.entry(line).or_default().jobs = jobs;
        }
        self.forget_empty();
    }

    /// A job was published.
    pub(super) fn heard(&mut self, line: Line) {
        let waiting = self.lines.entry(line).or_default();
        waiting.jobs += 1;
        waiting.heard += 1;
    }

    /// The lines that may be pulled from.
    pub(super) fn ready(&self, now: Instant) -> impl Iterator<Item = &Line> {
        let ready = move |waiting: &Waiting| {
            u64::from(waiting.pulls) < waiting.jobs.min(waiting.at_once.into())
                && waiting.wait.is_none_or(|(until, _)| until <= now)
        };
        let lines = self.lines.iter();
        lines.filter_map(move |(line, waiting)| ready(waiting).then_some(line))
    }

    /// A pull goes on its way; tells whether it may wait for a job that was just heard of.
    pub(super) fn begin(&mut self, line: &Line) -> bool {
        let waiting = self.lines.entry(line.clone()).or_default();
        waiting.pulls += 1;
        let heard = waiting.heard > 0;
        waiting.heard = waiting.heard.saturating_sub(1);
        heard
    }

    /// A pull came back.
    pub(super) fn end(&mut self, line: &Line, outcome: Outcome, now: Instant) {
        let Some(waiting) = self.lines.get_mut(line) else {
            return;
        };
        waiting.pulls = waiting.pulls.saturating_sub(1);
        match outcome {
            Outcome::Job => {
                waiting.jobs = waiting.jobs.saturating_sub(1);
                waiting.at_once = waiting.at_once.saturating_mul(2);
                waiting.wait = None;
            }
            Outcome::Nothing => {
                waiting.jobs = waiting.heard.into();
                waiting.at_once = 1;
                waiting.wait = None;
            }
            Outcome::NoRoom => waiting.at_once = 1,
            Outcome::Unavailable => {
                let waited = waiting.wait.map(|(_, waited)| waited * 2);
                let wait = waited.unwrap_or(FIRST_WAIT).min(LONGEST_WAIT);
                waiting.wait = Some((now + wait, wait));
                waiting.at_once = 1;
            }
        }
        self.forget_empty();
    }

    /// When a line that could not be asked is tried again.
    pub(super) fn next_try(&self, now: Instant) -> Option<Instant> {
        let waits = self.lines.values().filter(|waiting| waiting.jobs > 0);
        let ends = waits.filter_map(|waiting| waiting.wait.map(|(until, _)| until));
        ends.filter(|until| *until > now).min()
    }

    fn forget_empty(&mut self) {
        self.lines
            .retain(|_, waiting| waiting.jobs > 0 || waiting.pulls > 0);
    }
}

#[cfg(test)]
mod tests {
    use schemas::{Priority, Trust};

    use super::*;

    fn line(tenant: &str) -> Line {
        Line {
            priority: Priority::default(),
            tenant: tenant.parse().unwrap(),
            trust: Trust::Trusted,
        }
    }

    fn ready(known: &Known, now: Instant) -> usize {
        known.ready(now).count()
    }

    #[test]
    fn a_pull_goes_first_alone_and_then_in_company() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.listed([(line("a"), 5)]);
        assert!(!known.begin(&line("a")), "it was not heard of");
        assert_eq!(ready(&known, now), 0);
        known.end(&line("a"), Outcome::Job, now);
        for _ in 0..2 {
            assert_eq!(ready(&known, now), 1);
            known.begin(&line("a"));
        }
        assert_eq!(ready(&known, now), 0);
    }

    #[test]
    fn an_empty_line_is_left_alone_until_somebody_publishes() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.listed([(line("a"), 5)]);
        known.begin(&line("a"));
        known.end(&line("a"), Outcome::Nothing, now);
        assert_eq!(ready(&known, now), 0);
        known.heard(line("a"));
        assert_eq!(ready(&known, now), 1);
        assert!(known.begin(&line("a")), "the stream may be a moment behind");
    }

    #[test]
    fn what_was_heard_while_a_pull_found_nothing_is_not_lost() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.listed([(line("a"), 1)]);
        known.begin(&line("a"));
        known.heard(line("a"));
        known.end(&line("a"), Outcome::Nothing, now);
        assert_eq!(ready(&known, now), 1);
    }

    #[test]
    fn a_line_without_a_consumer_is_tried_again_soon_and_then_every_second() {
        let (mut known, mut now) = (Known::default(), Instant::now());
        known.listed([(line("a"), 1)]);
        let mut waits = Vec::new();
        for _ in 0..6 {
            known.begin(&line("a"));
            known.end(&line("a"), Outcome::Unavailable, now);
            assert_eq!(ready(&known, now), 0);
            let next = known.next_try(now).unwrap();
            waits.push((next - now).as_millis());
            now = next;
            assert_eq!(ready(&known, now), 1);
        }
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn a_listing_forgets_what_is_gone() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.listed([(line("a"), 1), (line("b"), 1)]);
        known.listed([(line("b"), 1)]);
        assert_eq!(known.ready(now).collect::<Vec<_>>(), [&line("b")]);
    }
}
