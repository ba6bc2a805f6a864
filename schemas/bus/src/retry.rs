//! Backoff: what failed for a moment is tried again, ever more slowly, and each time the log says so.

use std::error::Error;
use std::time::Duration;

use backoff::backoff::Backoff as _;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use tracing::warn;

use crate::telemetry::Causes;

/// 5 s before the second attempt at a job: long enough for what failed for a moment, as a server that was started anew.
const FIRST_DELAY: Duration = Duration::from_secs(5);

/// 5 min: a host that is away for longer is not waited for by trying often.
const LONGEST_DELAY: Duration = Duration::from_mins(5);

/// How often and how long something is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Wait after the first failure; each later one is half as long again, within a fifth at random.
    pub first_wait: Duration,
    /// Longest wait.
    pub longest_wait: Duration,
    /// Time after which the last error is returned; none waits forever.
    pub give_up_after: Option<Duration>,
}

/// Whether another try can help.
#[derive(Debug)]
pub enum Failure<E> {
    /// It can.
    Transient(E),
    /// It cannot.
    Permanent(E),
}

impl Policy {
    /// For a server that a service cannot do without: 200 ms at first, then up to 10 s, so that it is found soon after it is back.
    pub const FOREVER: Self = Self {
        first_wait: Duration::from_millis(200),
        longest_wait: Duration::from_secs(10),
        give_up_after: None,
    };

    /// The same, but for no longer than `give_up_after`.
    pub fn up_to(give_up_after: Duration) -> Self {
        Self {
            give_up_after: Some(give_up_after),
            ..Self::FOREVER
        }
    }
}

/// Runs `operation` until it succeeds, fails for good, or the policy gives up. `what` says in the log what is being tried. An attempt
/// that hangs is not cut short: `operation` brings its own limit of time.
pub async fn with<T, E, Fut>(
    policy: Policy,
    what: &str,
    mut operation: impl FnMut() -> Fut,
) -> Result<T, E>
where
    E: Error + 'static,
    Fut: Future<Output = Result<T, Failure<E>>>,
{
    let backoff = ExponentialBackoffBuilder::new()
        .with_initial_interval(policy.first_wait)
        .with_multiplier(1.5)
        .with_randomization_factor(0.2)
        .with_max_interval(policy.longest_wait)
        .with_max_elapsed_time(policy.give_up_after)
        .build();
    let attempt = || {
        let attempt = operation();
        async move { attempt.await.map_err(backoff::Error::from) }
    };
    let say = |error: E, wait: Duration| warn!(what, error = %Causes(&error), ?wait, "failed, trying again");
    backoff::future::retry_notify(backoff, attempt, say).await
}

/// How long a job waits for its next attempt after `attempts` of them failed: 5 s after the first, each time three times as long, within a
/// quarter at random so that jobs that failed together do not come back together, and never longer than 5 min.
pub fn delay_after(attempts: u32) -> Duration {
    let mut delays = delays();
    // More than these make no difference: the longest is reached before.
    for _ in 1..attempts.min(16) {
        delays.next_backoff();
    }
    let delay = delays.next_backoff().unwrap_or(LONGEST_DELAY);
    delay.min(LONGEST_DELAY)
}

fn delays() -> ExponentialBackoff {
    ExponentialBackoffBuilder::new()
        .with_initial_interval(FIRST_DELAY)
        .with_multiplier(3.0)
        .with_randomization_factor(0.25)
        .with_max_interval(LONGEST_DELAY)
        .with_max_elapsed_time(None)
        .build()
}

impl<E> From<Failure<E>> for backoff::Error<E> {
    fn from(failure: Failure<E>) -> Self {
        match failure {
            Failure::Transient(error) => Self::transient(error),
            Failure::Permanent(error) => Self::permanent(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn failure(count: u32) -> io::Error {
        io::Error::other(format!("failure {count}"))
    }

    #[test]
    fn each_attempt_at_a_job_is_waited_for_three_times_as_long_and_none_longer_than_5_min() {
        let around = |seconds: f64, attempts| {
            let delay = delay_after(attempts).as_secs_f64();
            let most = (seconds * 1.25).min(300.0);
            assert!(
                (seconds * 0.75..=most).contains(&delay),
                "{attempts}: {delay}"
            );
        };
        for (attempts, seconds) in [(0, 5.0), (1, 5.0), (2, 15.0), (3, 45.0), (9, 300.0)] {
            around(seconds, attempts);
        }
        around(300.0, u32::MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn it_tries_until_it_succeeds() {
        let mut tries = 0;
        let result = with(Policy::FOREVER, "test", || {
            tries += 1;
            let count = tries;
            async move {
                if count < 5 {
                    Err(Failure::Transient(failure(count)))
                } else {
                    Ok(count)
                }
            }
        });
        assert_eq!(result.await.unwrap(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_succeed_is_tried_once() {
        let mut tries = 0;
        let result: Result<(), _> = with(Policy::FOREVER, "test", || {
            tries += 1;
            let count = tries;
            async move { Err(Failure::Permanent(failure(count))) }
        })
        .await;
        assert_eq!(result.unwrap_err().to_string(), "failure 1");
    }
}
