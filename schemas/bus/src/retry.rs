//! Backoff: what failed for a moment is tried again, ever more slowly, and each time the log says so.

use std::error::Error;
use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use tracing::warn;

use crate::telemetry::Causes;

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
