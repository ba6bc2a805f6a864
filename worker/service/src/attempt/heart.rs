//! Signs of life: what tells the server that a job is being worked on.
//!
//! What always holds: one heart beats for the whole attempt, so what is done one after the other is never longer silent than
//! one thing that takes as long; a sign that does not get away holds up neither the work nor its limits, and is due again at
//! once.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Between two signs of life: three fit into the 30 s after which the server gives the job to somebody else.
const EVERY: Duration = Duration::from_secs(10);

/// Beats while something is done.
#[derive(Debug)]
pub(super) struct Heart {
    due: Instant,
}

impl Heart {
    /// One that has just beaten: the claim gives the first sign.
    pub(super) fn new() -> Self {
        Self {
            due: Instant::now() + EVERY,
        }
    }

    /// Does the work; gives signs by `beat` meanwhile.
    pub(super) async fn during<T, Sign: Future<Output = ()>>(
        &mut self,
        work: impl Future<Output = T>,
        beat: impl Fn() -> Sign,
    ) -> T {
        tokio::select! {
            done = work => done,
            never = self.beats(beat) => match never {},
        }
    }

    async fn beats<Sign: Future<Output = ()>>(&mut self, beat: impl Fn() -> Sign) -> Infallible {
        loop {
            sleep_until(self.due).await;
            beat().await;
            self.due = Instant::now() + EVERY;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_short_actions_are_as_alive_as_one_long_one() {
        let begun = Instant::now();
        let beats = RefCell::new(Vec::new());
        let mut heart = Heart::new();
        for _ in 0..7 {
            let work = sleep(Duration::from_secs(9));
            let beat = || async { beats.borrow_mut().push(begun.elapsed().as_secs()) };
            heart.during(work, beat).await;
        }
        assert_eq!(beats.into_inner(), [10, 20, 30, 40, 50, 60]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_that_hangs_holds_nothing_up_and_is_due_again_at_once() {
        let begun = Instant::now();
        let mut heart = Heart::new();
        let work = || sleep(Duration::from_secs(15));
        heart.during(work(), std::future::pending::<()>).await;
        assert_eq!(begun.elapsed().as_secs(), 15);
        let beaten = RefCell::new(None);
        let beat = || async {
            let at = begun.elapsed().as_secs();
            beaten.borrow_mut().get_or_insert(at);
        };
        heart.during(work(), beat).await;
        assert_eq!(beaten.into_inner(), Some(15));
    }
}
