//! When the queue is listed next. Pure: the time is given.
//!
//! ```text
//! busy ─── listings that take a tenth of the time ──▶ a tenant that is new to the queue is seen when the next slot comes free
//! idle ─── at once, 100 ms later, then every 5 s ───▶ what no publish told of: jobs that are given back
//!          1 s after a publish that brought nothing ▶ a job that the stream was slow to store
//! ```
//!
//! A busy worker lists only when it has a slot free, so a listing costs no more than it is worth: without it, a flood of short jobs would
//! fill that slot again, and a tenant that came meanwhile would wait for more than one job of it.

use std::time::Duration;

use tokio::time::Instant;

/// Longest wait between two listings while idle: jobs that are given back wake nobody.
const LIST_EVERY: Duration = Duration::from_secs(5);

/// 100 ms from the first listing of a worker that has begun to listen to its second: a publish just before that was not heard, and the
/// stream may have stored it just after the first.
const LIST_AGAIN: Duration = Duration::from_millis(100);

/// While busy, where no publish is heard, a listing is followed by ten times its own time without: it takes a millisecond, and longer
/// where there are thousands of tenants.
const BUSY_SHARE: u32 = 10;

/// 20 ms at least between two listings while busy: a shorter job is not worth one.
const BUSY_LEAST: Duration = Duration::from_millis(20);

/// 250 ms at most, and after a listing that failed: so long can a flood hide a tenant that comes to the queue.
const BUSY_MOST: Duration = Duration::from_millis(250);

/// How often, and for how long, the queue is listed after a bake: the jobs that waited for it run where they are parked, or
/// come back after [`crate::lifecycle::Why::NoSlot`]'s 100 ms, and that wakes nobody. The first look is late enough for a parked job to
/// have the slot first.
const AFTER_BAKE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// 1 s after a publish was heard and its job was not there: most often another worker has it, and all such publishes of a second cost one
/// listing; where the disk of the stream is busy, it has stored the job by then.
const AFTER_MISS: Duration = Duration::from_secs(1);

/// What was listed, and when.
#[derive(Debug)]
pub(super) struct Listing {
    /// When the last began; none before the first, and since it is listened.
    at: Option<Instant>,
    /// Whether the last was the first since it is listened.
    again: bool,
    /// How long a busy worker goes without the next.
    busy: Duration,
    /// Until when it is listed often.
    often_until: Option<Instant>,
    /// When a job that was heard of was not there, the first time since the last listing.
    missed: Option<Instant>,
}

impl Default for Listing {
    fn default() -> Self {
        Self {
            at: None,
            again: false,
            busy: BUSY_MOST,
            often_until: None,
            missed: None,
        }
    }
}

impl Listing {
    /// Publishes are heard from now on: it is listed once more, so that none falls between the two.
    pub(super) fn listens(&mut self) {
        self.at = None;
    }

    /// A snapshot appeared.
    pub(super) fn baked(&mut self, now: Instant) {
        self.often_until = Some(now + AFTER_BAKE.1);
    }

    /// A job that was heard of was not there.
    pub(super) fn missed(&mut self, now: Instant) {
        self.missed.get_or_insert(now);
    }

    /// A listing began at `at`; it took so long, or failed.
    pub(super) fn listed(&mut self, at: Instant, took: Option<Duration>) {
        self.again = self.at.is_none();
        self.at = Some(at);
        self.missed = None;
        self.busy = took.map_or(BUSY_MOST, |took| {
            took.saturating_mul(BUSY_SHARE).clamp(BUSY_LEAST, BUSY_MOST)
        });
    }

    /// When the next is due: `now` where there was none.
    pub(super) fn next(&self, now: Instant, listening: bool) -> Instant {
        let often = self.often_until.is_some_and(|until| now < until);
        let every = match (listening, self.again, often) {
            (false, _, _) => self.busy,
            (true, true, _) => LIST_AGAIN,
            (true, false, true) => AFTER_BAKE.0,
            (true, false, false) => LIST_EVERY,
        };
        let regular = self.at.map_or(now, |at| at + every);
        let after_miss = self.missed.map(|missed| missed + AFTER_MISS);
        after_miss.map_or(regular, |due| due.min(regular))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long after a listing the next is.
    fn gap(listing: &Listing, at: Instant, listening: bool) -> Duration {
        listing.next(at, listening) - at
    }

    #[test]
    fn a_worker_that_begins_to_listen_lists_twice_and_then_every_five_seconds() {
        let (mut listing, now) = (Listing::default(), Instant::now());
        listing.listed(now, Some(Duration::ZERO));
        listing.listens();
        assert_eq!(gap(&listing, now, true), Duration::ZERO);
        listing.listed(now, Some(Duration::ZERO));
        assert_eq!(gap(&listing, now, true), LIST_AGAIN);
        listing.listed(now, Some(Duration::ZERO));
        assert_eq!(gap(&listing, now, true), LIST_EVERY);
    }

    #[test]
    fn a_busy_worker_lists_as_often_as_costs_it_a_tenth_of_its_time() {
        let (mut listing, now) = (Listing::default(), Instant::now());
        let mut after = |took: Option<u64>| {
            listing.listed(now, took.map(Duration::from_millis));
            gap(&listing, now, false).as_millis()
        };
        assert_eq!(
            [0, 1, 5, 1000].map(|took| after(Some(took))),
            [20, 20, 50, 250]
        );
        assert_eq!(
            after(None),
            250,
            "a server that is away is not asked all the time"
        );
    }

    #[test]
    fn the_queue_is_listed_often_for_two_seconds_after_a_bake() {
        let (mut listing, now) = (Listing::default(), Instant::now());
        for _ in 0..2 {
            listing.listed(now, Some(Duration::ZERO));
        }
        listing.baked(now);
        assert_eq!(gap(&listing, now, true), AFTER_BAKE.0);
        let later = now + AFTER_BAKE.1;
        assert_eq!(listing.next(later, true), now + LIST_EVERY);
    }

    #[test]
    fn a_publish_that_brought_nothing_is_looked_after_a_second_later_and_once() {
        let (mut listing, now) = (Listing::default(), Instant::now());
        for _ in 0..2 {
            listing.listed(now, Some(Duration::ZERO));
        }
        let missed = now + Duration::from_millis(300);
        listing.missed(missed);
        listing.missed(missed + Duration::from_millis(300));
        assert_eq!(listing.next(missed, true), missed + AFTER_MISS);
        listing.listed(missed + AFTER_MISS, Some(Duration::ZERO));
        assert_eq!(gap(&listing, missed + AFTER_MISS, true), LIST_EVERY);
    }
}
