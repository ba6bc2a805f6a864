//! The longest that a VM may live, enforced where nothing of the async runtime is needed.
//!
//! ```text
//! begin ──▶ watched ──drop──▶ forgotten
//!              └────over────▶ killed
//! ```
//!
//! One thread of the process watches all lifetimes, by the monotonic clock, and only kills: no lock that it takes is held
//! across anything that can wait, and even its log lines are said by others.
//!
//! What always holds: a VM is killed at the end of its lifetime, however wedged whoever supervises it may be; a lifetime
//! whose guard is dropped kills nothing any more.

use std::collections::BTreeMap;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::kill_switch::KillSwitch;

/// What a lifetime has above the sum of its VM's own time limits: enough for whoever enforces those to do so in order, on a
/// busy host too, with a kill grace and an agent's silence. A lifetime ends only what nothing else has ended.
pub const MARGIN: Duration = Duration::from_mins(2);

/// A lifetime that is being watched; dropping it ends the watch.
#[derive(Debug)]
#[must_use = "a lifetime that is dropped is not watched"]
pub struct Lifetime {
    id: Id,
}

/// When a lifetime is over, and which of those it is.
type Id = (Instant, u64);

impl Lifetime {
    /// Has `switch` used if `limit` passes before this is dropped.
    ///
    /// # Panics
    /// If the process cannot start a thread, the first time.
    pub fn begin(switch: KillSwitch, limit: Duration) -> Self {
        let now = Instant::now();
        let over = now.checked_add(limit).unwrap_or(now + A_LIFE);
        let id = WATCH.add(over, Watched { switch, limit });
        Self { id }
    }

    /// Whether it is over: the VM has been killed, or is being killed this moment.
    pub fn is_over(&self) -> bool {
        !WATCH.lives().by_end.contains_key(&self.id)
    }
}

impl Drop for Lifetime {
    fn drop(&mut self) {
        WATCH.lives().by_end.remove(&self.id);
    }
}

/// The end of a lifetime that no clock can tell: a year from its beginning.
const A_LIFE: Duration = Duration::from_hours(365 * 24);

/// All lifetimes of the process.
#[derive(Debug, Default)]
struct Watch {
    lives: Mutex<Lives>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lives {
    by_end: BTreeMap<Id, Watched>,
    next: u64,
}

#[derive(Debug)]
struct Watched {
    switch: KillSwitch,
    limit: Duration,
}

static WATCH: LazyLock<&'static Watch> = LazyLock::new(|| {
    let watch: &'static Watch = Box::leak(Box::default());
    std::thread::Builder::new()
        .name("lifetimes".into())
        .spawn(|| watch.run())
        .expect("a process that cannot start one thread cannot start a VM either");
    watch
});

impl Watch {
    fn add(&self, over: Instant, watched: Watched) -> Id {
        let mut lives = self.lives();
        let id = (over, lives.next);
        lives.next += 1;
        lives.by_end.insert(id, watched);
        self.changed.notify_one();
        id
    }

    /// Kills what is over, for as long as the process lives.
    fn run(&self) -> ! {
        let mut lives = self.lives();
        loop {
            let Some(first) = lives.by_end.first_entry() else {
                lives = unpoisoned(self.changed.wait(lives));
                continue;
            };
            let (over, _) = *first.key();
            let left = over.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let watched = first.remove();
                drop(lives);
                watched.kill();
                lives = self.lives();
            } else {
                (lives, _) = unpoisoned(self.changed.wait_timeout(lives, left));
            }
        }
    }

    fn lives(&self) -> MutexGuard<'_, Lives> {
        unpoisoned(self.lives.lock())
    }
}

/// Nothing that holds the lock leaves a map half changed, and the killing must go on.
fn unpoisoned<T>(result: Result<T, PoisonError<T>>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

impl Watched {
    fn kill(self) {
        self.switch.kill();
        let Self { switch, limit } = self;
        let say = move || tracing::error!(vm = %switch, ?limit, "outlived its lifetime, killed");
        // A log that nobody reads any more must not keep the next VM alive. Without a thread to say it, it is done all the same.
        drop(
            std::thread::Builder::new()
                .name("lifetime's end".into())
                .spawn(say),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

    use super::*;

    /// Far above what a busy machine takes to wake a thread.
    const SOON: Duration = Duration::from_secs(20);

    /// A switch, and what tells that it was used.
    fn switch() -> (KillSwitch, Receiver<()>) {
        let (used, told) = channel();
        let kill = move || {
            let _ = used.send(());
        };
        (KillSwitch::new("a test's VM", kill), told)
    }

    #[test]
    fn what_is_over_is_killed_once_and_the_earliest_first() {
        let (killed, order) = channel();
        let begin = |name: &'static str, limit| {
            let killed = killed.clone();
            let kill = move || {
                let _ = killed.send(name);
            };
            Lifetime::begin(KillSwitch::new(name, kill), limit)
        };
        let late = begin("late", Duration::from_millis(60));
        let early = begin("early", Duration::from_millis(20));
        assert_eq!(order.recv_timeout(SOON), Ok("early"));
        assert_eq!(order.recv_timeout(SOON), Ok("late"));
        assert!(early.is_over() && late.is_over());
        drop((early, late, killed));
        assert_eq!(
            order.recv_timeout(SOON),
            Err(RecvTimeoutError::Disconnected)
        );
    }

    #[test]
    fn a_dropped_lifetime_forgets_its_switch() {
        let (switch, told) = switch();
        let lifetime = Lifetime::begin(switch, SOON);
        assert!(!lifetime.is_over());
        drop(lifetime);
        // With the last switch its sender is gone: nothing is left that could use it.
        assert_eq!(
            told.try_recv(),
            Err(std::sync::mpsc::TryRecvError::Disconnected)
        );
    }

    #[test]
    fn a_lifetime_without_an_end_is_watched_like_any_other() {
        let (switch, _told) = switch();
        let lifetime = Lifetime::begin(switch, Duration::MAX);
        assert!(!lifetime.is_over());
    }
}
