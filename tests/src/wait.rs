//! Until something is so, or a deadline has passed.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// 20 ms between two looks: shorter than anything we wait for, and it costs nothing.
pub(crate) const INTERVAL: Duration = Duration::from_millis(20);

/// Asks `probe` until it gives a value, and fails after `deadline` with a sentence that names `what`.
pub async fn until<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = probe().await? {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("{what}: not within {deadline:?}");
        }
        sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_probe_is_asked_until_it_gives_a_value() {
        let mut asked = 0;
        let probe = async || {
            asked += 1;
            Ok((asked == 3).then_some("here"))
        };
        assert_eq!(
            until("it", Duration::from_mins(1), probe).await.unwrap(),
            "here"
        );
    }

    #[tokio::test]
    async fn a_deadline_that_passes_is_an_error_that_says_for_what() {
        let error = until::<()>("the answer", Duration::ZERO, async || Ok(None))
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "the answer: not within 0ns");
    }
}
