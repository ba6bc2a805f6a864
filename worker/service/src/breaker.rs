//! Whether this host is fit to run jobs: three failures of its own in a row, and it pauses; then one job is tried alone.
//!
//! ```text
//!            3 failures in a row              the pause is over
//! closed ───────────────────────▶ open ──────────────────────────▶ half open
//!   ▲                              ▲                                 │    │
//!   │                              └──── a failure: twice the pause ─┘    │
//!   └───────────────────────── a guest's command ran ─────────────────────┘
//! ```
//!
//! What always holds: only what fails before any command of the guest ran counts against the host, so no command that a job runs can
//! pause it. A snapshot whose guests do not thaw looks like a host that thaws none: it can, and then the job that is tried alone tells.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

/// 3: one may be the job's own bad luck, two a moment's.
const FAILURES: u32 = 3;

/// 30 s: what a restart of S3 or the end of somebody else's full disk takes.
const FIRST_PAUSE: Duration = Duration::from_secs(30);

/// 30 s for a trial to say something of the host: a job forks and runs its first command within it, and one that takes longer is parked
/// or waits for its source, and must not keep the host from being tried by another.
const TRIAL: Duration = Duration::from_secs(30);

/// 5 min: a host that was mended is back before anybody asks.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// The health of this host. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health {
    breaker: Arc<Mutex<Breaker>>,
    /// Why no jobs are taken, for those who say so.
    reason: watch::Sender<Option<String>>,
}

/// What may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// As many jobs as there are slots.
    All,
    /// One, to try the host out.
    One,
    /// None until then, or until the health changes.
    NoneUntil(Instant),
}

/// A job that tries the host out. While it is held, and for no longer than 30 s, no other job is taken.
#[derive(Debug)]
pub struct Trial {
    health: Health,
    /// Which trial it is: it ends no other.
    since: Instant,
}

impl Health {
    /// The host failed a job before any command of its guest ran. `why` is for people.
    pub fn host_failed(&self, why: &str) {
        self.change(|breaker| breaker.host_failed(Instant::now(), why));
    }

    /// A guest's command ran here: what failed before is over.
    pub fn guest_ran(&self) {
        self.change(Breaker::guest_ran);
    }

    /// What may be taken now.
    pub fn allows(&self) -> Allowed {
        self.breaker().allows(Instant::now())
    }

    /// To be called for a job that was taken; gives something where it tries the host out.
    pub fn try_out(&self) -> Option<Trial> {
        let since = Instant::now();
        let tries = self.breaker().try_out(since);
        tries.then(|| Trial {
            health: self.clone(),
            since,
        })
    }

    /// Why no jobs are taken, and every change of that.
    pub fn reasons(&self) -> watch::Receiver<Option<String>> {
        self.reason.subscribe()
    }

    /// It is told under the lock, so that what is said last is what holds; neither the log nor a receiver asks for the lock again.
    fn change(&self, change: impl FnOnce(&mut Breaker)) {
        let mut breaker = self.breaker();
        let before = (breaker.state, breaker.reason().is_some());
        change(&mut breaker);
        if breaker.state == before.0 {
            return;
        }
        let reason = breaker.reason();
        match (before.1, &reason) {
            (false, Some(reason)) => warn!(reason, "no jobs are taken for a while"),
            (true, None) => info!("jobs are taken again: a guest's command ran"),
            (true, Some(_)) | (false, None) => {}
        }
        // Also where the words are the same: what is allowed has changed.
        self.reason.send_replace(reason);
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.health
            .change(|breaker| breaker.trial_ended(self.since));
    }
}

/// Counts failures; knows no clock.
#[derive(Debug, Default)]
struct Breaker {
    state: State,
    /// The last failure.
    why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Jobs are taken; so many have failed in a row.
    Closed { failures: u32 },
    /// None are taken until then, where one is tried.
    Open { until: Instant, pause: Duration },
    /// The pause is over, and one is tried since then.
    HalfOpen { since: Instant, pause: Duration },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Breaker {
    fn host_failed(&mut self, now: Instant, why: &str) {
        why.clone_into(&mut self.why);
        self.state = match self.state {
            State::Closed { failures } if failures + 1 < FAILURES => State::Closed {
                failures: failures + 1,
            },
            State::Closed { .. } => State::open(now, FIRST_PAUSE),
            // Of a job that was taken before.
            State::Open { until, pause } if now < until => State::Open { until, pause },
            State::Open { pause, .. } | State::HalfOpen { pause, .. } => {
                State::open(now, (pause * 2).min(LONGEST_PAUSE))
            }
        };
    }

    fn guest_ran(&mut self) {
        self.state = State::default();
    }

    fn allows(&self, now: Instant) -> Allowed {
        match self.state {
            State::Closed { .. } => Allowed::All,
            State::Open { until, .. } if now < until => Allowed::NoneUntil(until),
            State::HalfOpen { since, .. } if now < since + TRIAL => {
                Allowed::NoneUntil(since + TRIAL)
            }
            State::Open { .. } | State::HalfOpen { .. } => Allowed::One,
        }
    }

    fn try_out(&mut self, now: Instant) -> bool {
        match (self.allows(now), self.state) {
            (Allowed::One, State::Open { pause, .. } | State::HalfOpen { pause, .. }) => {
                self.state = State::HalfOpen { since: now, pause };
                true
            }
            (Allowed::All | Allowed::One | Allowed::NoneUntil(_), _) => false,
        }
    }

    /// The trial of `begun` said nothing of the host: another is tried at once, unless one is already.
    fn trial_ended(&mut self, begun: Instant) {
        match self.state {
            State::HalfOpen { since, pause } if since == begun => {
                self.state = State::Open {
                    until: since,
                    pause,
                };
            }
            State::Closed { .. } | State::Open { .. } | State::HalfOpen { .. } => {}
        }
    }

    fn reason(&self) -> Option<String> {
        match self.state {
            State::Closed { .. } => None,
            State::Open { .. } | State::HalfOpen { .. } => Some(format!(
                "{FAILURES} times in a row a job failed before a command ran, the last with: {}",
                self.why
            )),
        }
    }
}

impl State {
    fn open(now: Instant, pause: Duration) -> Self {
        Self::Open {
            until: now + pause,
            pause,
        }
    }
}

#[cfg(test)]
mod tests;
