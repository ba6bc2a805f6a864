//! Signs of life: what keeps a job ours while it is worked on.
//!
//! What always holds: one heart beats for the whole attempt, so what is done one after the other is never longer silent than
//! one thing that takes as long; a sign that does not get away holds up neither the work nor its limits, and is due again at
//! once; work that goes on when the job is no longer surely ours is dropped where it stands.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

/// Between two signs of life: three fit into the 30 s after which the server gives the job to somebody else.
const EVERY: Duration = Duration::from_secs(10);

/// After a sign that was not confirmed: a server that restarts is found in time.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What signs of life keep.
pub(super) trait Keep {
    /// Until when it is surely ours; none for what nobody else can have.
    fn held_until(&self) -> Option<Instant>;

    /// Gives one sign. It may be dropped before its end.
    fn beat(&mut self) -> impl Future<Output = Beat> + Send;
}

/// What became of a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// It was confirmed.
    Kept,
    /// It was not: the server may be away.
    Unconfirmed,
    /// Somebody else may have what it should keep.
    Lost,
}

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

    /// Does the work and keeps what it needs meanwhile; none where that was lost first.
    pub(super) async fn during<T>(
        &mut self,
        work: impl Future<Output = T>,
        keep: &mut impl Keep,
    ) -> Option<T> {
        tokio::select! {
            // What is lost counts before what is done: a process that was stopped for a while finds both.
            biased;
            () = self.until_lost(keep) => None,
            done = work => Some(done),
        }
    }

    async fn until_lost(&mut self, keep: &mut impl Keep) {
        loop {
            let held_until = keep.held_until();
            let over = || held_until.is_some_and(|until| until <= Instant::now());
            if over() {
                return;
            }
            let beat = async {
                sleep_until(self.due).await;
                // A process that was stopped wakes up late.
                if over() {
                    Beat::Lost
                } else {
                    keep.beat().await
                }
            };
            let beat = match held_until {
                // It may have moved the end before it hung: that is looked at again.
                Some(until) => timeout_at(until, beat).await.unwrap_or(Beat::Unconfirmed),
                None => beat.await,
            };
            let wait = match beat {
                Beat::Kept => EVERY,
                Beat::Unconfirmed => AGAIN_AFTER,
                Beat::Lost => return,
            };
            self.due = Instant::now() + wait;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::sleep;

    use super::*;

    /// Held for 20 s after each sign that is confirmed.
    struct Held {
        begun: Instant,
        until: Option<Instant>,
        answer: Option<Beat>,
        /// After a confirmation.
        hangs: bool,
        beaten: Vec<u64>,
    }

    impl Held {
        fn answering(answer: Option<Beat>) -> Self {
            let begun = Instant::now();
            Self {
                begun,
                until: Some(begun + Duration::from_secs(20)),
                answer,
                hangs: false,
                beaten: Vec::new(),
            }
        }
    }

    impl Keep for Held {
        fn held_until(&self) -> Option<Instant> {
            self.until
        }

        async fn beat(&mut self) -> Beat {
            self.beaten.push(self.begun.elapsed().as_secs());
            let Some(answer) = self.answer else {
                return pending().await;
            };
            if answer == Beat::Kept {
                self.until = Some(Instant::now() + Duration::from_secs(20));
            }
            if self.hangs {
                return pending().await;
            }
            answer
        }
    }

    fn seconds(count: u64) -> impl Future<Output = ()> {
        sleep(Duration::from_secs(count))
    }

    #[tokio::test(start_paused = true)]
    async fn many_short_actions_are_as_alive_as_one_long_one() {
        let (mut heart, mut held) = (Heart::new(), Held::answering(Some(Beat::Kept)));
        for _ in 0..7 {
            heart.during(seconds(9), &mut held).await.unwrap();
        }
        assert_eq!(held.beaten, [10, 20, 30, 40, 50, 60]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_that_hangs_holds_nothing_up_and_is_due_again_at_once() {
        let (mut heart, mut held) = (Heart::new(), Held::answering(None));
        heart.during(seconds(15), &mut held).await.unwrap();
        heart.during(seconds(1), &mut held).await.unwrap();
        assert_eq!(held.begun.elapsed().as_secs(), 16);
        assert_eq!(held.beaten, [10, 15]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_that_was_confirmed_late_and_then_hangs_loses_nothing() {
        let (mut heart, mut held) = (Heart::new(), Held::answering(Some(Beat::Kept)));
        held.hangs = true;
        heart.during(seconds(35), &mut held).await.unwrap();
        assert_eq!(held.beaten, [10, 21, 31]);
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_dropped_20_s_after_the_last_confirmation_and_tried_until_then() {
        let (mut heart, mut held) = (Heart::new(), Held::answering(Some(Beat::Unconfirmed)));
        assert_eq!(heart.during(pending::<()>(), &mut held).await, None);
        assert_eq!(held.begun.elapsed().as_secs(), 20);
        assert_eq!(held.beaten, (10..20).collect::<Vec<_>>());
        let (mut heart, mut held) = (Heart::new(), Held::answering(None));
        assert_eq!(heart.during(pending::<()>(), &mut held).await, None);
        assert_eq!(held.begun.elapsed().as_secs(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_lost_counts_before_what_is_done() {
        let (mut heart, mut held) = (Heart::new(), Held::answering(Some(Beat::Kept)));
        // As a process that was stopped finds it.
        held.until = Some(Instant::now());
        assert_eq!(heart.during(async {}, &mut held).await, None);
        assert!(held.beaten.is_empty(), "nothing is said of what is lost");
        let (mut heart, mut held) = (Heart::new(), Held::answering(Some(Beat::Lost)));
        assert_eq!(heart.during(pending::<()>(), &mut held).await, None);
        assert_eq!(held.begun.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_else_can_have_is_never_lost() {
        let (mut heart, mut held) = (Heart::new(), Held::answering(Some(Beat::Unconfirmed)));
        held.until = None;
        assert!(heart.during(seconds(100), &mut held).await.is_some());
    }
}
