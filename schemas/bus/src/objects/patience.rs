//! Waiting for a server that is away.

use crate::retry::{self, Failure, Policy};

use super::error::ObjectsError;

/// What waits for the server, and how long; none waits no longer than the SDK does, some seconds.
pub(super) type Patience = Option<Policy>;

/// Sends `request`, and sends it again while the server is away, for as long as the patience lasts.
pub(super) async fn patiently<T, Sent>(
    patience: Patience,
    mut request: impl FnMut() -> Sent,
) -> Result<T, ObjectsError>
where
    Sent: Future<Output = Result<T, ObjectsError>>,
{
    let Some(policy) = patience else {
        return Box::pin(request()).await;
    };
    retry::with(policy, "send a request to S3", || {
        // In a box, as the SDK's requests are large.
        let sent = Box::pin(request());
        async {
            sent.await.map_err(|error| {
                if error.is_transient() {
                    Failure::Transient(error)
                } else {
                    Failure::Permanent(error)
                }
            })
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What a request gets from a server that is away.
    fn away() -> ObjectsError {
        ObjectsError::Away {
            doing: "read a".to_owned(),
            source: "connection refused".into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_sent_again_until_the_server_is_back() {
        let begun = tokio::time::Instant::now();
        let back_later = || async move {
            let is_back = begun.elapsed() >= Duration::from_secs(30);
            if is_back { Ok(()) } else { Err(away()) }
        };
        patiently(Some(Policy::FOREVER), back_later).await.unwrap();
        assert!(begun.elapsed() < Duration::from_mins(1));
    }

    #[tokio::test]
    async fn a_patience_ends() {
        let patience = Policy {
            first_wait: Duration::from_millis(1),
            give_up_after: Some(Duration::from_millis(20)),
            ..Policy::FOREVER
        };
        let given_up = patiently(Some(patience), || std::future::ready(Err::<(), _>(away())));
        assert!(given_up.await.unwrap_err().is_transient());
    }

    #[tokio::test]
    async fn a_refusal_is_not_waited_out_and_without_patience_nothing_is() {
        let mut sent = 0;
        let missing = patiently(Some(Policy::FOREVER), || {
            sent += 1;
            let (bucket, key) = ("b".to_owned(), "k".to_owned());
            std::future::ready(Err::<(), _>(ObjectsError::NotFound { bucket, key }))
        });
        missing.await.unwrap_err();
        let no_patience = patiently(None, || std::future::ready(Err::<(), _>(away())));
        no_patience.await.unwrap_err();
        assert_eq!(sent, 1);
    }
}
