//! Whether this host can run one more job: its health, and its scratch space.
//!
//! What always holds: a "no" says when to ask again, so that whoever waits for a "yes" needs no second answer, which may be another.

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::breaker::{Allowed, Health};
use crate::scratch::{GOOD_FOR, Scratch};

/// What a pull asks first.
#[derive(Debug)]
pub struct Fitness {
    health: Health,
    scratch: Scratch,
    changes: watch::Receiver<Option<String>>,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// One more job may be pulled.
    Yes,
    /// It may not, and it is worth asking again then.
    NotBefore(Instant),
}

impl Fitness {
    /// Of both.
    pub fn new(health: Health, scratch: Scratch) -> Self {
        Self {
            changes: health.reasons(),
            health,
            scratch,
        }
    }

    /// Whether one more job may be pulled beside so many pulls on their way.
    pub fn allows(&self, pulls: usize) -> Fit {
        match self.health.allows() {
            Allowed::NoneUntil(until) => Fit::NotBefore(until),
            Allowed::All if self.scratch.has_room(pulls) => Fit::Yes,
            Allowed::One if pulls == 0 && self.scratch.has_room(pulls) => Fit::Yes,
            // Nobody says that a job has emptied the disk: the next look does.
            Allowed::All | Allowed::One => Fit::NotBefore(Instant::now() + GOOD_FOR),
        }
    }

    /// Waits until the health has changed since this was waited for last. A caller that stops waiting misses nothing.
    pub async fn changed(&mut self) {
        let changed = self.changes.changed().await;
        changed.expect("this fitness holds the sender");
    }

    /// Waits until the answer may be another than a "no" until then.
    pub async fn rest(&mut self, until: Instant) {
        tokio::select! {
            () = self.changed() => {}
            () = sleep_until(until) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{advance, timeout};

    use super::*;

    fn fitness(need_bytes: u64) -> (Health, Fitness) {
        let health = Health::default();
        let scratch = Scratch::new("/".into(), need_bytes);
        (health.clone(), Fitness::new(health, scratch))
    }

    fn ask_again(fitness: &Fitness) -> Instant {
        match fitness.allows(0) {
            Fit::NotBefore(until) => until,
            Fit::Yes => panic!("it is fit"),
        }
    }

    fn paused() -> (Health, Fitness) {
        let (health, fitness) = fitness(1);
        for _ in 0..3 {
            health.host_failed("fork: no space");
        }
        (health, fitness)
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_ends_between_the_answer_and_the_rest_is_not_slept_over() {
        let (_health, mut fitness) = paused();
        // What has changed by now is seen.
        fitness.changed().await;
        let until = ask_again(&fitness);
        advance(until - Instant::now()).await;
        assert_eq!(fitness.allows(0), Fit::Yes, "meanwhile");
        let rested = timeout(Duration::from_mins(10), fitness.rest(until)).await;
        assert!(rested.is_ok(), "nothing wakes it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_disk_is_looked_at_again() {
        let (_health, mut fitness) = fitness(u64::MAX);
        let until = ask_again(&fitness);
        let rested = timeout(Duration::from_mins(10), fitness.rest(until)).await;
        assert!(rested.is_ok() && ask_again(&fitness) > until);
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_ran_ends_a_rest_before_its_time() {
        let (health, mut fitness) = paused();
        fitness.changed().await;
        let (begun, until) = (Instant::now(), ask_again(&fitness));
        health.guest_ran();
        fitness.rest(until).await;
        assert_eq!(Instant::now(), begun);
        assert_eq!(fitness.allows(0), Fit::Yes);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_is_pulled_alone() {
        let (_health, fitness) = paused();
        advance(ask_again(&fitness) - Instant::now()).await;
        assert_eq!(fitness.allows(0), Fit::Yes);
        assert_ne!(fitness.allows(1), Fit::Yes);
    }
}
